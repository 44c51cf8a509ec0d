"""The command ``reproduce``: rerun a published experiment, print and keep what it found."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Protocol

from matplotlib.figure import Figure
from tqdm import tqdm

from virtualdepth.runs import FAILED, PASSED, UnusableError, claim_folder, text_table
from virtualdepth_lab.reproduce import EXPERIMENTS
from virtualdepth_lab.reproduce.result import (
    OWN,
    Keep,
    Progress,
    ReproduceConfig,
    Reproduction,
    load,
    save,
    tables,
    write_report,
)
from virtualdepth_lab.reproduce.unfinished import keeping


class _Experiment(Protocol):
    """The door of an experiment's folder; ``draw`` maps captions to figures."""

    TITLE: str
    run: Callable[[ReproduceConfig, Progress, Keep], Reproduction]
    draw: Callable[[Reproduction], dict[str, Figure]]


def _experiment(name: str) -> _Experiment:
    if name not in EXPERIMENTS:  # of a damaged result.json
        raise UnusableError("name", f"expected one of {', '.join(EXPERIMENTS)} but got {name!r}")
    module: _Experiment = import_module(f"virtualdepth_lab.reproduce.{name.replace('-', '_')}")
    return module


def reproduce(config: ReproduceConfig, output: str | None) -> int:
    """Rerun an experiment, print its tables and claims, leave its files; return the exit status."""
    experiment = _experiment(config.name)
    with claim_folder(output, "reproduce", OWN) as folder:
        with tqdm(unit="part", disable=None, leave=False) as bar:

            def say(text: str) -> None:
                bar.write(text, file=sys.stderr)

            with keeping(config, folder, bar, say) as keep:
                result = experiment.run(config, bar.set_description, keep)
                save(result, folder)
        _show(experiment, result, folder)
    return PASSED if result.passed else FAILED


def report_reproduction(folder: Path) -> None:
    """Make report and figures again from what :func:`reproduce` left."""
    with claim_folder(folder, "reproduce", OWN):
        result = load(folder)
        _show(_experiment(result.name), result, folder)


def _show(experiment: _Experiment, result: Reproduction, folder: Path) -> None:
    write_report(result, experiment.TITLE, experiment.draw(result), folder)
    print("published\n" + tables(result.published, text_table))
    print("\nmeasured\n" + tables(result.summary or result.measured, text_table) + "\n")
    for claim in result.claims:
        print(f"{'held' if claim.held else 'DID NOT HOLD'}: {claim.claim} ({claim.evidence})")
    verdict = "every claim held" if result.passed else "not every claim held"
    print(f"\n{verdict}; files in {folder}")
