"""The command ``ablate``: its options. What a run needs is imported when it runs."""

import argparse
from pathlib import Path

from virtualdepth.runs import claim_folder

HELP = "run a study over depth, initial scale, seeds and more, on one machine or many"
DESCRIPTION = (
    "Run every cell of a study: each combination of a grid, or a search, once for each seed. An "
    "option named like a key of the study file overrides it, such as --grid.depth 1,2,inf or "
    "--budget.steps 500. Run the same command again to resume. Writes results.csv, "
    "results.parquet, report.md and figures."
)
EPILOG = (
    "Exit status: 0 every cell is complete or diverged, 1 a cell failed, 2 unusable arguments, 130 "
    "after Ctrl-C; the cells that had finished are kept."
)
EXTRA = "studies"
TAKES_MORE = True  # words that override keys of the study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``ablate``."""
    add = parser.add_argument
    add("study", metavar="STUDY", help="a YAML or TOML file, or the folder of an earlier run")
    add(
        "--output",
        metavar="DIR",
        help="folder for the results; a study that is already there is resumed "
        "(default: runs/ablate/<name of the study>)",
    )
    add(
        "--storage",
        metavar="URL",
        help="where the cells are kept: postgresql://USER@HOST/DATABASE lets any number of "
        "machines share a study (default: sqlite, a file in the output folder)",
    )
    add(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="processes on this machine (default: %(default)s)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="check the study, run one cell, and print how many there are and how long they take",
    )
    add("--cell", metavar="NAME", help="run one cell again and compare it with the table")


def run(options: argparse.Namespace) -> int:
    """Run the study, and return the exit status."""
    from virtualdepth_lab.ablate.command import ablate

    return ablate(options)


def report(folder: Path) -> None:
    """Make report and figures again from what :func:`run` left."""
    from virtualdepth_lab.ablate.report import OWN, write_report

    with claim_folder(folder, "ablate", OWN):
        said = write_report(folder)
    print(said)


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected an integer but got {text!r}") from error
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected an integer >= 1 but got {number}")
    return number
