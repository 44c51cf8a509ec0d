"""`virtualdepth verify`: what it prints and leaves."""

import json
from pathlib import Path

import pytest
from tests.cli.process import FILES, SMALL, SYNTHETIC, call


@pytest.mark.parametrize(
    ("more", "status", "word"),
    [
        ([], 0, "passed"),
        (["--depth", "4"], 0, "passed"),
        (["--optimizer-depth", "1"], 1, "failed"),
        (["--structure", "rows", "--imbalance", "0.5"], 0, "passed"),
        (["--imbalance", "0.5", "--optimizer-imbalance", "0.1"], 1, "failed"),
        (["--optimizer-structure", "diagonal"], 1, "failed"),
    ],
)
def test_verify(
    more: list[str], status: int, word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(*SMALL, *more, "--output", "run") == status
    out, err = capfd.readouterr()
    assert err == ""  # no terminal, no progress bar
    lines = out.splitlines()
    assert lines[0] == "synthetic: 200 samples, 12 features of rank 12, 4 targets"
    assert lines[-1] == f"{word}; files in run"
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["passed"] is (status == 0)
    (row,) = [line.split() for line in lines if line.strip().startswith("0.05 ")]
    assert row[:3] == ["0.05", "20", f"{found['rows'][1]['gap']:.2e}"]


def test_divergence_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SYNTHETIC, "--lrs", "5,0.5", "--time", "50", "--output", "run") == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "at learning rate 5 training diverged: in step " in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["rows"][0]["gap"] is None


def test_every_option_arrives(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text('"a,b",y,z\n' + "1,2,2\n3,5,1\n4,4,1\n6,5,3\n")
    given = (
        "--data own.csv --data-dir there --targets z,y --depth 2 --optimizer-depth inf "
        "--structure columns --imbalance 0.5 --optimizer-structure rows --optimizer-imbalance 0 "
        "--precondition-frequency 4 "
        "--lrs 0.1,0.2 --time 0.5 --init-scale 0.25 --seed 7 --dtype float32 --output run"
    )
    call("verify", *given.split())
    config = json.loads((tmp_path / "run" / "result.json").read_text())["config"]
    assert config == {
        "data": "own.csv",
        "data_dir": "there",
        "targets": ["z", "y"],
        "depth": 2,
        "structure": "columns",
        "imbalance": 0.5,
        "optimizer_depth": "inf",
        "optimizer_structure": "rows",
        "optimizer_imbalance": 0,
        "precondition_frequency": 4,
        "lrs": [0.2, 0.1],
        "time": 0.5,
        "init_scale": 0.25,
        "seed": 7,
        "dtype": "float32",
    }
    assert call("verify", "--data", "own.csv", "--targets", '"a,b",z', "--time", "0.2") in (0, 1)


def test_report_makes_the_same_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(*SMALL, "--optimizer-depth", "1", "--output", "run") == 1
    table = capfd.readouterr().out.splitlines()[2:-1]
    made = {name: (tmp_path / "run" / name).read_bytes() for name in FILES}
    for name in FILES - {"result.json", "curves.csv", ".virtualdepth-run"}:
        (tmp_path / "run" / name).unlink()
    assert call("report", "run") == 0
    assert {name: (tmp_path / "run" / name).read_bytes() for name in FILES} == made
    assert capfd.readouterr().out.splitlines()[:-1] == table


def test_columns_that_are_left_out_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.csv").write_text(
        "a,same,tiny|,twice,y\n" + "1,4,1e-20,2,3\n2,4,3e-20,4,1\n4,4,2e-20,8,5\n"
    )
    words = "verify --data own.csv --targets y --time 0.2 --lrs 0.1,0.05 --output run"
    assert call(*words.split()) in (0, 1)
    notes = [
        "left out, since they are constant: 'same'",
        "left out, since they vary too little beside the others: 'tiny|'; choose units in which "
        "they are comparable",
        "features that depend linearly on others, and add no direction to them: 1",
    ]
    assert capsys.readouterr().out.splitlines()[1:4] == notes
    assert json.loads((tmp_path / "run" / "result.json").read_text())["notes"] == notes
    text = (tmp_path / "run" / "report.md").read_text()
    assert "- left out, since they vary too little beside the others: 'tiny\\|'; choose" in text
    assert call("report", "run") == 0
    assert (tmp_path / "run" / "report.md").read_text() == text
