"""The files that the check leaves in its folder, and reading them back.

| file | what |
|---|---|
| result.json | arguments, versions, one row for each learning rate, whether it passed |
| curves.csv | losses, gap and balancedness after every step |
| report.md | both in words and tables |
| loss.png, gap.png | the figures |
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from virtualdepth.runs import (
    REPORT,
    RESULT,
    reading_result,
    remove_own,
    replacing,
    write_result,
)
from virtualdepth.verify._config import VerifyConfig, exact
from virtualdepth.verify._results import Curve, Row, VerifyResult

CURVES = "curves.csv"
LOSS_FIGURE, GAP_FIGURE = "loss.png", "gap.png"
OWN = (RESULT, CURVES, REPORT, LOSS_FIGURE, GAP_FIGURE)

# what the runs of older versions were, which do not name it
_BEFORE = {
    "precondition_frequency": 1,
    "structure": "matrix",
    "imbalance": 0.0,
    "optimizer_structure": "matrix",
    "optimizer_imbalance": 0.0,
}

_COLUMNS = ("loss_single", "loss_deep", "gap", "balancedness")


def save(result: VerifyResult, folder: Path) -> None:
    """Write result.json and curves.csv in place of all that an earlier run left."""
    with replacing(folder, CURVES) as path:
        _write_curves(result.curves, path)
        write_result(folder, to_json(result))
    remove_own(folder, (REPORT, LOSS_FIGURE, GAP_FIGURE))  # of an earlier run: they come next


def _write_curves(curves: Iterable[Curve], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["lr", "step", "time", *_COLUMNS])
        for curve in curves:
            columns = (getattr(curve, name) for name in _COLUMNS)
            for step, state in enumerate(zip(curve.time, *columns, strict=True)):
                writer.writerow([curve.lr, step, *state])


def to_json(result: VerifyResult) -> dict[str, Any]:
    """Return the content of result.json."""
    return {
        "command": "verify",
        "config": result.config,
        "versions": result.versions,
        "rows": [asdict(row) for row in result.rows],
        "order": result.order,
        "passed": result.passed,
        "parameters": result.parameters,
        **({"notes": result.notes} if result.notes else {}),
    }


def load(folder: Path) -> VerifyResult:
    """Read back what :func:`save` wrote."""
    with reading_result(folder, "verify", CURVES) as found:
        rows = [_read_row(row) for row in found["rows"]]
        return VerifyResult(
            config=_read_config(found["config"]),
            versions={str(name): str(text) for name, text in found["versions"].items()},
            rows=rows,
            curves=list(_read_curves(folder / CURVES, rows)),
            parameters={name: int(found["parameters"][name]) for name in ("single", "deep")},
            notes=[str(note) for note in found.get("notes", [])],
        )


def _read_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments as those of the command line are."""
    given = {**_BEFORE, **given}
    found = {field.name: given[field.name] for field in fields(VerifyConfig)}
    checked = found | {name: tuple(found[name]) for name in ("lrs", "targets")}
    checked["optimizer_depth"] = float(found["optimizer_depth"])
    if not isinstance(found["data"], str):
        raise TypeError(f"data {found['data']!r}")
    VerifyConfig(**checked)
    return found


def _read_row(given: Mapping[str, Any]) -> Row:
    for name, value in given.items():
        if not isinstance(value, int | float | None):
            raise TypeError(f"{name} {value!r}")
    return Row(**given)


def _read_curves(path: Path, rows: list[Row]) -> Iterator[Curve]:
    with path.open(encoding="utf-8", newline="") as file:
        states = list(csv.DictReader(file))
    for row in rows:
        mine = [state for state in states if float(state["lr"]) == row.lr]
        if row.gap is not None and len(mine) != row.steps + 1:
            raise ValueError(
                f"{len(mine)} of {row.steps + 1} states at learning rate {exact(row.lr)}"
            )
        columns = {name: [float(state[name]) for state in mine] for name in _COLUMNS}
        yield Curve(lr=row.lr, **columns)
