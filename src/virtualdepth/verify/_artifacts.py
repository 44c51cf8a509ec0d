"""The files that a run of the check leaves in its folder, and reading them back.

| file | what |
|---|---|
| result.json | arguments, versions, one row per learning rate, the verdict |
| curves.csv | losses, gap and balancedness at every step |
| report.md | both in words and tables |
| loss.png, gap.png | the figures |
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from virtualdepth.runs import UnusableError
from virtualdepth.verify._config import VerifyConfig
from virtualdepth.verify._results import Curve, Row, VerifyResult

RESULT, CURVES, REPORT = "result.json", "curves.csv", "report.md"
LOSS_FIGURE, GAP_FIGURE = "loss.png", "gap.png"
OWN = (RESULT, CURVES, REPORT, LOSS_FIGURE, GAP_FIGURE)

_COLUMNS = ("loss_single", "loss_deep", "gap", "balancedness")


def claim_folder(output: str | None, command: str) -> Path:
    """Make the folder that a run writes into, or take the one of an earlier run.

    Files of ours in it stay until :func:`save` replaces them all; other files stay for good.

    Args:
        output: the folder; None: a new one, runs/<command>/<time>.
        command: "verify".

    Returns:
        The folder, which exists.

    Raises:
        UnusableError: if it cannot be written to, or holds files with our names that no run of
            this command left.
    """
    folder = _new_folder(command) if output is None else Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".virtualdepth"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UnusableError(
            "output", f"expected a folder to write to but got {folder}: {error.strerror}"
        ) from error
    taken = [name for name in OWN if (folder / name).exists()]
    if taken and command_of(folder) != command:
        raise UnusableError(
            "output",
            f"expected a new folder or one that an earlier run of {command} left but got {folder} "
            f"with {', '.join(taken)} of another origin; they would be overwritten",
        )
    return folder


def _new_folder(command: str) -> Path:
    folder = Path("runs", command, f"{datetime.now():%Y-%m-%d_%H-%M-%S}")
    number = 2
    while folder.exists():
        folder = folder.with_name(f"{folder.name.split('.')[0]}.{number}")
        number += 1
    return folder


def command_of(folder: Path) -> object:
    """Tell which command left its result in a folder.

    Args:
        folder: any.

    Returns:
        "verify" or another command; None if there is no result.
    """
    try:
        return json.loads((folder / RESULT).read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(result: VerifyResult, folder: Path) -> None:
    """Write result.json and curves.csv in place of all that an earlier run left.

    Args:
        result: what was found.
        folder: where, from :func:`claim_folder`.
    """
    for name in OWN:
        (folder / name).unlink(missing_ok=True)
    text = json.dumps(to_json(result), indent=2, allow_nan=False)
    (folder / RESULT).write_text(text + "\n", encoding="utf-8")
    with (folder / CURVES).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["lr", "step", "time", *_COLUMNS])
        for curve in result.curves:
            columns = (getattr(curve, name) for name in _COLUMNS)
            for step, state in enumerate(zip(curve.time, *columns, strict=True)):
                writer.writerow([curve.lr, step, *state])


def to_json(result: VerifyResult) -> dict[str, Any]:
    """Lay the result out as result.json has it.

    Args:
        result: what was found.

    Returns:
        Plain values; what is undefined is None.
    """
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
    """Read back what :func:`save` wrote.

    Args:
        folder: where.

    Returns:
        The same result.

    Raises:
        UnusableError: if there is none, or it is not whole.
    """
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        rows = [Row(**row) for row in found["rows"]]
        return VerifyResult(
            config={field.name: found["config"][field.name] for field in fields(VerifyConfig)},
            versions=found["versions"],
            rows=rows,
            curves=list(_read_curves(folder / CURVES, rows)),
            parameters=found["parameters"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableError(
            "folder",
            f"expected {RESULT} and {CURVES} as `virtualdepth verify` leaves them in {folder} but "
            f"got {type(error).__name__}: {error}",
        ) from error


def _read_curves(path: Path, rows: list[Row]) -> Iterator[Curve]:
    with path.open(encoding="utf-8", newline="") as file:
        states = list(csv.DictReader(file))
    for row in rows:
        mine = [state for state in states if float(state["lr"]) == row.lr]
        if not mine or (row.gap is not None and len(mine) != row.steps + 1):
            raise ValueError(f"{len(mine)} of {row.steps + 1} states at learning rate {row.lr:g}")
        columns = {name: [float(state[name]) for state in mine] for name in _COLUMNS}
        yield Curve(lr=row.lr, **columns)
