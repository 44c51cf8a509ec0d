"""From the name of a problem to the metrics of a cell.

A problem is anything callable with keyword arguments, ``seed`` among them, that returns

- an object with ``train(steps, report)``, which returns a mapping of metrics to numbers, or
- a LightningModule and a LightningDataModule, which are fitted.

``steps`` is the study's budget, or None. ``report`` is None unless cells may be pruned: ``train``
then calls it now and then with a step number and the metrics so far, and lets what it raises pass.
FloatingPointError, or an objective that is not finite, says that the cell diverged.
"""

import importlib
import inspect
import math
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.built_in import CompletionProblem, RegressionProblem
from virtualdepth_lab.ablate.cells import Cell, reason_of
from virtualdepth_lab.ablate.lightning_cell import check_options, fit, is_multi_device
from virtualdepth_lab.ablate.matrix import Metrics, Report
from virtualdepth_lab.ablate.study import StudyConfig

BUILT_IN: dict[str, Callable[..., Any]] = {
    "matrix-completion": CompletionProblem,
    "regression": RegressionProblem,
}


def factory_of(problem: str, modules: str | None = None) -> Callable[..., Any]:
    """Return the built-in problem of this name, or import "package.module:factory".

    The module is in the working directory, in the folder ``modules``, or where Python finds it.
    """
    if problem in BUILT_IN:
        return BUILT_IN[problem]
    module, colon, name = problem.partition(":")
    if not (module and colon and name):
        raise UnusableError(
            "problem",
            f"expected {', '.join(BUILT_IN)} or package.module:factory but got {problem!r}",
        )
    for folder in ([] if modules is None else [modules]) + [""]:
        if folder not in sys.path:
            sys.path.insert(0, folder)  # "" is the working directory, as for `python -m`
    try:
        factory = importlib.import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise UnusableError(
            "problem",
            f"expected a module that can be imported with the factory {name} in it but got, from "
            f"{module}, {reason_of(error)}",
        ) from error
    if not callable(factory):
        raise UnusableError("problem", f"expected a callable but got {factory!r}")
    return factory


def check_cells(study: StudyConfig, cells: Iterable[Cell]) -> None:
    """Check every cell as far as that is possible without running it."""
    factory = factory_of(study.problem, study.modules)
    is_built_in = study.problem in BUILT_IN
    _check_arguments(study, inspect.signature(factory))
    check_options(study.trainer)
    if is_multi_device(study.trainer) and study.pruner != "NopPruner":
        raise UnusableError(
            "pruner", f"expected none with trainer.devices or strategy but got {study.pruner}"
        )
    if is_built_in and study.trainer:
        raise UnusableError("trainer", f"expected none with {study.problem} but got some")
    if is_built_in:
        for cell in cells:
            factory(**{**example_point(study), **cell.config}, seed=cell.seed)
    elif study.objective is None:
        raise UnusableError(
            "objective", "expected the name of a logged metric, which compares cells, but got none"
        )


def _check_arguments(study: StudyConfig, signature: inspect.Signature) -> None:
    parameters = signature.parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = [p for p in parameters if p.kind in {p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD}]
    known = [p.name for p in named]
    for section in ("settings", "grid", "search"):
        for name in getattr(study, section):
            if name not in known and not takes_any:
                raise UnusableError(
                    f"{section}.{name}",
                    f"expected arguments of {study.problem}, which are {', '.join(known)}, but "
                    f"got {name!r}",
                )
    if "seed" not in known and not takes_any:
        raise UnusableError("problem", f"expected an argument seed but {study.problem} has none")
    given = {*study.settings, *study.grid, *study.search, "seed"}
    for p in named:
        if p.default is p.empty and p.name not in given:
            raise UnusableError(
                f"settings.{p.name}", f"expected a value, which {study.problem} needs, but got none"
            )


def example_point(study: StudyConfig) -> dict[str, Any]:
    """Return the first or lowest value of everything a search varies; nothing for a grid."""
    return {
        name: given["low"] if isinstance(given, Mapping) else given[0]
        for name, given in study.search.items()
    }


def objective_of(study: StudyConfig) -> str:
    """Return the metric to compare cells by: what the study says, else the problem's own."""
    if study.objective is not None:
        return study.objective
    given = {*study.settings, *study.grid, *study.search}
    leaves_none_out = study.problem == "regression" and "samples" not in given
    return "loss" if leaves_none_out else "error"


def run_cell(
    study: StudyConfig, config: Mapping[str, Any], seed: int, report: Report | None = None
) -> Metrics:
    """Run one cell: every argument of the problem is in ``config``, but for the seed.

    The objective among the metrics is finite; FloatingPointError says that the cell diverged.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    made = factory_of(study.problem, study.modules)(**config, seed=seed)
    objective, steps = objective_of(study), study.budget.get("steps")
    if isinstance(made, tuple) and len(made) == 2:
        metrics = fit(*made, options=study.trainer, steps=steps, objective=objective, report=report)
    elif hasattr(made, "train"):
        metrics = _numbers(made.train(steps, report))
    else:
        raise UnusableError(
            "problem",
            "expected a LightningModule and a LightningDataModule, or an object with "
            f"train(steps, report), but {study.problem} returned {type(made).__name__}",
        )
    if objective not in metrics:
        raise UnusableError(
            "objective", f"expected one of {', '.join(metrics) or 'no'} metrics but got {objective}"
        )
    if not math.isfinite(metrics[objective]):
        raise FloatingPointError(f"{objective} is {metrics[objective]} at the end")
    return metrics


def _numbers(found: object) -> Metrics:
    """Turn metrics that may be scalars of numpy or torch into plain numbers."""
    if not isinstance(found, Mapping):
        raise UnusableError(
            "problem", f"expected train to return names and numbers but got {found!r}"
        )
    metrics: Metrics = {}
    for name, number in found.items():
        try:
            plain = number.item() if hasattr(number, "item") else number
        except (ValueError, RuntimeError):  # several numbers
            plain = number
        if not isinstance(name, str) or not isinstance(plain, bool | int | float):
            raise UnusableError(
                "problem", f"expected a name and a number but got {name!r}: {number!r}"
            )
        metrics[name] = plain
    return metrics
