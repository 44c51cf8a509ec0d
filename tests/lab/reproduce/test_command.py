"""`virtualdepth reproduce`: quick reruns through the command line, and what they leave."""

import json
import math
import os
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from tests.data.idx_files import bars, write_mnist
from tests.lab.reproduce.lp_regression.small import NEEDS_ETHANOL

from virtualdepth.cli import main
from virtualdepth.runs import UnusableError, markdown_table, text_table
from virtualdepth_lab.reproduce import EXPERIMENTS
from virtualdepth_lab.reproduce import command as reproduce
from virtualdepth_lab.reproduce.result import (
    ReproduceConfig,
    Reproduction,
    load,
    save,
    save_figures,
    tables,
)
from virtualdepth_lab.reproduce.unfinished import keeping

NEEDS_IMAGE = pytest.mark.skipif(
    not Path(os.environ.get("VIRTUALDEPTH_DATA", "."), "images/camera.png").is_file(),
    reason="needs images/camera.png under VIRTUALDEPTH_DATA",
)
KEYS = {"command", "name", "config", "versions", "published", "measured", "claims"}


@pytest.mark.parametrize("left", [b"", b"PK", b"PK\x03\x04 cut short"])
def test_a_broken_archive_is_unusable(left: bytes, tmp_path: Path) -> None:
    config = ReproduceConfig(name="norms")
    parts: dict[str, list] = {"published": [], "measured": [], "claims": []}
    save(Reproduction(name="norms", config=asdict(config), **parts), tmp_path)
    assert load(tmp_path).name == "norms"
    (tmp_path / "arrays.npz").write_bytes(left)
    with pytest.raises(UnusableError, match=r"folder: expected result\.json and arrays\.npz"):
        load(tmp_path)


@pytest.mark.parametrize("table", [text_table, markdown_table])
def test_a_part_is_a_table_of_its_own(table) -> None:
    first = [{"part": "a", "final_loss": 1}, {"part": "a", "final_loss": 2}]
    second = [{"part": "b", "y": 3}]
    found = tables([*first, *second], table)
    assert found == f"{tables(first, table)}\n\n{tables(second, table)}"
    assert "final loss" in found
    assert tables([], table) == ""


