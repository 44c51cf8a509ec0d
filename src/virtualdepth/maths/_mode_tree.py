"""Tensors as trees of matrices: canonical polyadic (one node) and hierarchical factorisations.

The modes of a tensor, its axes, are the leaves of a tree in which every node has the same number of
children. Factors are listed from the leaves up: one (R_parent, d) for each mode, then one
(R_parent, R) for each inner node, level by level; the last is the top's, (1, R). Features of a node
are (..., R_parent).

Source: Razin, Maman, Cohen, arXiv 2201.11729, section 3.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import mul
from typing import TypeVar

import torch
from torch import Tensor

Node = tuple[int, ...]
"""The modes below a node, in order."""

T = TypeVar("T")


def mode_tree(order: int, branching: int) -> list[list[Node]]:
    """List the nodes of a tree of ``order`` modes, level by level from the leaves up.

    Returns:
        The levels; the first holds the modes, the last the top.

    Raises:
        ValueError: if ``order`` is no positive power of ``branching``.
    """
    levels: list[list[Node]] = [[(mode,) for mode in range(order)]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        if branching < 2 or len(below) % branching:
            raise ValueError(
                f"shape: expected a power of the branching, {branching}, of axes but got {order}"
            )
        levels.append([sum(group, ()) for group in _groups(below, branching)])
    return levels


def _groups(nodes: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut a level into the children of each node above."""
    return [nodes[start : start + size] for start in range(0, len(nodes), size)]


def _khatri_rao(first: Tensor, second: Tensor) -> Tensor:
    """Multiply each row of (a, R) by each of (b, R), entry by entry: (a b, R)."""
    return (first.unsqueeze(1) * second).flatten(0, 1)


def _below_the_top(
    features: Sequence[Tensor],
    inner: Sequence[Tensor],
    branching: int,
    merge: Callable[[Tensor, Tensor], Tensor],
) -> Sequence[Tensor]:
    """Go up the tree to the features of the top's children."""
    weights = iter(inner)
    while len(features) > branching:
        features = [
            reduce(merge, children) @ next(weights).mT for children in _groups(features, branching)
        ]
    return features


def tensor_entries(factors: Sequence[Tensor], indices: Tensor, branching: int) -> Tensor:
    """Compute the entries at indices (..., order) of the tensor of a tree, (...)."""
    leaves, inner = factors[: indices.shape[-1]], factors[indices.shape[-1] :]
    features = [
        torch.nn.functional.embedding(indices[..., mode], leaf.mT)
        for mode, leaf in enumerate(leaves)
    ]
    children = _below_the_top(features, inner, branching, mul)
    return reduce(mul, children) @ inner[-1].squeeze(0)


def full_tensor(factors: Sequence[Tensor], order: int, branching: int) -> Tensor:
    """Compute the tensor of a tree, (d_1, ..., d_order)."""
    leaves, inner = factors[:order], factors[order:]
    children = _below_the_top([leaf.mT for leaf in leaves], inner, branching, _khatri_rao)
    # two halves of the modes: all of them at once would need R times the size of the tensor
    left, right = (
        reduce(_khatri_rao, half)
        for half in (children[: branching // 2], children[branching // 2 :])
    )
    return ((left * inner[-1]) @ right.mT).reshape([leaf.shape[-1] for leaf in leaves])


def component_vectors(
    factors: Sequence[Tensor], order: int, branching: int
) -> dict[Node, list[Tensor]]:
    """List the vectors of every inner node's local components, K matrices (R, ...) for each.

    Returns:
        Node -> rows of the children's factors, and columns of the node's. Row r of each of the K
        belongs to component r.
    """
    levels = mode_tree(order, branching)
    factor_of = iter(factors)
    below = [next(factor_of) for _ in levels[0]]
    found = {}
    for level in levels[1:]:
        own = [next(factor_of) for _ in level]
        for node, children, factor in zip(level, _groups(below, branching), own, strict=True):
            found[node] = [*children, factor.mT]
        below = own
    return found
