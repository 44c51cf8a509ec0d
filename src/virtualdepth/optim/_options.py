"""What the options of a parameter group may be."""

from collections.abc import Mapping
from math import isfinite
from numbers import Real
from typing import Any

from torch import Tensor

from virtualdepth.maths import check_depth, check_rtol
from virtualdepth.optim._solvers import SOLVERS, check_solver

STEP_SCALES = ("raw", "unit", "rms", "auto")
ORIGINS = (None, "init")
SCHEMES = ("auto", "gram", "gather", "owner")

# keys of a group that are not options of ours: torch's own, those that schedulers and loggers
# leave in groups which a user then hands to a new optimizer, and what a group remembers
_OTHER_KEYS = frozenset(
    {"params", "param_names", "name", "matrix_counts", "rms_mean", "rms_steps"}
    | {"auto_losses", "auto_squares", "auto_changes", "auto_largest", "auto_wait", "auto_backs"}
    | {"initial_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum"}
)


def check_options(group: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse a group with an unknown option or a value out of range.

    Args:
        group: option -> value, complete.
        known: the optimizer's options, with their defaults.

    Raises:
        TypeError: if an option is unknown or a value is of the wrong type.
        ValueError: if a value is out of range.
    """
    unknown = sorted(set(group) - set(known) - _OTHER_KEYS)
    if unknown:
        raise TypeError(f"expected options among {sorted(known)} but got {unknown}")
    check_depth_options(group)
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError(f"lr: expected a number or 1-element tensor but got {tuple(lr.shape)}")
    for name in ("lr", "momentum", "weight_decay"):
        _check_not_negative(name, group[name])
    _check_finite("dampening", group["dampening"])
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError(
            "nesterov: expected momentum > 0 and dampening 0 but got "
            f"momentum={group['momentum']!r}, dampening={group['dampening']!r}"
        )


def check_depth_options(group: Mapping[str, Any]) -> None:
    """Refuse values of the options that torch.optim.SGD does not have; they may change at any time.

    Args:
        group: option -> value, complete.

    Raises:
        TypeError: if a value is of the wrong type.
        ValueError: if a value is out of range.
    """
    check_depth(group["depth"])
    check_rtol(group["rtol"])
    _check_choice("step_scale", group["step_scale"], STEP_SCALES)
    _check_choice("solver", group["solver"], SOLVERS)
    _check_choice("scheme", group.get("scheme", "auto"), SCHEMES)
    _check_choice("origin", group.get("origin"), ORIGINS)
    _check_positive("origin_scale", group.get("origin_scale", 1e-3))
    _check_positive("cap", group["cap"])
    check_solver(group)
    for name in ("conv_groups", "blocks"):
        count = group.get(name, 1)
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}: expected an integer >= 1 but got {count!r}")
    if not isinstance(group.get("transposed", False), bool):
        raise TypeError(f"transposed: expected True or False but got {group['transposed']!r}")


def check_target_options(group: Mapping[str, Any], on: str) -> None:
    """Refuse options that an optimizer of another class cannot follow once it has depth.

    Args:
        group: option -> value.
        on: what depth acts on, "gradient" or "update".

    Raises:
        ValueError: if the group asks for such an option.
    """
    scale = group["step_scale"]
    if group["solver"] in {"layers", "tracked"}:
        raise ValueError(
            f"solver: expected 'auto', 'svd' or 'polar' but got {group['solver']!r}, which keeps "
            "a state of its own, where another optimizer has its; use EndToEndSGD"
        )
    if scale == "auto":
        raise ValueError(
            "step_scale: expected 'raw', 'unit' or 'rms' but got 'auto', which chooses the whole "
            "step and leaves none to another optimizer; use EndToEndSGD"
        )
    if on == "update" and scale == "rms":
        raise ValueError(
            "step_scale: expected 'raw' or 'unit' with on='update' but got 'rms', which is a rule "
            "for gradients"
        )
    if on == "gradient" and scale == "unit" and not isinstance(group.get("lr"), Real | Tensor):
        raise ValueError(
            "step_scale: expected 'raw' or 'rms' with an optimizer without a learning rate but got "
            "'unit', whose cap needs one"
        )
    if group.get("origin") is not None:
        raise ValueError(
            f"origin: expected None but got {group['origin']!r}, which is an option of EndToEndSGD"
        )


def plain_number(value: Any) -> Any:
    """Turn a number of another library into a float, which any checkpoint reader accepts.

    Args:
        value: anything.

    Returns:
        ``value``, or its float if it is a real number of no type of Python's own.

    >>> from fractions import Fraction
    >>> plain_number(Fraction(3, 2)), plain_number(3), plain_number("raw")
    (1.5, 3, 'raw')
    """
    foreign = isinstance(value, Real) and type(value) not in {bool, int, float}
    return float(value) if foreign else value


def _check_finite(name: str, value: Any) -> None:
    if not isinstance(value, Real | Tensor):
        raise TypeError(f"{name}: expected a number but got {value!r}")
    if not isfinite(value):
        raise ValueError(f"{name}: expected a finite number but got {value!r}")


def _check_not_negative(name: str, value: Any) -> None:
    _check_finite(name, value)
    if value < 0:
        raise ValueError(f"{name}: expected a number >= 0 but got {value!r}")


def _check_positive(name: str, value: Any) -> None:
    _check_finite(name, value)
    if value <= 0:
        raise ValueError(f"{name}: expected a number > 0 but got {value!r}")


def _check_choice(name: str, value: object, choices: tuple[str | None, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices} but got {value!r}")
