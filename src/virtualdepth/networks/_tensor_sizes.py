"""What factorised tensors require of their sizes and dtype."""

from collections.abc import Sequence
from operator import index
from typing import Any, NoReturn

import torch


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape of two axes or more; refuse others."""
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        _refuse_type(shape, "shape", "a sequence of integers")
    if len(shape) < 2:
        raise ValueError(f"shape: expected two axes or more but got {tuple(shape)}")
    return tuple(size_of(size, "shape") for size in shape)


def checked_widths(widths: int | Sequence[int], levels: int) -> tuple[int, ...]:
    """Return one width for each level of inner nodes; refuse others."""
    if not isinstance(widths, Sequence):
        widths = [widths] * levels
    if len(widths) != levels:
        raise ValueError(
            f"widths: expected one number, or {levels}, from the leaves to the top, but got "
            f"{len(widths)}"
        )
    return tuple(size_of(width, "widths") for width in widths)


def check_dtype(dtype: torch.dtype | None) -> None:
    """Refuse a dtype that no Gaussian can be drawn in."""
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype: expected a real floating-point dtype but got {dtype}")


def size_of(size: Any, name: str) -> int:
    """Return an integer >= 1; refuse anything else by ``name``."""
    if isinstance(size, bool):
        _refuse_type(size, name, "an integer")
    try:
        checked = index(size)
    except TypeError:
        _refuse_type(size, name, "an integer")
    if checked < 1:
        raise ValueError(f"{name}: expected integers >= 1 but got {size!r}")
    return checked


def _refuse_type(value: Any, name: str, expected: str) -> NoReturn:
    raise TypeError(f"{name}: expected {expected} but got {value!r}") from None
