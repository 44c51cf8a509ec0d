"""The options of a parameter group: one table, which everything that asks for options reads."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from math import inf, isfinite
from numbers import Integral, Real
from operator import is_
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from virtualdepth.maths import STRUCTURES, check_depth, check_imbalance, check_rtol
from virtualdepth.optim._matrices import Group, Seen, check_whole, matrices, seen
from virtualdepth.optim._origin import check_origin
from virtualdepth.optim.solvers import DEFAULT, SOLVERS
from virtualdepth.optim.step_scales import STEP_SCALES

OriginName = Literal["init"]
SchemeName = Literal["auto", "gram", "gather", "owner"]
OnName = Literal["gradient", "update"]

# a key of a group that is so much like an option's name is taken for a misspelt one
_ALMOST = 0.85


class Option(NamedTuple):
    """What an option of a group is."""

    default: Any
    check: Callable[[str, Any], object]  # (name, value): refuses a value by itself
    # whether torch.optim.SGD has it too: another optimizer may give the name another meaning
    of_torch: bool = False
    # whether it has to be the same on all processes that hold parts of parameters
    agreed: bool = True
    # whether it says how a parameter is seen as matrices; `param_groups` writes these
    is_view: bool = False


def _number(name: str, value: Any) -> None:
    if not isinstance(value, Real | Tensor):
        raise TypeError(f"{name}: expected a number but got {value!r}")
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(
            f"{name}: expected a number or 1-element tensor but got {tuple(value.shape)}"
        )
    if not isfinite(value):
        raise ValueError(f"{name}: expected a finite number but got {value!r}")


def _not_negative(name: str, value: Any) -> None:
    _number(name, value)
    if value < 0:
        raise ValueError(f"{name}: expected a number >= 0 but got {value!r}")


def _positive(name: str, value: Any) -> None:
    _number(name, value)
    if value <= 0:
        raise ValueError(f"{name}: expected a number > 0 but got {value!r}")


def _count(name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected an integer >= 1 but got {value!r}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, int) or value not in (False, True):
        raise TypeError(f"{name}: expected True or False but got {value!r}")


def _anything(name: str, value: Any) -> None:
    """Leave the check to what uses the option."""


def _one_of(choices: tuple[str | None, ...]) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise ValueError(f"{name}: expected one of {choices} but got {value!r}")

    return check


OPTIONS: Mapping[str, Option] = {
    "lr": Option(1e-3, _not_negative, of_torch=True),
    "depth": Option(2, lambda name, value: check_depth(value, name)),
    "momentum": Option(0, _not_negative, of_torch=True),
    "dampening": Option(0, _number, of_torch=True),
    "weight_decay": Option(0, _not_negative, of_torch=True),
    "nesterov": Option(False, _flag, of_torch=True),
    "maximize": Option(False, _flag, of_torch=True),
    "step_scale": Option("raw", _one_of(tuple(STEP_SCALES))),
    "cap": Option(0.05, _positive),
    "solver": Option(DEFAULT, _one_of(tuple(SOLVERS))),
    "rtol": Option(None, lambda _, value: check_rtol(value)),
    "structure": Option("matrix", _one_of(tuple(STRUCTURES))),
    "imbalance": Option(0.0, lambda _, value: check_imbalance(value)),
    "precondition_frequency": Option(1, _count),
    "origin": Option(None, _one_of((None, *get_args(OriginName)))),
    "origin_scale": Option(1e-3, _positive, agreed=False),
    "scheme": Option("auto", _one_of(get_args(SchemeName))),
    "hidden_features": Option(None, _anything, agreed=False),
    "conv_groups": Option(1, _count, is_view=True),
    "blocks": Option(1, _count, is_view=True),
    "transposed": Option(False, _flag, is_view=True),
}

_TABLES: Mapping[str, Mapping[Any, Any]] = {"solver": SOLVERS, "step_scale": STEP_SCALES}

# schedulers change the learning rate at every step: it is compared by its type and range
_LIVE = tuple(name for name in OPTIONS if name != "lr")
# and what else of a group says how its parameters are seen
_WATCHED = (*_LIVE, "matrix_counts", "param_names")


def check_names(names: Iterable[str]) -> None:
    """Refuse names of options that there are none of."""
    unknown = sorted(set(names) - set(OPTIONS))
    if unknown:
        raise TypeError(
            f"got an unexpected keyword argument {unknown[0]!r}; expected options among "
            f"{sorted(OPTIONS)}"
        )


def check_keys(keys: Iterable[str], known: Iterable[str] = ()) -> None:
    """Refuse keys of a group that are misspelt options; others may be of another library."""
    for key in sorted(set(keys) - set(OPTIONS) - set(known)):
        for option in get_close_matches(key.lower(), OPTIONS, 1, _ALMOST):
            raise TypeError(
                f"{key}: expected an option, or a key of another library, but got what is almost "
                f"{option!r}; spell it so, or give the key another name"
            )


def check_values(group: Mapping[str, Any]) -> None:
    """Refuse values of options that are out of range, or do not go together."""
    check_depth_options(group)
    for name, option in OPTIONS.items():
        if option.of_torch:
            option.check(name, group[name])
    if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
        raise ValueError(
            "nesterov: expected momentum > 0 and dampening 0 but got "
            f"momentum={group['momentum']!r}, dampening={group['dampening']!r}"
        )


def check_depth_options(group: Mapping[str, Any]) -> None:
    """Refuse values of the options that torch.optim.SGD does not have; each has a default."""
    for name, option in OPTIONS.items():
        if not option.of_torch:
            option.check(name, group.get(name, option.default))
    solver = SOLVERS[group["solver"]]
    check_able(
        group,
        "step_scale",
        lambda scale: scale.needs <= solver.knows,
        where=f" with solver={group['solver']!r}",
        why=f"needs more of W than this solver finds out; use solver={DEFAULT!r}",
    )
    solver.check_options(group)
    check_imbalance(group.get("imbalance", 0.0), group["depth"])
    for name in ("structure", "precondition_frequency"):
        _check_taken(group, name)


def _check_taken(group: Mapping[str, Any], name: str) -> None:
    """Refuse an option that the group's solver or step scale cannot have."""
    default = OPTIONS[name].default
    value = group.get(name, default)
    if value == default:
        return
    options: tuple[Literal["solver", "step_scale"], ...] = ("solver", "step_scale")
    for option in options:
        each = _TABLES[option][group[option]]
        check_able(
            group,
            option,
            lambda able: name not in able.cannot,
            where=f" with {name}={value!r}",
            why=each.cannot.get(name, ""),
        )


