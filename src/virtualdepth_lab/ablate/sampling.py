"""What of a study is Optuna's own business: samplers, pruners and distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.config import StudyConfig, Value, plain, value


def check_search(study: StudyConfig) -> None:
    """Refuse a sampler or pruner that Optuna does not have.

    Args:
        study: any.

    Raises:
        UnusableError: if there is none of this name, or it needs arguments.
    """
    for key, module in (("sampler", optuna.samplers), ("pruner", optuna.pruners)):
        name = getattr(study, key)
        if name.startswith("_") or not isinstance(getattr(module, name, None), type):
            known = [other for other in dir(module) if other.endswith(key.capitalize())]
            raise UnusableError(key, f"expected one of {', '.join(known)} but got {name!r}")
        try:
            sampler_of(study, 0) if key == "sampler" else getattr(module, name)()
        except (TypeError, ImportError) as error:
            raise UnusableError(
                key, f"expected one that needs no arguments but got {name}: {error}"
            ) from error


def sampler_of(study: StudyConfig, number: int) -> optuna.samplers.BaseSampler | None:
    """Make the sampler of a search.

    Args:
        study: any.
        number: of the cell: each has a sampler of its own, so that workers differ.

    Returns:
        The sampler; None for a grid.
    """
    if not study.search:
        return None
    kind = getattr(optuna.samplers, study.sampler)
    sampler: optuna.samplers.BaseSampler = kind(seed=study.seeds[0] * 1_000_003 + number)
    return sampler


def suggest(trial: Trial, name: str, given: Any) -> Value:
    """Let the sampler choose a value; the same again if it has chosen before.

    Args:
        trial: of the cell.
        name: of the argument.
        given: values to choose from, or low, high and log.

    Returns:
        The value.
    """
    if isinstance(given, Mapping):
        return trial.suggest_float(name, given["low"], given["high"], log=given["log"])
    return value(name, trial.suggest_categorical(name, plain(list(given))))


def distributions(study: StudyConfig) -> dict[str, BaseDistribution]:
    """Describe the axes of a grid to Optuna.

    Args:
        study: a grid.

    Returns:
        Axis -> distribution; with the seed.
    """
    varied = {**study.grid, "seed": study.seeds}
    return {name: distribution_of(given) for name, given in varied.items()}


def distribution_of(given: Sequence[Value]) -> BaseDistribution:
    """Describe one axis: numbers as a range, which can grow, the rest as choices, which cannot.

    Args:
        given: values.

    Returns:
        The distribution.

    >>> distribution_of([1, 3]), distribution_of([0.1, float("inf")])
    (IntDistribution(high=3, log=False, low=1, step=1), CategoricalDistribution(choices=(0.1, 'inf')))
    """  # noqa: E501 (an example is one line)
    numbers = [v for v in given if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(given) or float("inf") in numbers:
        return CategoricalDistribution(tuple(plain(list(given))))
    if all(isinstance(v, int) for v in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(min(numbers), max(numbers))
