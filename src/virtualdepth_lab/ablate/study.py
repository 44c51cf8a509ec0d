"""A study, checked before anything runs: which problem, what varies, at what cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtualdepth.runs import UnusableError, plain
from virtualdepth_lab.ablate.checks import (
    check_choice,
    check_count,
    check_file_name,
    check_mapping,
    check_text,
    check_word,
    is_number,
)

Value = bool | int | float | str | None
SECTIONS = ("settings", "grid", "search", "budget", "trainer")  # keys with names and values
RANGE_KEYS = {"low", "high", "log"}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The keys of a study file; an impossible value raises UnusableError."""

    name: str  # under which a storage keeps the study
    problem: str  # "matrix-completion", "regression" or "package.module:factory"
    settings: Mapping[str, Value] = field(default_factory=dict)  # the same in every cell
    grid: Mapping[str, Sequence[Value]] = field(default_factory=dict)  # argument -> values
    search: Mapping[str, Any] = field(default_factory=dict)  # argument -> choices or a range
    seeds: Sequence[int] = (0,)
    budget: Mapping[str, int] = field(default_factory=dict)  # "steps" of a cell, "trials"
    objective: str | None = None  # the metric that compares cells; None: the problem's own
    direction: str = "minimize"
    sampler: str = "TPESampler"  # of a search: a class of optuna.samplers
    pruner: str = "NopPruner"  # of a search: a class of optuna.pruners
    trainer: Mapping[str, Any] = field(default_factory=dict)  # options of Lightning's Trainer
    modules: str | None = None  # the folder of a problem's module: that of the study file

    def __post_init__(self) -> None:
        for name in ("name", "problem", "sampler", "pruner"):
            check_text(name, getattr(self, name))
        check_file_name("name", self.name)
        for name in ("objective", "modules"):
            if (given := getattr(self, name)) is not None:
                check_text(name, given)
                check_word(name, given)
        check_choice("direction", self.direction, ("minimize", "maximize"))
        for section in SECTIONS:
            given = getattr(self, section)
            check_mapping(section, given)
            if check := ENTRIES.get(section):
                checked = {name: check(f"{section}.{name}", entry) for name, entry in given.items()}
                object.__setattr__(self, section, checked)  # the class is frozen
        object.__setattr__(self, "seeds", _seeds(self.seeds))
        self._check_names()
        self._check_budget()

    def _check_names(self) -> None:
        if self.grid and self.search:
            raise UnusableError("search", "expected either a grid or a search but got both")
        varied = {**self.grid, **self.search}
        for name in {**varied, **self.settings}:
            check_word("settings", name)
        for name in varied.keys() & self.settings.keys():
            raise UnusableError(name, "expected it in settings, or in grid or search, but got both")
        if "seed" in varied or "seed" in self.settings:
            raise UnusableError("seed", "expected it under the key seeds but got it elsewhere")

    def _check_budget(self) -> None:
        for name, amount in self.budget.items():
            if name not in {"steps", "trials"}:
                raise UnusableError("budget", f"expected steps or trials but got {name!r}")
            check_count(f"budget.{name}", amount)
        if self.search and "trials" not in self.budget:
            raise UnusableError(
                "budget.trials", "expected the number of cells to search but got none"
            )
        if self.search and len(self.seeds) != 1:
            raise UnusableError(
                "seeds", f"expected one seed for a search but got {list(self.seeds)}"
            )
        if not self.search and "trials" in self.budget:
            raise UnusableError("budget.trials", "expected only with a search but got a grid")

    def to_json(self) -> dict[str, Any]:
        """Return what a study file says: plain values, without the keys that are empty."""
        return {
            name: plain(entry) for name, entry in vars(self).items() if entry not in ({}, None, ())
        }


def value(name: str, given: object) -> Value:
    """Return one value: text that reads as a number is a number, and a whole number is an int.

    >>> value("lr", "1e-3"), value("depth", 2.0), value("depth", "inf"), value("start", "balanced")
    (0.001, 2, inf, 'balanced')
    """
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
            check_word(name, given)
            return str(given)
    if isinstance(given, float):
        if math.isnan(given):
            raise UnusableError(name, "expected a number but got nan")
        # 2 and 2.0 name one cell; beyond 2^53 a float is not one integer
        return int(given) if given.is_integer() and abs(given) < 2**53 else given
    if given is None or isinstance(given, bool | int):
        return given
    raise UnusableError(name, f"expected a number or a word but got {given!r}")


def values(name: str, given: object) -> tuple[Value, ...]:
    """Return one or more values, all different; "1,2,inf" is a list too.

    >>> values("depth", "1,1.5,inf")
    (1, 1.5, inf)
    """
    if isinstance(given, str):
        given = [part.strip() for part in given.split(",")]
    if isinstance(given, bool | int | float):
        given = [given]
    if not isinstance(given, Sequence) or not given or "" in given:
        raise UnusableError(name, f"expected a list of values but got {given!r}")
    checked = [value(name, entry) for entry in given]
    kinds = [(isinstance(entry, bool), entry) for entry in checked]  # since True == 1
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UnusableError(name, f"expected different values but got {kind[1]} twice")
    return tuple(checked)


def space(name: str, given: object) -> tuple[Value, ...] | dict[str, Any]:
    """Return what a search chooses from: values, or a range {"low", "high", "log"}.

    >>> space("lr", {"low": "1e-4", "high": 1, "log": True})
    {'low': 0.0001, 'high': 1, 'log': True}
    """
    if not isinstance(given, Mapping):
        return values(name, given)
    unknown = sorted(set(given) - RANGE_KEYS)
    if unknown or not {"low", "high"} <= set(given):
        raise UnusableError(name, f"expected low, high and perhaps log but got {dict(given)}")
    low, high = (value(f"{name}.{end}", given[end]) for end in ("low", "high"))
    log = given.get("log", False)
    for end in (low, high):
        if not is_number(end) or not math.isfinite(end):
            raise UnusableError(name, f"expected finite numbers but got {end!r}")
    if not low < high or (log and low <= 0) or not isinstance(log, bool):  # type: ignore[operator]
        raise UnusableError(
            name,
            "expected low < high, and low > 0 with log: true, but got "
            f"low {low}, high {high}, log {log!r}",
        )
    return {"low": low, "high": high, "log": log}


def _seeds(given: object) -> tuple[int, ...]:
    checked = values("seeds", given)
    for seed in checked:
        if not is_number(seed) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise UnusableError("seeds", f"expected integers >= 0 and < 2^32 but got {seed!r}")
    return tuple(seed for seed in checked if isinstance(seed, int))


# What checks and normalises the entries of a section; those of "trainer" are Lightning's own.
ENTRIES = {"settings": value, "grid": values, "search": space, "budget": value}