def check_able(
    group: Mapping[str, Any],
    option: Literal["solver", "step_scale"],
    able: Callable[[Any], bool],
    *,
    where: str = "",
    why: str,
) -> None:
    """Refuse the solver, or the step scale, of a group if it is not able to do something."""
    table = _TABLES[option]
    if not able(table[group[option]]):
        possible = listed(name for name, each in table.items() if able(each))
        raise ValueError(
            f"{option}: expected {possible}{where} but got {group[option]!r}, which {why}"
        )


def listed(names: Iterable[str]) -> str:
    """List the values that an option may have.

    >>> listed(["raw", "unit", "rms"])
    "'raw', 'unit' or 'rms'"
    """
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last


def check_group(group: Group, number: int) -> None:
    """Refuse a group of EndToEndSGD whose options, or parameters, do not go together."""
    check_values(group)
    for matrix in matrices(group, number, {}, distributed=True):
        SOLVERS[group["solver"]].check(matrix)
        if group["origin"] is not None:
            check_origin(matrix)
    check_whole(group, number)
    STEP_SCALES[group["step_scale"]].check(group, number)


def _look(p: Tensor) -> tuple[Any, ...]:
    """Collect what of a parameter its checks depend on."""
    if is_lazy(p):  # its type changes when it gets a shape
        return (type(p),)
    # a frozen one is not checked
    strides = p.stride() if p.layout is torch.strided else ()
    return type(p), p.dtype, p.shape, strides, p.requires_grad or p.grad is not None


class Known(NamedTuple):
    """A group as it was last found to be good, and what follows from its options."""

    values: list[Any]  # compared by identity, which asks nothing of them
    looks: list[Any]
    has_tensors: bool  # among its options: they may have been written to
    seen: list[Seen]


# by the id of the group
Checked = dict[int, Known]


def check_changed(
    group: Group, number: int, checked: Checked, check: Callable[[Group, int], None]
) -> list[Seen]:
    """Check a group again if its options or parameters were changed since the last step."""
    lr, params = group.get("lr"), group["params"]
    values = [*map(group.get, _WATCHED), type(lr), *params]
    looks = [number, *map(_look, params)]
    known = checked.get(id(group))
    in_range = lr is None or (type(lr) in {float, int} and 0 <= lr < inf)
    if (
        known is None
        or known.has_tensors
        or not in_range
        or len(values) != len(known.values)
        or not all(map(is_, values, known.values))
        or looks != known.looks
    ):
        check(group, number)
        # torch multiplies by no fraction
        group.update({name: plain_number(group[name]) for name in OPTIONS if name in group})
        has_tensors = any(isinstance(group.get(name), Tensor) for name in _LIVE)
        known = checked[id(group)] = Known(values, looks, has_tensors, seen(group, number))
    return known.seen


def plain_number(value: Any) -> Any:
    """Turn a number of another library into Python's, which any checkpoint reader accepts.

    >>> from fractions import Fraction
    >>> plain_number(Fraction(3, 2)), plain_number(3), plain_number("raw")
    (1.5, 3, 'raw')
    >>> import numpy
    >>> plain_number(numpy.int64(3)), plain_number(numpy.float32(0.5))
    (3, 0.5)
    """
    if not isinstance(value, Real) or type(value) in {bool, int, float}:
        return value
    return int(value) if isinstance(value, Integral) else float(value)
