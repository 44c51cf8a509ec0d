"""A study, checked before anything runs: what is varied, over which problem, at what cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtualdepth.runs import UnusableError

Value = bool | int | float | str | None
DIRECTIONS = ("minimize", "maximize")
RANGE_KEYS = {"low", "high", "log"}


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study: each cell is a run of the problem with one configuration and one seed.

    Attributes:
        name: of the study, under which a storage keeps it.
        problem: "matrix-completion", "regression" or "package.module:factory".
        settings: argument of the problem -> value, the same in every cell.
        grid: argument -> values; the cells are all their combinations.
        search: argument -> values to choose from, or {low, high} with ``log: true`` for a
            logarithmic scale; Optuna's sampler chooses. Instead of ``grid``.
        seeds: one cell for each; a search takes one.
        budget: "steps": gradient evaluations of a cell; "trials": cells of a search.
        objective: the metric that cells are compared by; default the problem's own.
        direction: "minimize" or "maximize" it.
        sampler: of a search, a class of optuna.samplers.
        pruner: of a search, a class of optuna.pruners.
        trainer: options of Lightning's Trainer, for a problem that is a LightningModule.

    Raises:
        UnusableError: if a value is impossible.

    >>> StudyConfig(name="a", problem="regression", grid={"depth": [1, 2, 2.0]})
    Traceback (most recent call last):
    virtualdepth.runs._errors.UnusableError: grid.depth: expected different values but got 2 twice
    """

    name: str
    problem: str
    settings: Mapping[str, Value] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    budget: Mapping[str, int] = field(default_factory=dict)
    objective: str | None = None
    direction: str = "minimize"
    sampler: str = "TPESampler"
    pruner: str = "NopPruner"
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("name", "problem", "sampler", "pruner"):
            _check_text(name, getattr(self, name))
        if self.direction not in DIRECTIONS:
            raise UnusableError(
                "direction", f"expected one of {', '.join(DIRECTIONS)} but got {self.direction!r}"
            )
        for name in ("settings", "grid", "search", "budget", "trainer"):
            if not isinstance(getattr(self, name), Mapping):
                raise UnusableError(
                    name, f"expected names with values but got {getattr(self, name)!r}"
                )
        self._set("settings", {k: value(f"settings.{k}", v) for k, v in self.settings.items()})
        self._set("grid", {k: values(f"grid.{k}", v) for k, v in self.grid.items()})
        self._set("search", {k: space(f"search.{k}", v) for k, v in self.search.items()})
        self._set("budget", {k: value(f"budget.{k}", v) for k, v in self.budget.items()})
        self._set("seeds", _seeds(self.seeds))
        self._check_names()
        self._check_budget()

    def _set(self, name: str, checked: Any) -> None:
        object.__setattr__(self, name, checked)

    def _check_names(self) -> None:
        if self.grid and self.search:
            raise UnusableError("search", "expected either a grid or a search but got both")
        varied = {**self.grid, **self.search}
        for name in varied.keys() & self.settings.keys():
            raise UnusableError(
                name, "expected in settings, or varied in grid or search, but got both"
            )
        if "seed" in varied or "seed" in self.settings:
            raise UnusableError("seed", "expected under the key seeds but got it elsewhere")

    def _check_budget(self) -> None:
        for name, amount in self.budget.items():
            if name not in {"steps", "trials"}:
                raise UnusableError("budget", f"expected steps or trials but got {name!r}")
            if isinstance(amount, bool) or not isinstance(amount, int) or amount < 1:
                raise UnusableError(
                    f"budget.{name}", f"expected an integer >= 1 but got {amount!r}"
                )
        if self.search and "trials" not in self.budget:
            raise UnusableError("budget.trials", "expected how many cells to search but got none")
        if self.search and len(self.seeds) != 1:
            raise UnusableError(
                "seeds", f"expected one seed for a search but got {list(self.seeds)}"
            )
        if not self.search and "trials" in self.budget:
            raise UnusableError("budget.trials", "expected with a search only, but got a grid")

    def to_json(self) -> dict[str, Any]:
        """List what the study is, as a study file has it.

        Returns:
            Plain values; infinity is "inf".
        """
        return {
            name: plain(entry) for name, entry in vars(self).items() if entry not in ({}, None, ())
        }


def value(name: str, given: object) -> Value:
    """Check one value; a number in quotes, or one that YAML reads as text, is a number.

    Args:
        name: where it stands.
        given: from a file or the command line.

    Returns:
        The value; whole numbers as int.

    Raises:
        UnusableError: if it is a list, a mapping or NaN.

    >>> value("lr", "1e-3"), value("depth", 2.0), value("depth", "inf"), value("start", "balanced")
    (0.001, 2, inf, 'balanced')
    """
    if isinstance(given, str):
        try:
            given = float(given)
        except ValueError:
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
    """Check a list of values; "1,2,inf" is one too.

    Args:
        name: where it stands.
        given: from a file or the command line.

    Returns:
        One or more, all different.

    Raises:
        UnusableError: if it is no such list.

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
    """Check what a search may choose from.

    Args:
        name: where it stands.
        given: values, or {low, high} and perhaps log.

    Returns:
        The values, or {"low", "high", "log"}.

    Raises:
        UnusableError: if it is neither.

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
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise UnusableError(name, f"expected finite numbers but got {end!r}")
    if not low < high or (log and low <= 0) or not isinstance(log, bool):  # type: ignore[operator]
        raise UnusableError(
            name,
            "expected low < high, and low > 0 with log: true, but got "
            f"low {low}, high {high}, log {log!r}",
        )
    return {"low": low, "high": high, "log": log}


def plain(entry: Any) -> Any:
    """Write values as any JSON reader takes them.

    Args:
        entry: of a study or a cell.

    Returns:
        The same; infinity is "inf", a tuple a list.

    >>> plain({"depth": (1.5, math.inf)})
    {'depth': [1.5, 'inf']}
    """
    if isinstance(entry, Mapping):
        return {name: plain(inner) for name, inner in entry.items()}
    if isinstance(entry, list | tuple):
        return [plain(inner) for inner in entry]
    if isinstance(entry, float) and not math.isfinite(entry):
        return str(entry)
    return entry


def _check_text(name: str, given: object) -> None:
    if not isinstance(given, str) or not given.strip():
        raise UnusableError(name, f"expected a name but got {given!r}")


def _seeds(given: object) -> tuple[int, ...]:
    checked = values("seeds", given)
    for seed in checked:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise UnusableError("seeds", f"expected integers >= 0 and < 2^32 but got {seed!r}")
    return tuple(seed for seed in checked if isinstance(seed, int))
