"""From the name of a problem to the metrics of a cell.

A problem is anything callable with keyword arguments, ``seed`` among them, that returns

- an object with ``train(steps, report)``, which returns metrics, or
- a LightningModule and a LightningDataModule, which are fitted.

FloatingPointError, or an objective that is not finite, says that the cell diverged.
"""

import importlib
import inspect
import math
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.built_in import MatrixCompletion, Regression
from virtualdepth_lab.ablate.cells import Cell
from virtualdepth_lab.ablate.config import StudyConfig
from virtualdepth_lab.ablate.lightning_cell import check_options, fit, spread_out
from virtualdepth_lab.ablate.matrix import Metrics, Report

BUILT_IN: dict[str, Callable[..., Any]] = {
    "matrix-completion": MatrixCompletion,
    "regression": Regression,
}


@runtime_checkable
class Trainable(Protocol):
    """What a problem may return: something that trains itself."""

    def train(self, steps: int | None, report: Report | None = None) -> Mapping[str, float]:
        """Run the cell.

        Args:
            steps: the study's ``budget.steps``, if any.
            report: for a search with pruning, to be called now and then with a step number and the
                metrics so far; it ends the cell by an exception that must pass.

        Returns:
            Name -> number; the study's objective among them.
        """


def factory_of(problem: str) -> Callable[..., Any]:
    """Find what makes the problem of a cell.

    Args:
        problem: "matrix-completion", "regression" or "package.module:factory", found from the
            working directory or where Python finds packages.

    Returns:
        A callable with keyword arguments.

    Raises:
        UnusableError: if there is none.

    >>> factory_of("regression").__name__
    'Regression'
    """
    if problem in BUILT_IN:
        return BUILT_IN[problem]
    module, colon, name = problem.partition(":")
    if not (module and colon and name):
        raise UnusableError(
            "problem",
            f"expected {', '.join(BUILT_IN)} or package.module:factory but got {problem!r}",
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does, which a console script does not
    try:
        factory = importlib.import_module(module)
        for part in name.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # whatever the user's module raises while it is imported
        raise UnusableError(
            "problem",
            f"expected a module that can be imported with the factory {name} in it but got, from "
            f"{module}, {type(error).__name__}: {' '.join(str(error).split())}",
        ) from error
    if not callable(factory):
        raise UnusableError("problem", f"expected a callable but got {factory!r}")
    return factory


def check_cells(study: StudyConfig, cells: Iterable[Cell]) -> None:
    """Check every cell as far as that is possible without running it.

    Args:
        study: which problem.
        cells: of it.

    Raises:
        UnusableError: if an argument is unknown, missing or, for a built-in problem, impossible.
    """
    factory = factory_of(study.problem)
    signature = inspect.signature(factory)
    _check_arguments(study, signature)
    check_options(study.trainer)
    if spread_out(study.trainer) and study.pruner != "NopPruner":
        raise UnusableError(
            "pruner", f"expected none with trainer.devices or strategy but got {study.pruner}"
        )
    if study.problem in BUILT_IN:
        if study.trainer:
            raise UnusableError("trainer", f"expected none with {study.problem} but got some")
        for cell in cells:
            factory(**{**lowest(study), **cell.config}, seed=cell.seed)
    if study.problem not in BUILT_IN and study.objective is None:
        raise UnusableError(
            "objective", "expected the metric to compare cells by, one that is logged, but got none"
        )


def _check_arguments(study: StudyConfig, signature: inspect.Signature) -> None:
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    open_ended = inspect.Parameter.VAR_KEYWORD in kinds.values()
    known = [
        name
        for name, kind in kinds.items()
        if kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    ]
    for section in ("settings", "grid", "search"):
        for name in getattr(study, section):
            if name not in known and not open_ended:
                raise UnusableError(
                    f"{section}.{name}",
                    f"expected arguments of {study.problem}, which are {', '.join(known)}, but "
                    f"got {name!r}",
                )
    if "seed" not in known and not open_ended:
        raise UnusableError("problem", f"expected an argument seed but {study.problem} has none")
    given = {*study.settings, *study.grid, *study.search, "seed"}
    for name in known:
        if signature.parameters[name].default is inspect.Parameter.empty and name not in given:
            raise UnusableError(
                f"settings.{name}", f"expected a value, which {study.problem} needs, but got none"
            )


def lowest(study: StudyConfig) -> dict[str, Any]:
    """Choose one point of a search, to check or time the rest with.

    Args:
        study: any.

    Returns:
        Argument -> its first or lowest value; empty for a grid.
    """
    return {
        name: given["low"] if isinstance(given, Mapping) else given[0]
        for name, given in study.search.items()
    }


def objective_of(study: StudyConfig) -> str:
    """Name the metric that cells are compared by.

    Args:
        study: checked.

    Returns:
        What the study says, else "error", or "loss" where a regression leaves nothing out.
    """
    if study.objective is not None:
        return study.objective
    left_out = {*study.settings, *study.grid, *study.search}
    return "loss" if study.problem == "regression" and "samples" not in left_out else "error"


def run_cell(
    study: StudyConfig, config: Mapping[str, Any], seed: int, report: Report | None = None
) -> Metrics:
    """Run one cell.

    Args:
        study: of which it is.
        config: every argument of the problem but the seed.
        seed: also of the global random generators.
        report: for pruning.

    Returns:
        Its metrics, the objective among them, all finite.

    Raises:
        FloatingPointError: if it diverged.
        UnusableError: if the problem returns something else than it should.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    made = factory_of(study.problem)(**config, seed=seed)
    objective, steps = objective_of(study), study.budget.get("steps")
    if isinstance(made, Trainable) and not isinstance(made, tuple):
        metrics = _numbers(made.train(steps, report))
    elif isinstance(made, tuple) and len(made) == 2:
        metrics = fit(*made, options=study.trainer, steps=steps, objective=objective, report=report)
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
    """Make plain numbers of metrics that may be scalars of numpy or torch."""
    if not isinstance(found, Mapping):
        raise UnusableError(
            "problem", f"expected metrics, a name and a number each, from train but got {found!r}"
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
