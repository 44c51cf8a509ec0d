"""The networks of the MNIST rerun: parameters, starts, and the first step."""

import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d, relu

from virtualdepth.maths import balancedness
from virtualdepth_lab.reproduce.mnist.problem import (
    BALANCED_START,
    DRAWN_START,
    NETWORKS,
    PLAIN,
    VIRTUAL,
    ConvNet,
    Sizes,
    network,
    optimizer,
)

SMALL = Sizes(first=3, second=4, hidden=12)
PUBLISHED_PLAIN = (25 * 32 + 32) + (25 * 32 * 64 + 64) + (3136 * 512 + 512) + (512 * 10 + 10)


def matrices(model: ConvNet) -> list[list[torch.Tensor]]:
    return [[p for p in layer.parameters() if p.ndim == 2] for layer in model.dense]


@pytest.mark.parametrize("kind", NETWORKS)
def test_parameters(kind: str) -> None:
    count = sum(p.numel() for p in network(kind, 0, Sizes()).parameters())
    added = 512 * 512 + 10 * 10 if kind in (DRAWN_START, BALANCED_START) else 0
    assert count == PUBLISHED_PLAIN + added
    assert PUBLISHED_PLAIN == 1_663_370


@pytest.mark.parametrize("kind", NETWORKS)
def test_forward_is_the_tutorials(kind: str) -> None:
    model = network(kind, 1, SMALL)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 1, 28, 28, generator=generator)
    dropout = 2.0 * (torch.rand(5, 12, generator=generator) < 0.5)
    weights = [
        torch.linalg.multi_dot([*reversed(ms), torch.eye(ms[0].shape[1])]) for ms in matrices(model)
    ]
    x = images
    for convolution in model.convolutions:
        x = max_pool2d(relu(conv2d(x, convolution.weight, convolution.bias, padding=2)), 2)
    hidden = relu(x.reshape(5, -1) @ weights[0].T + model.dense[0].bias) * dropout
    expected = hidden @ weights[1].T + model.dense[1].bias
    torch.testing.assert_close(model(images, dropout), expected, rtol=1e-4, atol=1e-4)


def test_starts() -> None:
    models = {kind: network(kind, 2, Sizes()) for kind in NETWORKS}
    plain = matrices(models[PLAIN])
    for weight in (plain[0][0], models[DRAWN_START].dense[0].linear[1].weight):
        # a normal distribution of deviation .1 cut at two deviations
        assert weight.abs().max() <= 0.2
        assert float(weight.detach().std()) == pytest.approx(0.0880, rel=2e-2)
    for kind in (BALANCED_START, VIRTUAL):
        for (weight,), factors in zip(plain, matrices(models[kind]), strict=True):
            product = factors[-1] @ factors[0] if len(factors) == 2 else factors[0]
            torch.testing.assert_close(product, weight, rtol=0, atol=1e-5)
            assert all(defect < 1e-3 for defect in balancedness(factors))
    for model in models.values():
        for kernel, first in zip(model.convolutions, models[PLAIN].convolutions, strict=True):
            assert torch.equal(kernel.weight, first.weight)
        assert [kernel.bias.unique().item() for kernel in model.convolutions] == [
            0.0,
            pytest.approx(0.1),
        ]
        assert all(torch.all(layer.bias == 0.1) for layer in model.dense)


def root(square: torch.Tensor, rank: int) -> torch.Tensor:
    """The positive semidefinite root; what rounding left beyond the rank would show in it."""
    values, vectors = torch.linalg.eigh(square)
    return (vectors[:, -rank:] * values[-rank:].sqrt()) @ vectors[:, -rank:].T


@pytest.mark.parametrize("kind", NETWORKS)
def test_first_step(kind: str) -> None:
    """Decay acts on the dense layers alone, and depth on their matrices alone."""
    lr, decay = 0.1, 5e-4
    model = network(kind, 3, SMALL).double()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    optimizer(kind, model, lr).step()
    for name, p in model.named_parameters():
        start, grad = before[name], p.grad
        assert grad is not None
        decays = decay if name.startswith("dense") else 0.0
        if kind == VIRTUAL and name.endswith("linear.0.weight"):
            rank = min(start.shape)
            grad = root(start @ start.T, rank) @ grad + grad @ root(start.T @ start, rank)
            decays *= 2
        torch.testing.assert_close(
            p.detach(), start - lr * (grad + decays * start), rtol=0, atol=1e-10
        )
