"""report.md: paragraphs, figures and settings."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virtualdepth.runs._markdown import escaped
from virtualdepth.runs._owned import REPORT, free_name, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DOTS_PER_INCH = 130
# In the text that stands for a figure, every bracket counts.
_BRACKET, _ESCAPED = re.compile(r"(?<!\\)[\[\]]"), r"\\\g<0>"


def save_figures(figures: Mapping[str, tuple[str, "Figure"]], folder: Path) -> list[str]:
    """Write each figure to a file, and return the paragraphs that show it.

    ``figures`` maps the file's name to caption, plain text, and figure. Where a file of another
    origin has the name, it gets a number.
    """
    captions: dict[str, str] = {}
    for wanted, (caption, figure) in figures.items():
        name = free_name(folder, wanted, {*captions, *figures} - {wanted})
        with replacing(folder, name) as path:
            figure.savefig(path, dpi=_DOTS_PER_INCH, format="png")
        captions[name] = escaped(caption)
    return [
        f"![{_BRACKET.sub(_ESCAPED, caption)}]({name})\n\n{caption}"
        for name, caption in captions.items()
    ]


def settings(config: Mapping[str, Any], versions: Mapping[str, str]) -> list[str]:
    """Return the paragraphs that end a report: what was asked for, and what ran."""
    return [
        "## Settings",
        "\n".join(f"- {escaped(name)}: {escaped(value)}" for name, value in config.items()),
        "Versions: "
        + ", ".join(escaped(f"{name} {text}") for name, text in versions.items())
        + ".",
    ]


def write_report(folder: Path, paragraphs: Iterable[str]) -> None:
    """Write report.md; an empty paragraph, of a table without rows, is left out."""
    text = "\n\n".join(filter(None, paragraphs))
    with replacing(folder, REPORT) as path:
        path.write_text(text + "\n", encoding="utf-8")
