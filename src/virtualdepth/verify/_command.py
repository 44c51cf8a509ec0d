"""What each command of ``virtualdepth`` does, from its arguments to its exit status."""

from pathlib import Path

from virtualdepth.data._problems import load_problem
from virtualdepth.runs import (
    FAILED,
    INTERRUPTED,
    PASSED,
    RESULT,
    UnusableError,
    claim_folder,
    command_of,
)
from virtualdepth.verify._artifacts import OWN, load, save
from virtualdepth.verify._check import run
from virtualdepth.verify._config import VerifyConfig
from virtualdepth.verify._report import terminal_table, verdict, write_report
from virtualdepth.verify._results import VerifyResult
from virtualdepth_lab.reproduce.command import report_reproduction


def verify(config: VerifyConfig, output: str | None) -> int:
    """Run the check, print its table, and leave its files.

    Args:
        config: what to compare.
        output: the folder for the files; None: a new one.

    Returns:
        0 if passed, 1 if failed, 130 after Ctrl-C, with what was finished by then kept.

    Raises:
        UnusableError: if the data or the folder cannot be used; nothing has run then.
    """
    problem = load_problem(
        config.data, targets=config.targets, data_dir=config.data_dir, seed=config.seed
    )
    folder = claim_folder(output, "verify", OWN)
    print(problem, flush=True)
    result = run(config, problem)
    save(result, folder)
    write_report(result, folder)
    print(f"\n{terminal_table(result)}\n\n{verdict(result)}; files in {folder}")
    return _status(result)


def report(folder: str) -> int:
    """Make report and figures again from what a run of the check left.

    Args:
        folder: of the run.

    Returns:
        0.

    Raises:
        UnusableError: if no run has left its files there.
    """
    if not (Path(folder) / RESULT).is_file():
        raise UnusableError(
            "folder", f"expected the folder of a run, with its {RESULT}, but got {folder}"
        )
    if command_of(Path(folder)) == "reproduce":
        report_reproduction(Path(folder))
        return PASSED
    result = load(Path(folder))
    write_report(result, Path(folder))
    print(f"{terminal_table(result)}\n\n{verdict(result)}; report and figures in {folder}")
    return PASSED


def _status(result: VerifyResult) -> int:
    return {True: PASSED, False: FAILED, None: INTERRUPTED}[result.passed]
