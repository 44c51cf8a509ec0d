"""Which command makes the numbers of which section, and are those that are cheap still true?

    python -m benchmarks.numbers_in_docs            # page, section, numbers, commands
    python -m benchmarks.numbers_in_docs --rerun    # and run the cheap commands, 3 minutes

A section is what stands between two headings. Its commands are the scripts and reruns that it names
in backticks or in a block of console commands. A cheap command is run again, and each decimal
number of its tables has to stand, to three digits, in a section that names it; times in seconds
with one decimal differ from run to run and are left out. The exit status is 1 if one is missing.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from virtualdepth.runs import markdown_table

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(
    r"(?:`|^)(?:\$ )?((?:python (?:-m )?(?:benchmarks|examples)|virtualdepth (?:reproduce|verify))"
    r"[^`#\n]*)",
    re.MULTILINE,
)
NUMBER = re.compile(r"(?<![\d.])\d{1,3}\.\d+(?:e[+-]?\d+)?")  # no arXiv number
SECONDS = re.compile(r"(?<![\d.])\d+\.\d s\b")
LEAST = 4  # numbers of any kind in a line of output that is a row of a table
# cheap commands, in full -> what names them in the docs
CHEAP = {
    ("-m", "virtualdepth", "verify", "--output", "verify"): "make verify",
    ("examples/depth_finds_the_rank.py", "tutorial"): "examples/depth_finds_the_rank.py",
    ("benchmarks/learning_rate_transfer.py", "--output", "rates"): "learning_rate_transfer.py",
}


def sections() -> list[tuple[str, str, str]]:
    """Page, heading and text of every section."""
    found = []
    for page in PAGES:
        for part in re.split(r"^(?=#+ )", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
            heading, _, text = part.partition("\n")
            found.append((str(page.relative_to(ROOT)), heading.lstrip("# "), text))
    return found


def missing(command: tuple[str, ...], name: str) -> list[str]:
    """Run a command, and return the numbers of its tables that no section with its name has."""
    shown = "".join(text for _, _, text in sections() if name in text)
    with TemporaryDirectory() as folder:
        script = [str(ROOT / part) if part.endswith(".py") else part for part in command]
        done = subprocess.run(
            [sys.executable, *script], cwd=folder, capture_output=True, text=True, check=True
        )
    return absent(done.stdout, shown)


def absent(printed: str, shown: str) -> list[str]:
    """Return the numbers in the tables of a program's output that a text does not show.

    >>> absent("0.1 200 1.15e-02 0.16062\\n1 2 3 0.7 s 4", "at the rate 0.1 the gap is 0.0115")
    ['0.161']
    """
    rows = [SECONDS.sub("", row) for row in printed.splitlines()]
    tables = "\n".join(row for row in rows if len(re.findall(r"[\d.]+", row)) >= LEAST)
    return sorted(_numbers(tables) - _numbers(shown))


def _numbers(text: str) -> set[str]:
    return {f"{float(number):.3g}" for number in NUMBER.findall(text)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rerun", action="store_true", help="run the cheap commands again")
    rows = [
        {
            "page": page,
            "section": heading,
            "numbers": len(NUMBER.findall(text)),
            "commands": "; ".join(dict.fromkeys(each.strip() for each in COMMAND.findall(text))),
        }
        for page, heading, text in sections()
        if NUMBER.search(text)
    ]
    print(markdown_table(rows))
    if parser.parse_args().rerun:
        stale = {name: missing(command, name) for command, name in CHEAP.items()}
        for name, numbers in stale.items():
            print(f"{name}: {'not in the docs: ' + ', '.join(numbers) if numbers else 'as shown'}")
        sys.exit(any(stale.values()))


if __name__ == "__main__":
    main()
