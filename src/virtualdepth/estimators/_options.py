"""The options of MatrixCompletion: one table says what each may be."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from virtualdepth.maths import check_depth


@dataclass(frozen=True, kw_only=True)
class Options:
    """The checked options of a fit, as plain numbers."""

    method: str
    depth: float
    init_scale: float
    max_iter: int
    tol: float
    validation_fraction: float
    centre: bool
    verbose: bool


class _Rule(NamedTuple):
    types: tuple[type, ...]
    holds: Callable[[Any], bool]
    expected: str


METHODS = ("auto", "flow")
_FLAG = _Rule((bool, np.bool_), lambda value: True, "True or False")
_SHARE = _Rule((Real,), lambda value: 0 <= value < 1, "a number >= 0 and < 1")
_RULES = {
    "init_scale": _Rule((Real,), lambda value: 0 < value < math.inf, "a finite number > 0"),
    "tol": _SHARE,
    "validation_fraction": _SHARE,
    "max_iter": _Rule((Integral,), lambda value: value >= 1, "an integer >= 1"),
    "centre": _FLAG,
    "warm_start": _FLAG,
    "verbose": _Rule((*_FLAG.types, Integral), _FLAG.holds, "True, False or an integer"),
}


def read_options(given: dict[str, Any], shape: tuple[int, int]) -> Options:
    """Check the estimator's options, by name, for an X of this shape."""
    if given["method"] not in METHODS:
        raise ValueError(f"method: expected one of {METHODS} but got {given['method']!r}")
    # of the flow alone, which is not run otherwise
    _check_depth(given["depth"], shape if given["method"] == "flow" else (1, 1))
    for name, rule in _RULES.items():
        value = given[name]
        message = f"{name}: expected {rule.expected} but got {value!r}"
        # Python counts True as an integer
        is_other_bool = isinstance(value, bool) and bool not in rule.types
        if is_other_bool or not isinstance(value, rule.types):
            raise TypeError(message)
        if not rule.holds(value):
            raise ValueError(message)
    return Options(
        method=given["method"],
        depth=float(given["depth"]),
        init_scale=float(given["init_scale"]),
        max_iter=int(given["max_iter"]),
        tol=float(given["tol"]),
        validation_fraction=float(given["validation_fraction"]),
        centre=bool(given["centre"]),
        verbose=bool(given["verbose"]),
    )


def _check_depth(depth: Any, shape: tuple[int, int]) -> None:
    if check_depth(depth) == 1:
        raise ValueError(
            f"depth: expected a number > 1 or inf but got {depth!r}; plain gradient descent never "
            "moves unobserved entries"
        )
    if math.isinf(depth) and shape[0] != shape[1]:
        raise ValueError(
            f"depth: expected a finite number for X of shape {shape} but got {depth!r}; infinite "
            "depth keeps the row and column spaces of the start, and needs a square X"
        )
