"""The ways of training a network to low rank that rank_networks.py compares."""

from collections.abc import Callable
from typing import Any

import torch
from networks_common import Data
from rank_problems import Problem
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import virtualdepth as vd
from virtualdepth.maths import thin_svd

Thinnable = nn.Linear | nn.Conv2d
Make = Callable[[nn.Module, float, float], Any]
Range = tuple[float, float]


def is_thinnable(module: nn.Module) -> bool:
    """Tell whether vd.factorize can make a pair of thin layers of it."""
    pixel = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
    return pixel or isinstance(module, nn.Linear)


def weights(model: nn.Module) -> list[nn.Parameter]:
    """Those of layers that can be thinned."""
    return [module.weight for module in model.modules() if is_thinnable(module)]


class Pair(nn.Sequential):
    """Two layers of full width without a bias between."""

    def __init__(self, layer: Thinnable) -> None:
        m, n = layer.weight.shape[:2]
        one = {} if isinstance(layer, nn.Linear) else {"kernel_size": 1}
        first = type(layer)(n, min(m, n), bias=False, **one)
        super().__init__(first, type(layer)(min(m, n), m, **one))

    def merge_into(self, layer: Thinnable) -> None:
        first, last = self[0].weight.flatten(1), self[1].weight.flatten(1)
        layer.weight.copy_((last @ first).view_as(layer.weight))
        layer.bias.copy_(self[1].bias)


def exchanged(model: nn.Module, kind: Callable[[nn.Module], bool], make: Any) -> nn.Module:
    """Put others in the place of modules of a kind."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if kind(child):
                setattr(parent, name, make(child))
    return model


def paired(model: nn.Module) -> nn.Module:
    return exchanged(model, is_thinnable, Pair)


@torch.no_grad()
def merged(model: nn.Module, plain: nn.Module) -> nn.Module:
    """Multiply the pairs of a model out, into the layers of a plain one."""
    pairs = [module for module in model.modules() if isinstance(module, Pair)]
    layers = [module for module in plain.modules() if is_thinnable(module)]
    own = dict(zip(pairs, layers, strict=True))
    for pair, layer in own.items():
        pair.merge_into(layer)
    return exchanged(model, own.__contains__, own.__getitem__)


class Nuclear(torch.optim.AdamW):
    """AdamW without decay, and a nuclear-norm penalty on every matrix that can be thinned.

    By its proximal step after each step, which takes rate times penalty off the singular values; or
    by its subgradient, as in a loss with the penalty.
    """

    def __init__(self, model: nn.Module, lr: float, penalty: float, proximal: bool) -> None:
        super().__init__(model.parameters(), lr, weight_decay=0.0)
        self.matrices, self.penalty, self.proximal = weights(model), penalty, proximal

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        if not self.proximal:
            for weight in self.matrices:
                u, _, vh = thin_svd(weight.flatten(1))
                weight.grad.add_((u @ vh).view_as(weight), alpha=self.penalty)  # type: ignore[union-attr]
        super().step(closure)
        threshold = self.param_groups[0]["lr"] * self.penalty
        for weight in self.matrices if self.proximal else ():
            u, sigma, vh = thin_svd(weight.flatten(1))
            weight.copy_(((u * (sigma - threshold).clamp_min(0)) @ vh).view_as(weight))


def nuclear(proximal: bool) -> Make:
    return lambda model, lr, penalty: Nuclear(model, lr, penalty, proximal)


def sgd(model: nn.Module, lr: float, decay: float) -> Any:
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=decay)


def adamw(model: nn.Module, lr: float, decay: float) -> Any:
    return torch.optim.AdamW(model.parameters(), lr, weight_decay=decay)


def has_depth(name: str, module: nn.Module, parameter: Tensor) -> bool:
    return is_thinnable(module) and parameter.ndim > 1


def end_to_end(depth: int) -> Make:
    def make(model: nn.Module, lr: float, decay: float) -> Any:
        groups = vd.param_groups(model, depth=depth, include=has_depth)
        options: dict[str, Any] = {"step_scale": "unit", "precondition_frequency": 10}
        return vd.EndToEndSGD(groups, lr=lr, momentum=0.9, weight_decay=decay, **options)

    return make


def deep_adamw(depth: int) -> Make:
    def make(model: nn.Module, lr: float, decay: float) -> Any:
        options: dict[str, Any] = {"on": "update", "step_scale": "unit"}
        options |= {"model": model, "include": has_depth, "precondition_frequency": 10}
        return vd.with_depth(adamw(model, lr, decay), depth, **options)

    return make


FACTORS = "factors"
# with the ranges of the rate and of the decay or penalty
WAYS: dict[str, tuple[Make, Range, Range]] = {
    "SGD": (sgd, (0.01, 0.3), (1e-5, 1e-2)),
    "AdamW": (adamw, (3e-4, 1e-2), (1e-3, 3.0)),
    "AdamW, nuclear, proximal": (nuclear(True), (3e-4, 1e-2), (1e-3, 3.0)),
    "AdamW, nuclear in the loss": (nuclear(False), (3e-4, 1e-2), (1e-5, 1e-1)),
    FACTORS: (adamw, (3e-4, 1e-2), (1e-3, 3.0)),
    "EndToEndSGD, depth 2": (end_to_end(2), (0.01, 1.0), (1e-5, 1e-2)),
    "EndToEndSGD, depth 3": (end_to_end(3), (0.01, 1.0), (1e-5, 1e-2)),
    "with_depth, depth 2": (deep_adamw(2), (3e-4, 3e-2), (1e-3, 3.0)),
    "with_depth, depth 3": (deep_adamw(3), (3e-4, 3e-2), (1e-3, 3.0)),
}


def trained(
    problem: Problem, way: str, lr: float, penalty: float, seed: int, data: Data, epochs: int
) -> nn.Module:
    torch.manual_seed(seed)
    model = problem.network()
    if way == FACTORS:
        model = paired(model)
    optimizer = WAYS[way][0](model, lr, penalty)
    steps = epochs * (len(data[1]) // problem.batch)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(data[1]), generator=generator)
        for batch in order.split(problem.batch):
            optimizer.zero_grad()
            scores = model(data[0][batch])
            cross_entropy(scores.flatten(0, -2), data[1][batch].flatten()).backward()
            optimizer.step()
            scheduler.step()
    model = merged(model, problem.network()) if way == FACTORS else model
    return model.eval()
