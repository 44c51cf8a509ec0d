"""`virtualdepth reproduce`: quick reruns through the command line, and what they leave."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from tests.data.idx_files import bars, write_mnist
from tests.lab.reproduce.lp_regression.small import NEEDS_ETHANOL

from virtualdepth.cli import main
from virtualdepth.runs import UnusableError, markdown_table, plain, text_table
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
from virtualdepth_lab.reproduce.rows import take_arrays
from virtualdepth_lab.reproduce.unfinished import decode, keeping

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
    rows = [row for line in kept for row in decode(line)["rows"]]
    take_arrays(rows)
    assert plain(rows)[-len(result["measured"]) :] == result["measured"]  # mnist has rates before
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
def test_an_interrupted_run_goes_on(
    end: type[BaseException],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third part of the experiment fails; the next run computes it and what follows."""
    # of the package, `run` is the function
    module = import_module("virtualdepth_lab.reproduce.no_regulariser.run")
    cases = ("constant_gradient", "near_zero", "away_from_zero", "three_outputs")
    ran: list[str] = []

    def counted(name: str) -> Callable[[int, float], list[dict]]:
        real = getattr(module, name)

        def case(seed: int, depth: float) -> list[dict]:
            ran.append(name)
            return list(real(seed, depth))

        case.__name__ = name
        return case

    for name in cases:
        monkeypatch.setattr(module, name, counted(name))
    whole, output = tmp_path / "whole", tmp_path / "run"
    assert main(["reproduce", "no-regulariser", "--quick", "--output", str(whole)]) == 0
    expected = json.loads((whole / "result.json").read_text())
    arguments = ["reproduce", "no-regulariser", "--quick", "--output", str(output)]
    unfinished = output / "unfinished.jsonl"

    def away_from_zero(seed: int, depth: float) -> list:
        raise end

    with monkeypatch.context() as patch:
        patch.setattr(module, "away_from_zero", away_from_zero)
        if end is RuntimeError:
            with pytest.raises(RuntimeError):
                main(arguments)
        elif end is OSError:
            with pytest.raises(SystemExit, match="2"):
                main(arguments)
        else:
            assert main(arguments) == 130
    said = capsys.readouterr().err.splitlines()[0]
    assert said == (
        f"parts finished by then: 2 of 4, in {unfinished}; the same command with "
        f"--output {output} goes on after them"
    )
    head, *parts = map(json.loads, unfinished.read_text().splitlines())
    assert head["command"] == "reproduce"
    assert (head["config"]["name"], head["config"]["quick"]) == ("no-regulariser", True)
    assert "torch" in head["versions"]
    assert [part["part"] for part in parts] == ["constant gradient, seed 0", "near zero, seed 0"]
    with unfinished.open("a") as file:
        file.write('{"part": "away from zero, seed 0", "ro')  # torn, as by a killed process
    ran.clear()
    assert main(arguments) == 0
    assert capsys.readouterr().err == f"goes on after the parts of {unfinished}: 2\n"
    assert set(ran) == {"away_from_zero", "three_outputs"}
    found = json.loads((output / "result.json").read_text())
    assert found["measured"] == expected["measured"]
    assert found["claims"] == expected["claims"]
    assert not unfinished.exists()


class Bar:
    """What a bar of tqdm is asked for."""

    total: float | None = None
    n = 0.0

    def set_description(self, desc: str | None = None) -> None: ...

    def update(self, n: float | None = 1) -> None:
        self.n += n or 0

    def refresh(self) -> None: ...


def test_parts_are_kept_exactly_and_counted(tmp_path: Path) -> None:
    config, bar = ReproduceConfig(name="norms"), Bar()
    row = {"depth": math.inf, "gap": math.nan, "share": 0.1, "arrays": {"x": np.float32([1, 2])}}
    said: list[str] = []

    def fail() -> list[dict]:
        raise RuntimeError

    def run(second: Callable[[], list[dict]], bar: Bar) -> list[dict]:
        with keeping(config, tmp_path, bar, said.append) as keep:
            first = keep({"one": lambda: [dict(row)]}, later=1)
            return first + keep({"two": second})

    with pytest.raises(RuntimeError):
        run(fail, bar)
    assert (bar.n, bar.total) == (1, 2)
    bar = Bar()
    found = run(lambda: [{"depth": 2}], bar)
    assert (bar.n, bar.total) == (2, 2)
    assert found[1] == {"depth": 2}
    assert found[0]["depth"] == math.inf
    assert math.isnan(found[0]["gap"])
    assert found[0]["share"] == 0.1
    array = found[0]["arrays"]["x"]
    assert array.dtype == np.float32
    assert array.tolist() == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == [".virtualdepth-run"]
    assert said == [
        f"parts finished by then: 1 of 2, in {tmp_path / 'unfinished.jsonl'}; the same command "
        f"with --output {tmp_path} goes on after them",
        f"goes on after the parts of {tmp_path / 'unfinished.jsonl'}: 1",
    ]


def test_a_run_with_other_arguments_begins_anew(tmp_path: Path) -> None:
    said: list[str] = []

    def fail() -> list[dict]:
        raise RuntimeError

    def run(seeds: tuple[int, ...], *parts: Callable[[], list[dict]]) -> list[dict]:
        config = ReproduceConfig(name="norms", seeds=seeds)
        with keeping(config, tmp_path, Bar(), said.append) as keep:
            return keep({str(number): part for number, part in enumerate(parts)})

    with pytest.raises(RuntimeError):
        run((0,), lambda: [{"norm": 1}], fail)
    before = (tmp_path / "unfinished.jsonl").read_bytes()
    with pytest.raises(RuntimeError):
        run((1,), fail)  # which finishes no part, and so leaves those that are there
    assert (tmp_path / "unfinished.jsonl").read_bytes() == before
    assert said[1:] == [
        f"begins anew: {tmp_path / 'unfinished.jsonl'} is of a run with other arguments or "
        "versions",
        "parts finished by then: 0 of 1; the same command begins anew",
    ]
    assert run((1,), lambda: [{"norm": 2}]) == [{"norm": 2}]
    assert [path.name for path in tmp_path.iterdir()] == [".virtualdepth-run"]


def test_rows_of_another_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "unfinished.jsonl").write_text("mine")
    with (
        pytest.raises(UnusableError, match=r"another origin .* with unfinished\.jsonl"),
        keeping(ReproduceConfig(name="norms"), tmp_path, Bar(), str) as keep,
    ):
        keep({"one": lambda: [{"norm": 1.0}]})
    assert (tmp_path / "unfinished.jsonl").read_text() == "mine"


def test_without_a_name_the_experiments_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()[: len(EXPERIMENTS)]
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    for line, listed in zip(lines, EXPERIMENTS.values(), strict=True):
        assert listed.duration in line
        assert listed.line in line
        assert listed.data in line
        assert len(line) <= 120
    assert list(tmp_path.iterdir()) == []


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
        (["nonsense"], "name: expected one of connectivity, convergence"),
        (["--quick"], "name: expected one of connectivity, convergence"),
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
