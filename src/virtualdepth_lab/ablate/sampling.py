"""How a study is described to Optuna: samplers, pruners and distributions."""

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

from virtualdepth.runs import UnusableError, plain
from virtualdepth_lab.ablate.checks import check_choice, is_number
from virtualdepth_lab.ablate.study import StudyConfig, Value, value


def check_search(study: StudyConfig) -> None:
    """Refuse a sampler or pruner that Optuna does not have, or that needs arguments."""
    for key, module in (("sampler", optuna.samplers), ("pruner", optuna.pruners)):
        name = getattr(study, key)
        check_choice(key, name, [n for n in dir(module) if n.endswith(key.capitalize())])
        try:
            sampler_of(study, 0) if key == "sampler" else pruner_of(study)
        except (TypeError, ImportError) as error:
            raise UnusableError(
                key, f"expected one that needs no arguments but got {name}: {error}"
            ) from error


def sampler_of(study: StudyConfig, number: int) -> optuna.samplers.BaseSampler | None:
    """Make the sampler of cell ``number`` of a search; None for a grid.

    Each cell has a sampler with a seed of its own: workers must not draw the same points.
    """
    if not study.search:
        return None
    kind = getattr(optuna.samplers, study.sampler)
    sampler: optuna.samplers.BaseSampler = kind(seed=study.seeds[0] * 1_000_003 + number)
    return sampler


def pruner_of(study: StudyConfig) -> optuna.pruners.BasePruner | None:
    """Make the pruner of a search; None for a grid."""
    if not study.search:
        return None
    pruner: optuna.pruners.BasePruner = getattr(optuna.pruners, study.pruner)()
    return pruner


def suggest(trial: Trial, name: str, given: Any) -> Value:
    """Let the sampler choose a value, among choices or in a range; the same if asked again."""
    if isinstance(given, Mapping):
        return trial.suggest_float(name, given["low"], given["high"], log=given["log"])
    return value(name, trial.suggest_categorical(name, plain(list(given))))


def distribution_of(given: Sequence[Value]) -> BaseDistribution:
    """Describe one axis: finite numbers as a range, which can grow, the rest as choices.

    >>> distribution_of([1, 3]), distribution_of([0.1, float("inf")])
    (IntDistribution(high=3, log=False, low=1, step=1), CategoricalDistribution(choices=(0.1, 'inf')))
    """  # noqa: E501 (an example is one line)
    numbers = [entry for entry in given if is_number(entry)]
    if len(numbers) < len(given) or float("inf") in numbers:
        return CategoricalDistribution(tuple(plain(list(given))))
    if all(isinstance(number, int) for number in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(min(numbers), max(numbers))
