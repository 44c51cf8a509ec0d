"""The convergence certificate against the theorem's formulas and runs, written literally."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from virtualdepth.maths import balanced_factors
from virtualdepth.theory import convergence_certificate

ONE = torch.ones(1, 1, dtype=torch.float64)


def pair(shape: tuple[int, int], distance: float) -> tuple[Tensor, Tensor]:
    """A target whose singular values go from 2 to 1, and a start at a given distance of it."""
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    u, s, vh = torch.linalg.svd(normal[0], full_matrices=False)
    target = u * torch.linspace(2, 1, len(s), dtype=torch.float64) @ vh
    return target + normal[1] * (distance / normal[1].norm()), target


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (1, 4)])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_formulas_of_the_theorem(shape: tuple[int, int], depth: int) -> None:
    start, target = pair(shape, 0.25)
    found = convergence_certificate(start, target, depth)
    phi, gap = target.numpy(), (start - target).numpy()
    c = np.linalg.svd(phi, compute_uv=False).min() - np.sqrt((gap**2).sum())
    norm, n = np.sqrt((phi**2).sum()), depth
    lr = c ** ((4 * n - 2) / n) / (6144 * n**3 * norm ** ((6 * n - 4) / n))
    assert found.holds
    assert found.margin == found.largest_margin == pytest.approx(c, rel=1e-10)
    assert found.delta == pytest.approx(c**2 / (256 * n**3 * norm ** (2 * (n - 1) / n)), rel=1e-10)
    assert found.max_lr == pytest.approx(lr, rel=1e-10)
    assert found.loss == pytest.approx((gap**2).sum() / 2, rel=1e-10)
    for eta in (lr, lr / 3):
        bound = math.log((gap**2).sum() / 2 / 1e-3) / (eta * c ** (2 * (n - 1) / n))
        count = found.iterations(1e-3, min(eta, found.max_lr))
        assert bound - 1e-9 * bound <= count <= bound * (1 + 1e-9) + 1


@pytest.mark.parametrize(
    ("depth", "lr", "bound", "used"),
    [(2, 1.48e-5, 534_215, 121_878), (3, 4.24e-6, 1_934_169, 285_359)],
)
def test_scalar_runs(depth: int, lr: float, bound: int, used: int) -> None:
    found = convergence_certificate(0.95 * ONE, ONE, depth, margin=0.9)
    assert found.max_lr == pytest.approx(lr, rel=5e-3)
    assert found.iterations(1e-6) == bound
    # the flow of equal layers, dw/dt = (1 - w^N) w^{N-1}, takes the time that the steps take
    where = np.linspace(0.95 ** (1 / depth), (1 - np.sqrt(2e-6)) ** (1 / depth), 200_001)
    time = np.trapezoid(1 / ((1 - where**depth) * where ** (depth - 1)), where)
    assert time / found.max_lr == pytest.approx(used, rel=2e-5)


def test_a_start_at_the_target_has_nothing_to_do() -> None:
    assert convergence_certificate(ONE, ONE, 2).iterations(1e-9) == 0
    assert convergence_certificate(0.95 * ONE, ONE, 2).iterations(1.0) == 0


def test_a_smaller_margin_allows_less() -> None:
    large, small = (convergence_certificate(0.95 * ONE, ONE, 3, margin=c) for c in (0.9, 0.5))
    assert small.max_lr < large.max_lr
    assert small.delta < large.delta
    assert small.iterations(1e-6) > large.iterations(1e-6)
    assert small.largest_margin == large.largest_margin == pytest.approx(0.95, rel=1e-12)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2)])
def test_no_margin(shape: tuple[int, int]) -> None:
    start, target = pair(shape, 1.0 + 1e-9)
    found = convergence_certificate(start, target, 2)
    assert not found.holds
    assert "no deficiency margin" in found.failures[0]
    assert (found.delta, found.max_lr) == (0.0, 0.0)
    with pytest.raises(ValueError, match="expected a start that the theorem covers"):
        found.iterations(1e-3)


def test_a_rank_deficient_target_has_no_margin() -> None:
    target = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert not convergence_certificate(target + 1e-9, target, 2).holds


@pytest.mark.parametrize("depth", [2, 4])
def test_balance_of_factors(depth: int) -> None:
    start, target = pair((3, 4), 0.25)
    factors = balanced_factors(start, depth, hidden_features=5)
    found = convergence_certificate(factors, target, depth)
    assert found.holds
    assert found.imbalance < 1e-12
    rescaled = [3 * factors[0], *factors[1:-1], factors[-1] / 3]
    found = convergence_certificate(rescaled, target, depth)
    defects = [
        np.linalg.norm((after.T @ after - before @ before.T).numpy())
        for before, after in pairwise(rescaled)
    ]
    assert found.imbalance == pytest.approx(max(defects), rel=1e-12)
    assert "out of balance" in found.failures[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.eye(2), torch.eye(3), 2), "expected the shape"),
        ((torch.eye(2).expand(4, 2, 2), torch.eye(2).expand(4, 2, 2), 2), "start: expected one"),
        (([torch.eye(2)] * 3, torch.eye(2), 2), "hidden_features: expected"),
        (([], torch.eye(2), 2), "factors: expected at least one"),
        ((torch.full((2, 2), math.nan), torch.eye(2), 2), "start: expected finite"),
        ((torch.eye(2), torch.eye(2), 1.5), "depth: expected an integer"),
    ],
)
def test_unusable(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convergence_certificate(*arguments)


@pytest.mark.parametrize("margin", [0.0, -1.0, 0.951, math.nan])
def test_a_margin_that_the_start_has_not(margin: float) -> None:
    with pytest.raises(ValueError, match="margin: expected 0 < c"):
        convergence_certificate(0.95 * ONE, ONE, 2, margin=margin)


def test_unusable_bounds() -> None:
    found = convergence_certificate(0.95 * ONE, ONE, 2)
    with pytest.raises(ValueError, match="lr: expected 0 < lr"):
        found.iterations(1e-3, 2 * found.max_lr)
    with pytest.raises(ValueError, match="epsilon: expected a loss > 0"):
        found.iterations(0.0)
