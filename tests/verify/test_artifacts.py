"""The files: what is in them, that they can be read back, and what they may replace."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from virtualdepth.runs import UnusableError, claim_folder
from virtualdepth.runs._owned import MARK
from virtualdepth.verify._artifacts import OWN, load, save
from virtualdepth.verify._report import write_report
from virtualdepth.verify._results import VerifyResult

NUMBER = (int, float)
OR_NULL = (int, float, type(None))

# result.json as other people's scripts read it: every key, and the types of its value
SCHEMA = {
    "command": str,
    "config": {
        "data": str,
        "data_dir": (str, type(None)),
        "targets": list,
        "depth": int,
        "structure": str,
        "imbalance": NUMBER,
        "optimizer_depth": (int, float, str),
        "optimizer_structure": str,
        "optimizer_imbalance": NUMBER,
        "precondition_frequency": int,
        "lrs": list,
        "time": NUMBER,
        "init_scale": NUMBER,
        "seed": int,
        "dtype": str,
    },
    "versions": dict,
    "rows": list,
    "order": OR_NULL,
    "passed": (bool, type(None)),
    "parameters": {"single": int, "deep": int},
}
ROW = {
    "lr": NUMBER,
    "steps": int,
    "gap": OR_NULL,
    "loss_single": OR_NULL,
    "loss_deep": OR_NULL,
    "seconds": NUMBER,
}


def matches(value: Any, schema: Any) -> bool:
    if not isinstance(schema, dict):
        return isinstance(value, schema)
    return set(value) == set(schema) and all(matches(value[key], schema[key]) for key in schema)


def refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def test_result_json(outcome: VerifyResult, tmp_path: Path) -> None:
    save(outcome, tmp_path)
    text = (tmp_path / "result.json").read_text(encoding="utf-8")
    found = json.loads(text, parse_constant=refuse)  # NaN and Infinity are no JSON
    assert matches(found, SCHEMA)
    assert all(matches(row, ROW) for row in found["rows"])
    assert found["command"] == "verify"
    assert found["order"] == outcome.order
    assert found["passed"] is outcome.passed
    assert [row["lr"] for row in found["rows"]] == found["config"]["lrs"][: len(outcome.rows)]


def test_result_json_of_infinite_depth(failed: VerifyResult, tmp_path: Path) -> None:
    save(failed, tmp_path)
    assert json.loads((tmp_path / "result.json").read_text())["config"]["optimizer_depth"] == "inf"


def test_result_json_of_divergence(diverged: VerifyResult, tmp_path: Path) -> None:
    save(diverged, tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    assert [found["rows"][0][key] for key in ("gap", "loss_single", "loss_deep")] == [None] * 3
    assert found["rows"][1]["gap"] > 0
    assert (found["order"], found["passed"]) == (None, False)


def test_curves_csv(passed: VerifyResult, tmp_path: Path) -> None:
    save(passed, tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        header, *states = csv.reader(file)
    assert header == ["lr", "step", "time", "loss_single", "loss_deep", "gap", "balancedness"]
    assert len(states) == 11 + 21 + 41
    assert [float(cell) for cell in states[11]] == pytest.approx(
        [0.05, 0, 0, passed.curves[1].loss_single[0], passed.curves[1].loss_deep[0], 0, 0],
        abs=1e-14,
    )
    assert {float(state[0]) for state in states} == {0.1, 0.05, 0.025}
    assert all(float(lr) * int(step) == float(time) for lr, step, time, *_ in states)


def test_round_trip(outcome: VerifyResult, tmp_path: Path) -> None:
    save(outcome, tmp_path)
    again = load(tmp_path)
    assert again == outcome
    assert (again.order, again.passed, again.failures) == (
        outcome.order,
        outcome.passed,
        outcome.failures,
    )


def test_a_result_of_before_structures(passed: VerifyResult, tmp_path: Path) -> None:
    save(passed, tmp_path)
    found = json.loads((tmp_path / "result.json").read_text())
    names = ("structure", "imbalance", "optimizer_structure", "optimizer_imbalance")
    for name in (*names, "precondition_frequency"):
        del found["config"][name]
    (tmp_path / "result.json").write_text(json.dumps(found))
    assert load(tmp_path) == passed


def test_a_second_run_replaces_the_first(
    passed: VerifyResult, unstarted: VerifyResult, tmp_path: Path
) -> None:
    with claim_folder(tmp_path / "run", "verify", OWN) as folder:
        save(passed, folder)
        write_report(passed, folder)
    (folder / "notes.txt").write_text("mine")
    assert {path.name for path in folder.iterdir()} == {*OWN, MARK, "notes.txt"}
    with claim_folder(folder, "verify", OWN):
        assert load(folder) == passed  # nothing goes before there is something in its place
        save(unstarted, folder)
        write_report(unstarted, folder)
    assert load(folder) == unstarted
    names = {path.name for path in folder.iterdir()}
    assert names == {"result.json", "curves.csv", "report.md", MARK, "notes.txt"}


def test_a_run_that_cannot_be_written_leaves_the_one_before(
    passed: VerifyResult, unstarted: VerifyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(passed, tmp_path)
    write_report(passed, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("virtualdepth.verify._artifacts.write_result", full)
    with pytest.raises(OSError, match="No space"):
        save(unstarted, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(UnusableError, match=r"^folder: expected result.json and curves.csv"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("result.json", "{"),
        ("result.json", "[]"),
        ("result.json", "{}"),
        ("result.json", '{"command": "reproduce", "rows": [{"depth": 3}]}'),
        ("result.json", '{"command": "verify", "config": {}, "rows": []}'),
        ("result.json", ("time", "soon")),
        ("result.json", ("depth", "../3")),
        ("result.json", ("data", 3)),
        ("result.json", ("lrs", "0.1")),
        ("result.json", ("structure", "toeplitz")),
        ("result.json", ("imbalance", -1)),
        ("curves.csv", ""),
        ("curves.csv", "lr,step,time,loss_single,loss_deep,gap,balancedness\n0.1,0,0,x,1,0,0\n"),
        ("curves.csv", "lr,step\n0.1,0\n"),
    ],
)
def test_half_a_result_is_refused(
    name: str, text: str | tuple[str, object], passed: VerifyResult, tmp_path: Path
) -> None:
    save(passed, tmp_path)
    if isinstance(text, tuple):
        found = json.loads((tmp_path / name).read_text())
        found["config"] |= dict([text])
        text = json.dumps(found)
    (tmp_path / name).write_text(text)
    with pytest.raises(UnusableError, match=r"^folder: expected result.json and curves.csv") as e:
        load(tmp_path)
    assert "\n" not in str(e.value)
