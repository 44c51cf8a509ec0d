"""What the benchmarks leave in their folder."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.common import arguments, parse, report


def test_files_of_another_origin_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(tmp_path)])
    (tmp_path / "speed.png").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        parse(arguments(""), "speed.json", "speed.png")
    assert "of another origin" in capsys.readouterr().err
    assert (tmp_path / "speed.png").read_text() == "mine"


def test_a_run_replaces_what_an_earlier_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(tmp_path)])
    for loss in (0.5, 0.25):
        options = parse(arguments(""), "speed.json")
        report("speed", options.output, [{"final_loss": loss}])
        assert "final loss" in capsys.readouterr().out
    assert json.loads((tmp_path / "speed.json").read_text())["rows"] == [{"final_loss": 0.25}]
