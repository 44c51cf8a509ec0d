"""The command line, called in this process or in one of its own."""

import sys

from virtualdepth.cli import main

MODULE = [sys.executable, "-m", "virtualdepth"]
SYNTHETIC = ["verify", "--data", "synthetic"]
SMALL = [*SYNTHETIC, "--time", "1", "--lrs", "0.1,0.05"]
FILES = {"result.json", "curves.csv", "report.md", "loss.png", "gap.png", ".virtualdepth-run"}


def call(*arguments: str) -> int:
    """The exit status, however it comes."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