def shorten(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the longest quick reruns go the same way in fewer steps."""
    run = import_module(f"virtualdepth_lab.reproduce.{name.replace('-', '_')}.run")
    if name == "singular-values":
        rates = dict.fromkeys((1, 2, 3, 4), 1e-2)
        monkeypatch.setattr("virtualdepth_lab.reproduce.singular_values.problem.RATES", rates)
        monkeypatch.setattr(run, "QUICK_PLAN", dict.fromkeys((1, 2, 3, 4), (0.025, 200)))
    elif name == "matrix-completion":
        for loop in ("explicit_loop", "single_loop"):
            monkeypatch.setattr(run, loop, partial(getattr(run, loop), max_steps=50))
    elif name == "norms":
        monkeypatch.setattr(run, "MOST", 300)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_the_same_plan(name: str) -> None:
    door = import_module(f"virtualdepth_lab.reproduce.{name.replace('-', '_')}")
    assert door.__all__ == ["TITLE", "draw", "run"]
    files = {path.name for path in Path(door.__file__).parent.glob("*.py")}
    assert files >= {"problem.py", "run.py", "claims.py", "figures.py"}


NEEDS_DATA = {
    "convergence": NEEDS_ETHANOL,
    "image-inpainting": NEEDS_IMAGE,
    "lp-regression": NEEDS_ETHANOL,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_DATA.get(name, ())) for name in EXPERIMENTS]
)
def test_quick_rerun(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []

    def look_and_save(result: Reproduction, folder: Path) -> None:
        kept.extend((folder / "unfinished.jsonl").read_text().splitlines()[1:])
        save(result, folder)

    monkeypatch.setattr(reproduce, "save", look_and_save)
    shorten(name, monkeypatch)
    arguments = ["reproduce", name, "--quick", "--seeds", "1", "--output", str(tmp_path)]
    if name == "mnist":
        arguments += ["--data-dir", str(write_mnist(tmp_path / "data", *bars()))]
    status = main(arguments)
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    assert set(result) >= KEYS
    assert [json.loads(line) for line in kept] == result["measured"]
    assert not (tmp_path / "unfinished.jsonl").exists()
    assert result["name"] == name
    assert status == (0 if all(claim["held"] for claim in result["claims"]) else 1)
    for claim in result["claims"]:
        assert claim["claim"] in printed
    first = (tmp_path / "report.md").read_text()
    assert (tmp_path / "figure-1.png").stat().st_size > 10_000
    (tmp_path / "report.md").unlink()
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.md").read_text() == first


@pytest.mark.parametrize("end", [KeyboardInterrupt, RuntimeError, OSError])
def test_what_is_finished_is_kept(
    end: type[BaseException],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third part of the experiment fails before it yields a row."""
    arguments = ["reproduce", "no-regulariser", "--quick", "--output", str(tmp_path)]
    unfinished = tmp_path / "unfinished.jsonl"

    def stop(seed: int, depth: float) -> list:
        raise end

    with monkeypatch.context() as patch:
        # of the package, `run` is the function
        module = import_module("virtualdepth_lab.reproduce.no_regulariser.run")
        patch.setattr(module, "away_from_zero", stop)
        if end is RuntimeError:
            with pytest.raises(RuntimeError):
                main(arguments)
        elif end is OSError:
            with pytest.raises(SystemExit, match="2"):
                main(arguments)
        else:
            assert main(arguments) == 130
    said = capsys.readouterr().err.splitlines()[0]
    head, *rows = map(json.loads, unfinished.read_text().splitlines())
    assert said == f"rows finished by then: {len(rows)}, in {unfinished}"
    assert head["command"] == "reproduce"
    assert (head["config"]["name"], head["config"]["quick"]) == ("no-regulariser", True)
    assert "torch" in head["versions"]
    assert main(arguments) == 0
    measured = json.loads((tmp_path / "result.json").read_text())["measured"]
    assert rows == measured[: len(rows)]
    assert 0 < len(rows) < len(measured)
    assert not unfinished.exists()


def test_a_run_without_a_row_leaves_those_of_an_earlier_one(tmp_path: Path) -> None:
    config = ReproduceConfig(name="norms")

    def fail_after(*rows: dict[str, float]) -> None:
        with keeping(config, tmp_path) as keep:
            assert [keep(row) for row in rows] == list(rows)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after({"norm": math.inf})
    before = (tmp_path / "unfinished.jsonl").read_bytes()
    assert before.endswith(b'{"norm": "inf"}\n')
    with pytest.raises(RuntimeError):
        fail_after()
    assert (tmp_path / "unfinished.jsonl").read_bytes() == before
    with keeping(config, tmp_path) as keep:
        keep({"norm": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == [".virtualdepth-run"]


def test_rows_of_another_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "unfinished.jsonl").write_text("mine")
    with (
        pytest.raises(UnusableError, match=r"another origin .* with unfinished\.jsonl"),
        keeping(ReproduceConfig(name="norms"), tmp_path) as keep,
    ):
        keep({"norm": 1.0})
    assert (tmp_path / "unfinished.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "seeds", "said"),
    [
        ("norms", (0, 1, 2), ""),
        ("norms --quick", (0,), ""),
        ("norms --quick --seeds 4,5", (4, 5), ""),
        ("norms --seeds 4,5", (4, 5), ""),
        ("singular-values", (0,), ""),
        ("image-inpainting --quick", (0,), ""),
        ("singular-values --seeds 4", (4,), ""),
        ("singular-values --seeds 4,5", (4,),
         "singular-values uses one seed: 4; the others are left out\n"),
    ],
)  # fmt: skip
def test_all_seeds_are_run_or_said_to_be_left_out(
    words: str,
    seeds: tuple[int, ...],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[ReproduceConfig] = []

    def remember(config: ReproduceConfig, output: str | None) -> int:
        asked.append(config)
        return 0

    monkeypatch.setattr(reproduce, "reproduce", remember)
    assert main(["reproduce", *words.split()]) == 0
    assert asked[0].seeds == seeds
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "name: expected one of convergence, image-inpainting"),
        (["norms", "--seeds", "x"], "seeds: expected integers"),
        (
            ["norms", "--seeds", "-1"],
            "seeds: expected different integers >= 0 and < 2^32 but got -1",
        ),
        (["norms", "--seeds", "3,1,3"], "different integers >= 0 and < 2^32 but got 3,1,3"),
        (["norms", "--seeds", str(2**64)], "different integers >= 0 and < 2^32 but got 1844"),
        (["image-inpainting", "--quick", "--data-dir", "/nowhere"], "data_dir: expected"),
        (["lp-regression", "--quick", "--data-dir", "/nowhere"], "data_dir: expected"),
        (["mnist", "--quick", "--data-dir", "/nowhere"], "data_dir: expected"),
    ],
)
def test_unusable(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())  # not even a folder for what did not run


def test_no_figure_of_an_earlier_run_stays(tmp_path: Path) -> None:
    save_figures({"one": Figure(), "two": Figure()}, tmp_path)
    (tmp_path / "figure-2-mine.png").touch()
    assert save_figures({"one": Figure()}, tmp_path) == ["![one](figure-1.png)\n\none"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "figure-1.png", "figure-2-mine.png", ".virtualdepth-run"
    }  # fmt: skip


def test_a_figure_of_another_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "figure-2.png").write_text("mine")
    figures = {"one": Figure(), "two": Figure()}
    for _ in range(2):
        assert save_figures(figures, tmp_path)[1] == "![two](figure-2-2.png)\n\ntwo"
    assert (tmp_path / "figure-2.png").read_text() == "mine"
    save_figures({"one": Figure()}, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["figure-1.png", "figure-2.png"]


@pytest.mark.parametrize(
    ("key", "value"), [("name", "../norms"), ("claims", [{"claim": 3}]), ("measured", [3]),
                       ("versions", None)],
)  # fmt: skip
def test_a_result_that_is_half_valid_is_refused(
    key: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts: dict[str, list] = {"published": [], "measured": [], "claims": []}
    save(Reproduction(name="norms", config={}, **parts), tmp_path)
    content = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path)])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "expected" in error


def test_a_folder_that_was_named_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["reproduce", "mnist", "--data-dir", "/nowhere", "--output", str(tmp_path)])
    assert "data_dir: expected" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
