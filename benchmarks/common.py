"""What the measurements share: their options, one thread, a printed table and a JSON file."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from virtualdepth.runs import (
    UnusableError,
    in_words,
    markdown_table,
    mine,
    plain,
    replacing,
    versions,
)

DOCS = Path(__file__).parents[1] / "docs"
Row = dict[str, Any]
DOTS_PER_INCH = 110


def arguments(description: str | None, docs: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=Path("runs/benchmarks"), metavar="DIR")
    parser.add_argument("--quick", action="store_true", help="a few steps, to try the script")
    if docs:
        parser.add_argument("--docs", action="store_true", help="write into the documentation too")
    return parser


def parse(parser: argparse.ArgumentParser, *files: str) -> argparse.Namespace:
    """Parse the options, make the output folder, and compute on one thread.

    A folder where one of ``files`` is not from an earlier run is refused before anything runs.
    """
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    try:
        for name in files:
            mine(options.output, name)
    except UnusableError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    return options


def as_json(result: dict[str, Any]) -> str:
    return json.dumps(plain(result), indent=1, allow_nan=False, default=str) + "\n"


def write(folder: Path, name: str, text: str) -> None:
    with replacing(folder, name) as path:
        path.write_text(text, encoding="utf-8")
    print(f"written to {folder / name}")


def save_figure(folder: Path, name: str, figure: Figure) -> None:
    with replacing(folder, name) as path:
        figure.savefig(path, dpi=DOTS_PER_INCH, format="png")


def into_docs(made: dict[str, str], page: Path) -> None:
    """Replace what stands between `<!-- table: NAME -->` and `<!-- end -->`."""
    text = page.read_text(encoding="utf-8")
    for name, own in made.items():
        pattern = rf"(<!-- table: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda m, own=own: f"{m[1]}\n{own}\n\n{m[2]}", text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


def report(name: str, output: Path, rows: list[Row], **more: Any) -> None:
    """Print the rows, and keep them with what else was measured."""
    print(markdown_table(in_words(rows)))
    ran = {"command": sys.argv, "versions": versions("virtualdepth", "torch")}
    write(output, f"{name}.json", as_json({**ran, "rows": rows, **more}))
