"""What every command and benchmark leaves behind, and how it ends (level 2).

| what | names |
|---|---|
| how it ends | PASSED, FAILED, UNUSABLE, INTERRUPTED, UnusableError |
| its folder | claim_folder, command_of |
| result.json | RESULT, write_result, reading_result, plain, versions |
| tables | shown, text_table, markdown_table |
| report.md | REPORT, save_figures, settings, write_report |
| threads | torch_threads |
"""

from virtualdepth.runs._errors import UnusableError
from virtualdepth.runs._folder import claim_folder, command_of
from virtualdepth.runs._report import save_figures, settings, write_report
from virtualdepth.runs._result import (
    REPORT,
    RESULT,
    plain,
    reading_result,
    versions,
    write_result,
)
from virtualdepth.runs._status import FAILED, INTERRUPTED, PASSED, UNUSABLE
from virtualdepth.runs._table import markdown_table, shown, text_table
from virtualdepth.runs._threads import torch_threads

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "PASSED",
    "REPORT",
    "RESULT",
    "UNUSABLE",
    "UnusableError",
    "claim_folder",
    "command_of",
    "markdown_table",
    "plain",
    "reading_result",
    "save_figures",
    "settings",
    "shown",
    "text_table",
    "torch_threads",
    "versions",
    "write_report",
    "write_result",
]
