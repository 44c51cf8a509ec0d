"""The chain of layers of a linear network: their widths, and whether they fit."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from operator import index

from torch import Tensor

from virtualdepth.maths._checks import check_matrix


def layer_sizes(
    in_features: int,
    out_features: int,
    depth: int,
    hidden_features: int | Sequence[int] | None = None,
) -> list[int]:
    """List the N + 1 widths of an N-layer linear network, from input to output.

    ``hidden_features`` is one width for all hidden layers, or N - 1 widths, none below min(m, n).

    Returns:
        in_features, the hidden widths, out_features.

    Raises:
        TypeError: if depth or a width is not an integer.
        ValueError: if depth is not a positive integer, or a width is too small, or their number is
            wrong.

    >>> layer_sizes(10, 6, 3)
    [10, 6, 6, 6]
    """
    depth = check_integer_depth(depth)
    for name, width in (("in_features", in_features), ("out_features", out_features)):
        if _width(width, name) < 1:
            raise ValueError(f"{name}: expected a width >= 1 but got {width}")
    narrowest = min(in_features, out_features)
    if hidden_features is None:
        hidden_features = narrowest
    if not isinstance(hidden_features, Sequence):
        hidden_features = [hidden_features] * (depth - 1)
    hidden = [_width(width, "hidden_features") for width in hidden_features]
    if len(hidden) != depth - 1:
        raise ValueError(
            f"hidden_features: expected one width or {depth - 1} widths for depth {depth} but got "
            f"{len(hidden)}"
        )
    if any(width < narrowest for width in hidden):
        raise ValueError(
            "hidden_features: expected widths >= min(in_features, out_features) = "
            f"{narrowest}, else the product cannot reach every matrix, but got {hidden}"
        )
    return [in_features, *hidden, out_features]


def _width(width: int, name: str) -> int:
    """Return a width as an integer; refuse anything else by ``name``."""
    try:
        return index(width)
    except TypeError:
        raise TypeError(f"{name}: expected an integer width but got {width!r}") from None


def check_integer_depth(depth: float) -> int:
    """Return an integer depth >= 1; refuse anything else."""
    expected = f"depth: expected an integer >= 1 for an explicit network but got {depth!r}"
    if isinstance(depth, bool) or not isinstance(depth, Real):
        raise TypeError(expected)
    if not depth >= 1 or depth % 1 != 0:
        raise ValueError(
            f"{expected}; real and infinite depth exist for one matrix only (EndToEndSGD)"
        )
    return int(depth)


def check_some(factors: Sequence[Tensor]) -> None:
    """Refuse a network without layers."""
    if len(factors) == 0:
        raise ValueError("factors: expected at least one matrix but got none")


def check_chain(factors: Sequence[Tensor]) -> None:
    """Refuse factors that are not matrices, or that cannot be multiplied in their order."""
    check_some(factors)
    for number, factor in enumerate(factors, start=1):
        check_matrix(factor, f"factors, W_{number}")
    for number, (before, after) in enumerate(pairwise(factors), start=1):
        if after.shape[-1] != before.shape[-2]:
            raise ValueError(
                f"factors: expected W_{number + 1} with as many columns as W_{number} has rows, "
                f"{before.shape[-2]}, but got {tuple(after.shape)} after {tuple(before.shape)}; "
                "W_1, the layer applied first, comes first"
            )
