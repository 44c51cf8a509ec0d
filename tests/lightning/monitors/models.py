"""A LightningModule around any network, and a callback that keeps what monitors should see."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from tests.lightning.conftest import Flavour
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

import virtualdepth as vd

F64 = torch.float64


def around(
    flavour: Flavour,
    network: nn.Module,
    optimizer: Callable[[Any], Optimizer] = lambda params: SGD(params, lr=0.05),
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
) -> Any:
    """A LightningModule that holds ``net`` and trains it on squared error."""

    def squared_error(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net(inputs) - targets).square().sum(-1).mean() / 2

    class Around(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return (loss or squared_error)(self.net, *batch)

        def configure_optimizers(self) -> Optimizer:
            return optimizer(self.parameters())

    return Around()


def deep(depth: int = 3, scale: float = 1.0, seed: int = 0) -> vd.DeepLinear:
    """A balanced 5 -> 3 network in float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, 5, generator=generator, dtype=F64) * scale / 5**0.5
    return vd.DeepLinear.from_weight(weight, depth)


def single(scale: float = 1.0, seed: int = 0, bias: bool = False) -> nn.Linear:
    """The layer that :func:`deep` multiplies out to."""
    linear = nn.Linear(5, 3, bias=bias, dtype=F64)
    with torch.no_grad():
        linear.weight.copy_(deep(1, scale, seed).end_to_end())
    return linear


def sequential(*widths: int, bias: bool = False, seed: int = 0) -> nn.Sequential:
    """Linear layers of the given widths, not balanced."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for columns, rows in pairwise(widths):
        layer = nn.Linear(columns, rows, bias=bias, dtype=F64)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(rows, columns, generator=generator) / columns**0.5)
        layers.append(layer)
    return nn.Sequential(*layers)


def rule(depth: float, lr: float = 0.05, **options: Any) -> Callable[[Any], Optimizer]:
    return lambda params: vd.EndToEndSGD(params, lr=lr, depth=depth, **options)


def spy(flavour: Flavour) -> Any:
    """Keeps every weight after every step, the start first, and every gradient before it."""

    class Spy(flavour.pl.Callback):
        def __init__(self) -> None:
            self.weights: list[dict[str, Tensor]] = []
            self.grads: list[dict[str, Tensor]] = []
            self.losses: list[Tensor] = []
            self._steps = -1

        def _keep(self, trainer: Any, module: Any) -> None:
            if trainer.global_step != self._steps:
                self._steps = trainer.global_step
                self.weights.append(
                    {name: value.detach().clone() for name, value in module.named_parameters()}
                )

        def on_train_start(self, trainer: Any, module: Any) -> None:
            self._keep(trainer, module)

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            self.grads.append(
                {name: value.grad.clone() for name, value in module.named_parameters()}
            )

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            self._keep(trainer, module)
            self.losses.append(outputs["loss"].clone())

    return Spy()


def product(weights: dict[str, Tensor], *names: str) -> Tensor:
    """Multiply the layers of those names, the one applied first first."""
    result = weights[names[0]]
    for name in names[1:]:
        result = weights[name] @ result
    return result


def gradient(weight: Tensor, data: tuple[Tensor, Tensor]) -> Tensor:
    """The gradient of the squared error by the end-to-end matrix, by its formula."""
    inputs, targets = data
    return (weight @ inputs.T - targets.T) @ inputs / len(inputs)
