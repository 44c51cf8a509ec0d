"""Turns of a basis, near pairs by themselves and all at once, against literal formulas."""

import numpy as np
import pytest
import torch
from tests.maths.matrices import gaussian, with_spectrum
from tests.optim.truth import preconditioned
from torch import Tensor

from virtualdepth.maths.jacobi import (
    MAX_RESIDUAL,
    exact_basis,
    precondition_in_basis,
    sweep,
    without_sweep,
)
from virtualdepth.maths.jacobi._blocks import NearTurn
from virtualdepth.maths.jacobi._rotation import Pairs

SPECTRA = {
    "spread": torch.linspace(1, 0.02, 64, dtype=torch.float64),
    "pairs": torch.linspace(1, 0.1, 32, dtype=torch.float64).repeat_interleave(2),
    "decades": torch.logspace(0, -3, 64, dtype=torch.float64),
}


def nearly_diagonal(*batch: int, size: int, off: float = 0.02) -> Tensor:
    noise = gaussian(*batch, size, size, seed=size)
    falling = torch.linspace(1, 0.1, size, dtype=torch.float64)
    return torch.diag_embed(falling.expand(*batch, size)) + off * (noise + noise.mT) / size**0.5


def identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def moved(kind: str, size: float, seed: int = 2) -> tuple[Tensor, Tensor]:
    """A matrix of a spectrum, and the same moved by a share of its length."""
    before = with_spectrum((64, 64), SPECTRA[kind], seed=1)
    change = gaussian(64, 64, seed=seed)
    return before, before + size * change / change.norm() * before.norm()


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("size", [3, 16, 17, 24, 40, 63, 64])
def test_near_pairs_turn_by_a_rotation_that_leaves_nothing_between_them(
    size: int, batch: tuple[int, ...], odd: bool
) -> None:
    before = nearly_diagonal(*batch, size=size)
    after = before.clone()
    near = NearTurn(after, odd=odd)
    rotation = near.before(identity(size).expand(*batch, -1, -1).clone())
    torch.testing.assert_close(
        rotation.mT @ rotation, identity(size).expand_as(rotation), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(rotation.mT @ before @ rotation, after, rtol=0, atol=1e-13)
    last = size - 8 * odd
    blocks = [slice(end - 16, end) for end in range(last, 15, -16)]
    for block in blocks:
        inside = after[..., block, block]
        diagonal = inside.diagonal(dim1=-2, dim2=-1)
        assert torch.equal(inside, torch.diag_embed(diagonal))
        assert (diagonal.diff() <= 0).all(), "not in falling order"
    if not blocks:
        assert torch.equal(after, before)


def test_both_kinds_of_turn_meet_all_neighbours() -> None:
    met = set()
    for odd in (False, True):
        between = nearly_diagonal(size=64)
        NearTurn(between, odd=odd)
        met |= {i for i in range(63) if between[i, i + 1] == 0}
    assert met == set(range(63))


def test_what_is_diagonal_already_does_not_turn() -> None:
    between = torch.diag(torch.linspace(2, 1, 32, dtype=torch.float64))
    rotation = NearTurn(between, odd=False).before(identity(32))
    assert torch.equal(rotation, identity(32))


@pytest.mark.parametrize("near", [None, False, True])
@pytest.mark.parametrize("size", [1e-5, 3e-3, 3e-2], ids=["first", "second", "fourth"])
def test_a_rotation_is_the_formula(size: float, near: bool | None) -> None:
    before, weight = moved("spread", size)
    rows = exact_basis(before).left.mT @ weight
    pairs = Pairs(rows)
    between = (rows @ rows.mT).numpy()
    between /= between.diagonal().max()
    turned = identity(64)
    if near is not None:
        pairs.turn_near(odd=near)
        within = torch.from_numpy(between.copy())
        turned = NearTurn(within, odd=near).before(turned)
        between = (turned.mT @ torch.from_numpy(between) @ turned).numpy()
    found = pairs.turn()
    gaps = np.subtract.outer(between.diagonal(), between.diagonal()).T
    off = between - np.diag(between.diagonal())
    turns = off * gaps / (gaps**2 + 36 * off**2 + 1e-58)
    square = np.mean(np.sum(turns**2, axis=1))
    assert found == pytest.approx(square**0.5, rel=1e-6)
    assert (square > 5e-6, square > 1e-3) == (size > 1e-3, size > 1e-2), "another order is tested"
    expected = np.eye(64) + turns
    if square > 5e-6:
        expected += turns @ turns / 2
    if square > 1e-3:
        expected -= turns @ turns @ turns @ turns / 8
    torch.testing.assert_close(
        pairs.rotation(), turned @ torch.from_numpy(expected), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("near", [None, True])
def test_a_rotation_is_orthogonal_to_the_sixth_power(near: bool | None) -> None:
    before, weight = moved("spread", 0.03)
    pairs = Pairs(exact_basis(before).left.mT @ weight)
    if near is not None:
        pairs.turn_near(odd=near)
    size = pairs.turn()
    rotation = pairs.rotation()
    defect = (rotation.mT @ rotation - identity(64)).norm() / 8
    assert size > 0.04
    assert defect < 20 * size**6


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize(("kind", "size"), [("spread", 0.01), ("pairs", 0.01), ("decades", 0.003)])
@pytest.mark.parametrize("depth", [2.0, 3.0])
def test_a_long_way_is_turned_in_several_sweeps(
    kind: str, size: float, depth: float, near: bool, odd: bool
) -> None:
    """Too far for one sweep, and not far enough for an SVD."""
    before, weight = moved(kind, size)
    basis, grad = exact_basis(before), gaussian(64, 64, seed=3)
    found = sweep(basis.left, basis.left.mT @ weight, depth, blocks_first=near, shifted=odd)
    assert found is not None
    assert found.residual <= MAX_RESIDUAL
    expected = torch.from_numpy(preconditioned(weight.numpy(), grad.numpy(), depth))
    direction = precondition_in_basis(found.basis, grad, depth)[0].direction
    assert float((direction - expected).norm() / expected.norm()) < 2e-4
    torch.testing.assert_close(found.basis.left @ found.basis.rows, weight, rtol=0, atol=1e-4)


def test_what_is_left_over_does_not_add_up() -> None:
    before, _ = moved("spread", 0.0)
    basis, weight = exact_basis(before), before
    step = 3e-3 * before.norm() * gaussian(64, 64, seed=5) / 64
    for number in range(30):
        change = basis.left.mT @ step
        weight = weight + step
        found = sweep(basis.left, basis.rows + change, 3.0, shifted=number % 2 == 1)
        assert found is not None
        basis = found.basis
        assert found.residual < 2e-4
    off = basis.rows @ basis.rows.mT - torch.diag(basis.lengths.square())
    assert off.norm() < 3e-4 * basis.lengths.square().norm()
    torch.testing.assert_close(basis.left @ basis.rows, weight, rtol=0, atol=1e-3)


def test_staying_measures_what_it_leaves() -> None:
    before, weight = moved("spread", 1e-3)
    basis = exact_basis(before)
    assert without_sweep(basis.left, basis.rows, 3.0).residual < 1e-12
    stayed = without_sweep(basis.left, basis.left.mT @ weight, 3.0)
    assert stayed.basis.left is basis.left
    assert not stayed.reorthogonalised
    assert 3e-4 < stayed.residual < 3e-3
    skewed = without_sweep(1.001 * basis.left, basis.rows, 3.0)
    assert skewed.residual == pytest.approx(2e-3, rel=1e-2)


@pytest.mark.parametrize("scale", [1e25, float("nan"), float("inf")])
def test_blocks_that_are_not_finite_are_refused(scale: float) -> None:
    weight = with_spectrum((64, 64), SPECTRA["spread"]).float()
    basis = exact_basis(weight)
    assert sweep(basis.left, scale * basis.rows, 3.0, blocks_first=True) is None
