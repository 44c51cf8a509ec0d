"""What the measurements share: arguments, a printed table, a JSON file and a figure."""

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

Row = dict[str, Any]


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try the script")
    return parser


def cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def table(rows: list[Row]) -> str:
    """A Markdown table."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([cell(row[key]) for key in header] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf"
    return value


def report(name: str, output: Path, rows: list[Row], **more: Any) -> None:
    output.mkdir(parents=True, exist_ok=True)
    result = {"command": sys.argv, "torch": torch.__version__, "rows": rows, **more}
    path = output / f"{name}.json"
    path.write_text(json.dumps(plain(result), indent=1, allow_nan=False), encoding="utf-8")
    print(table(rows))
    print(f"written to {path}")
