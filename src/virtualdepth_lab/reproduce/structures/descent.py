"""Descent by ``EndToEndSGD`` on one structured weight."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from virtualdepth.maths import StructureName
from virtualdepth.optim import EndToEndSGD


def descend_by_rule(
    weight: Tensor,
    gradient: Callable[[Tensor], Tensor],
    *,
    lr: float,
    depth: float,
    structure: StructureName = "matrix",
    imbalance: float = 0.0,
    momentum: float = 0.0,
) -> Iterator[Tensor]:
    """Yield W before every step, without end, each time the same tensor; ``gradient`` is dl/dW."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = EndToEndSGD(
        [parameter],
        lr=lr,
        depth=depth,
        momentum=momentum,
        structure=structure,
        imbalance=imbalance,
    )
    while True:
        yield parameter.detach()
        parameter.grad = gradient(parameter.detach())
        optimizer.step()
