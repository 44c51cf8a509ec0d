"""The files that the check leaves in its folder, and reading them back.

| file | what |
|---|---|
| result.json | arguments, versions, one row for each learning rate, whether it passed |
| curves.csv | losses, gap and balancedness after every step |
| report.md | both in words and tables |
| loss.png, gap.png | the figures |
"""

import csv
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from virtualdepth.runs import REPORT, RESULT, reading_result, write_result
from virtualdepth.verify._config import VerifyConfig
from virtualdepth.verify._results import Curve, Row, VerifyResult

CURVES = "curves.csv"
LOSS_FIGURE, GAP_FIGURE = "loss.png", "gap.png"
OWN = (RESULT, CURVES, REPORT, LOSS_FIGURE, GAP_FIGURE)

_COLUMNS = ("loss_single", "loss_deep", "gap", "balancedness")


def save(result: VerifyResult, folder: Path) -> None:
    """Write result.json and curves.csv in place of all that an earlier run left."""
    for name in OWN:
        (folder / name).unlink(missing_ok=True)
    write_result(folder, to_json(result))
    with (folder / CURVES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["lr", "step", "time", *_COLUMNS])
        for curve in result.curves:
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
    }


def load(folder: Path) -> VerifyResult:
    """Read back what :func:`save` wrote."""
    with reading_result(folder, "verify", CURVES) as found:
        rows = [Row(**row) for row in found["rows"]]
        return VerifyResult(
            config={field.name: found["config"][field.name] for field in fields(VerifyConfig)},
            versions=found["versions"],
            rows=rows,
            curves=list(_read_curves(folder / CURVES, rows)),
            parameters=found["parameters"],
        )


def _read_curves(path: Path, rows: list[Row]) -> Iterator[Curve]:
    with path.open(encoding="utf-8", newline="") as file:
        states = list(csv.DictReader(file))
    for row in rows:
        mine = [state for state in states if float(state["lr"]) == row.lr]
        if not mine or (row.gap is not None and len(mine) != row.steps + 1):
            raise ValueError(f"{len(mine)} of {row.steps + 1} states at learning rate {row.lr:g}")
        columns = {name: [float(state[name]) for state in mine] for name in _COLUMNS}
        yield Curve(lr=row.lr, **columns)
