"""The direction in which one matrix descends, before momentum.

Source: arXiv 1802.06509, Theorem 1.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from virtualdepth.maths import end_to_end_gradient


def descent_direction(weight: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
    r"""Compute :math:`P_W(G) + N \lambda W`, at infinite depth with :math:`\lambda W` alone.

    Args:
        weight: W, (m, n), finite.
        grad: G, (m, n); with the group's ``maximize`` it counts as -G.
        group: the options; lambda is the ``weight_decay`` of each of the N layers.

    Returns:
        (m, n), in float32 at least, with autocast or without; the inputs are not written to.

    Source: arXiv 1802.06509, Theorem 1.

    >>> group = {"depth": 2, "rtol": None, "maximize": False, "weight_decay": 0.5}
    >>> descent_direction(torch.diag(torch.tensor([4.0, 9.0])), torch.ones(2, 2), group)
    tensor([[12.0000, 13.0000],
            [13.0000, 27.0000]])
    """
    depth = float(group["depth"])
    with _without_autocast(weight.device.type):
        direction = end_to_end_gradient(weight, grad, depth, group["rtol"]).direction
    if group["maximize"]:
        direction.neg_()
    if group["weight_decay"] != 0:
        layers = 1.0 if math.isinf(depth) else depth
        direction.add_(weight, alpha=layers * group["weight_decay"])
    return direction


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
