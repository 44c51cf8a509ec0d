"""What every command and benchmark leaves behind, and how it ends (level 2).

| what | names |
|---|---|
| how it ends | PASSED, FAILED, UNUSABLE, INTERRUPTED, UnusableError, raise_on_interrupt |
| its folder | claim_folder, command_of, mine, replacing, whole, remove_own |
| result.json | RESULT, write_result, reading_result, plain, versions |
| tables | shown, text_table, markdown_table, in_words |
| text of others | one_line, escaped, code, figure_text, file_name |
| report.md | REPORT, save_figures, settings, write_report |
| threads | torch_threads |
"""

from virtualdepth._interrupt import raise_on_interrupt
from virtualdepth.runs._columns import column_names
from virtualdepth.runs._errors import UnusableError, masked
from virtualdepth.runs._folder import claim_folder
from virtualdepth.runs._markdown import code, escaped, figure_text, file_name, one_line
from virtualdepth.runs._owned import (
    REPORT,
    RESULT,
    command_of,
    made_in,
    mine,
    remove_own,
    replacing,
    whole,
)
from virtualdepth.runs._report import save_figures, settings, write_report
from virtualdepth.runs._result import plain, reading_result, versions, write_result
from virtualdepth.runs._status import FAILED, INTERRUPTED, PASSED, UNUSABLE
from virtualdepth.runs._streams import patient_streams
from virtualdepth.runs._table import in_words, markdown_table, shown, text_table
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
    "code",
    "column_names",
    "command_of",
    "escaped",
    "figure_text",
    "file_name",
    "in_words",
    "made_in",
    "markdown_table",
    "masked",
    "mine",
    "one_line",
    "patient_streams",
    "plain",
    "raise_on_interrupt",
    "reading_result",
    "remove_own",
    "replacing",
    "save_figures",
    "settings",
    "shown",
    "text_table",
    "torch_threads",
    "versions",
    "whole",
    "write_report",
    "write_result",
]
