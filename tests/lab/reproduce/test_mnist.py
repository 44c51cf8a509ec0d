"""The networks of the MNIST rerun, their training, and what is made of the curves."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d, relu

from virtualdepth.maths import balancedness
from virtualdepth_lab.reproduce.mnist.claims import BEST, TUTORIAL, claims, rows, smoothed, summary
from virtualdepth_lab.reproduce.mnist.networks import (
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
from virtualdepth_lab.reproduce.mnist.training import Curve, best_rate, train

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


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(100, 1, 28, 28, generator=generator) - 0.5
    return images, torch.randint(0, 10, (100,), generator=generator)


def test_training_is_side_by_side(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    state = torch.get_rng_state()
    seen: list[int] = []
    pairs = [(kind, 0.01) for kind in NETWORKS] + [(PLAIN, 0.01), (PLAIN, 1e8)]
    curves = train(data, pairs, seed=0, steps=4, sizes=SMALL, on_step=seen.append)
    assert seen == [0, 1, 2, 3]
    assert torch.equal(torch.get_rng_state(), state)
    assert [(curve.kind, curve.lr) for curve in curves] == pairs
    plain, drawn, balanced, virtual, again, diverged = curves
    assert again.loss == plain.loss
    assert len(set(plain.loss)) == 4
    for same in (balanced, virtual):  # one function, one batch, the same units dropped
        assert same.loss[0] == pytest.approx(plain.loss[0], rel=1e-5)
        assert same.loss[3] != plain.loss[3]
    assert drawn.loss[0] != pytest.approx(plain.loss[0], rel=1e-5)
    assert len(diverged.loss) < 4
    assert all(map(math.isfinite, diverged.loss))
    for curve in curves:
        assert len(curve.cpu_seconds) == len(curve.wall_seconds) == len(curve.loss)


def test_other_seed_other_curve(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    first, second = (
        train(data, [(PLAIN, 0.01)], seed=seed, steps=2, sizes=SMALL, on_step=lambda _: None)[0]
        for seed in (0, 1)
    )
    assert first.loss != second.loss


@pytest.mark.parametrize("first", [1, 3, 8])
@pytest.mark.parametrize("lowest", [1, 3, 5, 8])
def test_best_rate_finds_the_valley(first: int, lowest: int) -> None:
    rates = (1, 3, 5, 8)
    found, losses = best_rate(lambda rate: abs(rate - lowest), rates, first)
    assert found == lowest
    near = {rates[i] for i in range(4) if abs(i - rates.index(lowest)) <= 1}
    assert near <= set(losses)


def test_best_rate_keeps_away_from_divergence() -> None:
    assert best_rate(lambda rate: math.inf if rate > 1 else 1 / rate, (0.1, 1, 10), 10)[0] == 1


@pytest.mark.parametrize("span", [1, 3, 50])
def test_smoothed(span: int) -> None:
    loss = [5.0, 3.0, 4.0, 1.0, 0.0, 2.0]
    expected = [np.mean(loss[max(0, i + 1 - span) : i + 1]) for i in range(len(loss))]
    np.testing.assert_allclose(smoothed(loss, span), expected, atol=1e-14)


def curve(kind: str, loss: list[float], parameters: int = 100, lr: float = 0.01) -> Curve:
    seconds = [0.5] * len(loss)
    return Curve(
        kind=kind,
        lr=lr,
        parameters=parameters,
        loss=loss,
        cpu_seconds=seconds,
        wall_seconds=[2 * second for second in seconds],
    )


def test_rows() -> None:
    plain = curve(PLAIN, [8.0, 6.0, 4.0, 2.0])  # ends at 3, the mean of its last two
    fast = curve(DRAWN_START, [8.0, 2.0, 2.0, 2.0])
    never = curve(VIRTUAL, [8.0, 8.0, 8.0, 8.0])
    gone = curve(BALANCED_START, [0.0])  # diverged; one low batch is no mean of two
    found = rows(BEST, [plain, fast, never, gone], 7, 4, 2)
    assert [row["loss"] for row in found] == [3.0, 2.0, 8.0, None]
    assert [row["steps_to_plain"] for row in found] == [4, 3, None, None]
    assert [row["cpu_to_plain"] for row in found] == [2.0, 1.5, None, None]
    assert found[1]["mean_loss"] == 3.5
    assert {(row["seed"], row["cpu_per_step"], row["wall_per_step"]) for row in found} == {
        (7, 0.5, 1.0)
    }


def test_a_plain_network_that_diverged_is_not_reached() -> None:
    gone, other = curve(PLAIN, [4.0, 9.0]), curve(DRAWN_START, [4.0, 3.0, 2.0])
    found = rows(BEST, [gone, other], 0, 3, 1)
    assert [row["steps_to_plain"] for row in found] == [None, None]
    assert [row["loss"] for row in found] == [None, 2.0]


def test_summary() -> None:
    plain = curve(PLAIN, [4.0, 2.0])
    measured = [
        row
        for seed, last in enumerate((1.0, 2.0, 3.0))
        for row in rows(BEST, [plain, curve(VIRTUAL, [4.0, last])], seed, 2, 1)
    ]
    first, second = summary(measured)
    assert (first["network"], second["network"]) == (PLAIN, VIRTUAL)
    assert (second["loss"], second["least"], second["greatest"]) == (2.0, 1.0, 3.0)
    assert second["steps_to_plain"] == 2  # 2, 2, never
    assert second["diverged"] == 0


def judged(explicit_hit: int, virtual_parameters: int, gap: float) -> list[bool]:
    """Judge runs of 40 steps in which the plain network ends at 1 and the explicit is sooner."""
    plain = curve(PLAIN, [2.0] * 39 + [1.0], 1000)
    sooner = [2.0] * (explicit_hit - 1) + [1.0] * (41 - explicit_hit)
    drawn = curve(DRAWN_START, sooner, 1150)
    others = [curve(BALANCED_START, [2.0] * 40, 1150), curve(VIRTUAL, sooner, virtual_parameters)]
    measured = rows(TUTORIAL, [plain, drawn], 0, 40, 1)
    measured += rows(BEST, [plain, drawn, *others], 0, 40, 1)
    twins = curve(VIRTUAL, [1.0 + gap] * 4), curve(BALANCED_START, [1.0] * 4)
    return [claim.held for claim in claims(measured, [twins])]


def test_claims() -> None:
    # parameters, two published, drawn, balanced, virtual in steps, in time, free, follows
    assert judged(4, 1000, 0.04) == [True, True, True, True, False, True, True, True, True]
    assert judged(5, 1000, -0.06) == [True, False, False, True, False, True, True, True, False]
    assert judged(40, 1150, 0.0) == [True, False, False, False, False, False, False, False, True]


def test_a_twin_that_diverged_follows_nothing() -> None:
    plain = curve(PLAIN, [2.0, 1.0])
    networks = [plain, *(curve(kind, [2.0, 1.0]) for kind in NETWORKS[1:])]
    measured = rows(TUTORIAL, networks[:2], 0, 2, 1) + rows(BEST, networks, 0, 2, 1)
    last = claims(measured, [(curve(VIRTUAL, [2.0]), curve(BALANCED_START, [2.0, 2.0]))])[-1]
    assert not last.held
    assert "diverged" in last.evidence
