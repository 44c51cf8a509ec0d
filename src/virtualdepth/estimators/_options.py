"""What the estimator's options may be."""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from virtualdepth.maths import check_depth


def check_options(options: dict[str, Any], shape: tuple[int, int]) -> None:
    """Refuse what has no meaning, before anything is computed.

    Args:
        options: of MatrixCompletion, by name.
        shape: of X.

    Raises:
        TypeError: if an option is of the wrong type.
        ValueError: if an option is out of range, or infinite depth meets a rectangular X.
    """
    _check_depth(options["depth"], shape)
    _check_real("init_scale", options["init_scale"], "a finite number > 0", _positive)
    for name in ("tol", "validation_fraction"):
        _check_real(name, options[name], "a number >= 0 and < 1", _below_one)
    steps = options["max_iter"]
    if isinstance(steps, bool) or not isinstance(steps, Integral):
        raise TypeError(f"max_iter: expected an integer >= 1 but got {steps!r}")
    if steps < 1:
        raise ValueError(f"max_iter: expected an integer >= 1 but got {steps!r}")
    for name in ("centre", "warm_start"):
        if not isinstance(options[name], (bool, np.bool_)):
            raise TypeError(f"{name}: expected True or False but got {options[name]!r}")
    if not isinstance(options["verbose"], (bool, np.bool_, Integral)):
        raise TypeError(
            f"verbose: expected True, False or an integer but got {options['verbose']!r}"
        )


def _check_depth(depth: Any, shape: tuple[int, int]) -> None:
    if check_depth(depth) == 1:
        raise ValueError(
            f"depth: expected a number > 1 or inf but got {depth!r}; plain gradient descent leaves "
            "unobserved entries where they start"
        )
    if math.isinf(depth) and shape[0] != shape[1]:
        raise ValueError(
            f"depth: expected a finite number for X of shape {shape} but got {depth!r}; infinite "
            "depth freezes the row and column spaces of the start, and needs a square X"
        )


def _check_real(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected {expected} but got {value!r}")
    if not holds(float(value)):
        raise ValueError(f"{name}: expected {expected} but got {value!r}")


def _below_one(value: float) -> bool:
    return 0 <= value < 1


def _positive(value: float) -> bool:
    return 0 < value < math.inf
