"""What the measurements share: their options, one thread, a printed table and a JSON file."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from virtualdepth.runs import markdown_table, plain, versions

Row = dict[str, Any]


def arguments(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try the script")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the options, make the output folder, and compute on one thread."""
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    return options


def write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(result), indent=1, allow_nan=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"written to {path}")


def report(name: str, output: Path, rows: list[Row], **more: Any) -> None:
    """Print the rows, and keep them with what else was measured."""
    print(markdown_table(rows))
    ran = {"command": sys.argv, "versions": versions("virtualdepth", "torch")}
    write(output / f"{name}.json", {**ran, "rows": rows, **more})
