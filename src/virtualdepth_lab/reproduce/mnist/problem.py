"""The convolutional network of TensorFlow's MNIST tutorial, with plain or with deep dense layers.

Source: tensorflow/models, tutorials/image/mnist/convolutional.py (2018); arXiv 1802.06509, section
8 and its appendix on the experiments (two matrices in place of each dense layer's).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from virtualdepth.networks import DeepLinear
from virtualdepth.optim import EndToEndSGD, param_groups

DEPTH = 2
MOMENTUM, DECAY = 0.9, 5e-4  # the tutorial's; only the dense layers decay
DEVIATION = 0.1  # of every weight, before it is cut at two standard deviations
KEEP = 0.5  # of the hidden units, in training


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Widths of the network; the defaults are the tutorial's.

    Attributes:
        first: channels of the first convolution.
        second: channels of the second.
        hidden: units of the first dense layer.
    """

    first: int = 32
    second: int = 64
    hidden: int = 512


class Dense(nn.Module):
    """A dense layer: the matrix of a linear module without bias, plain or deep, and biases."""

    def __init__(self, linear: nn.Module, out_features: int) -> None:
        super().__init__()
        self.linear = linear
        self.bias = nn.Parameter(torch.full((out_features,), 0.1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (samples, n) to (samples, out_features)."""
        outputs: Tensor = self.linear(inputs) + self.bias
        return outputs


class ConvNet(nn.Module):
    """Two convolutions of 5 x 5, each with pooling, and two dense layers."""

    def __init__(
        self, convolutions: tuple[nn.Conv2d, nn.Conv2d], dense: tuple[Dense, Dense]
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.dense = nn.ModuleList(dense)

    def forward(self, images: Tensor, dropout: Tensor) -> Tensor:
        """Score images, (samples, 1, 28, 28); return (samples, 10).

        ``dropout``, (samples, hidden), multiplies the hidden units.
        """
        for convolution in self.convolutions:
            images = max_pool2d(relu(convolution(images)), 2)
        hidden = relu(self.dense[0](images.flatten(1)))
        scores: Tensor = self.dense[1](hidden * dropout)
        return scores


PLAIN = "plain"
DRAWN_START = "explicit, drawn start"
BALANCED_START = "explicit, balanced start"
VIRTUAL = "virtual"
NETWORKS = (PLAIN, DRAWN_START, BALANCED_START, VIRTUAL)


def network(kind: str, seed: int, sizes: Sizes) -> ConvNet:
    """Build one of ``NETWORKS``; ``PLAIN`` and ``VIRTUAL`` differ only by their optimizers.

    All have the convolutions of the plain network of this seed, and all but ``DRAWN_START`` compute
    its function. ``DRAWN_START`` puts a square matrix, drawn like the others, behind each dense
    layer's. ``BALANCED_START`` splits each dense layer's matrix into two balanced ones.
    """
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return nn.init.trunc_normal_(
            torch.empty(shape),
            std=DEVIATION,
            a=-2 * DEVIATION,
            b=2 * DEVIATION,
            generator=generator,
        )

    layers: list[nn.Module]
    kernels = drawn(sizes.first, 1, 5, 5), drawn(sizes.second, sizes.first, 5, 5)
    weights = drawn(sizes.hidden, 7 * 7 * sizes.second), drawn(10, sizes.hidden)
    added = drawn(sizes.hidden, sizes.hidden), drawn(10, 10)
    # modules draw a start of their own, which is replaced: leave the global generator as it was
    with torch.random.fork_rng(devices=[]):
        if kind == BALANCED_START:
            layers = [DeepLinear.from_weight(weight, DEPTH) for weight in weights]
        elif kind == DRAWN_START:
            layers = [_chain(*pair) for pair in zip(weights, added, strict=True)]
        else:
            layers = [_chain(weight) for weight in weights]
        first, second = _convolution(kernels[0], 0.0), _convolution(kernels[1], 0.1)
    dense = Dense(layers[0], sizes.hidden), Dense(layers[1], 10)
    return ConvNet((first, second), dense)


def _chain(*weights: Tensor) -> nn.Module:
    layers = [nn.Linear(weight.shape[1], weight.shape[0], bias=False) for weight in weights]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.copy_(weight)
    return nn.Sequential(*layers)


def _convolution(kernel: Tensor, bias: float) -> nn.Conv2d:
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 5, padding=2)
    with torch.no_grad():
        layer.weight.copy_(kernel)
    nn.init.constant_(layer.get_parameter("bias"), bias)
    return layer


def optimizer(kind: str, model: ConvNet, lr: float) -> torch.optim.Optimizer:
    """Return the tutorial's SGD, or for ``VIRTUAL`` EndToEndSGD with dense matrices of depth 2."""
    if kind == VIRTUAL:
        groups = param_groups(model.dense, DEPTH, weight_decay=DECAY)
        groups += param_groups(model.convolutions, 1)
        return EndToEndSGD(groups, lr=lr, momentum=MOMENTUM)
    plain: list[dict[str, Any]] = [
        {"params": model.dense.parameters(), "weight_decay": DECAY},
        {"params": model.convolutions.parameters()},
    ]
    return torch.optim.SGD(plain, lr=lr, momentum=MOMENTUM)
