"""The alignment of gradients, and the matching of singular triples against scipy's assignment."""

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.optimize import linear_sum_assignment
from tests.maths.matrices import gaussian, orthonormal, with_spectrum
from torch import Tensor

from virtualdepth.maths import gradient_alignment, match_triples, thin_svd

SHAPES = [(1, 1), (1, 5), (4, 1), (3, 3), (4, 7), (7, 4), (30, 20)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_alignment_against_scipy(shape: tuple[int, int], batch: tuple[int, ...]) -> None:
    weight, grad = gaussian(*batch, *shape, seed=1), gaussian(*batch, *shape, seed=2)
    diagonal, beside = gradient_alignment(weight, grad)
    assert diagonal.shape == beside.shape == batch
    flat = zip(weight.reshape(-1, *shape).numpy(), grad.reshape(-1, *shape).numpy(), strict=True)
    expected = []
    for w, g in flat:
        u, _, vh = scipy.linalg.svd(w, full_matrices=False, lapack_driver="gesvd")
        core = abs(u.T @ g @ vh.T)
        k = len(core)
        others = core[~np.eye(k, dtype=bool)]
        expected.append((core.diagonal().mean(), others.mean() if k > 1 else 0.0))
    found = torch.stack([diagonal.flatten(), beside.flatten()], dim=-1).tolist()
    for pair, truth in zip(found, expected, strict=True):
        assert pair == pytest.approx(truth, rel=1e-10)


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (7, 4)])
def test_gradient_in_the_singular_basis_has_nothing_beside_the_diagonal(
    shape: tuple[int, int],
) -> None:
    weight = with_spectrum(shape, torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    u, _, vh = thin_svd(weight)
    slopes = torch.tensor([1.0, -2.0, 6.0], dtype=torch.float64)
    diagonal, beside = gradient_alignment(weight, u[:, :3] * slopes @ vh[:3])
    assert diagonal.item() == pytest.approx(3, rel=1e-12)
    assert beside.item() < 1e-14


def test_zero_singular_values_are_left_out_down_to_rtol() -> None:
    weight = torch.diag(torch.tensor([1.0, 1e-3, 0.0], dtype=torch.float64))
    grad = torch.diag(torch.tensor([1.0, 5.0, 100.0], dtype=torch.float64))
    assert gradient_alignment(weight, grad)[0].item() == 3
    assert gradient_alignment(weight, grad, rtol=1e-2)[0].item() == 1


def triples(matrix: Tensor) -> tuple[Tensor, Tensor]:
    u, _, vh = thin_svd(matrix)
    return u, vh


def test_crossing_singular_values_keep_their_names() -> None:
    u, v = orthonormal(6, 3, seed=1), orthonormal(5, 3, seed=2)
    for order in [(3.0, 2.0, 1.0), (2.0, 3.0, 1.0), (1.0, 2.0, 3.0), (2.0, 1.0, 3.0)]:
        sigma = torch.tensor(order, dtype=torch.float64)
        # the first matrix has them in the order of u's columns
        match = match_triples((u, v.T), triples(u * sigma @ v.T))
        _, found, _ = thin_svd(u * sigma @ v.T)
        assert torch.allclose(found[match], sigma, atol=1e-12)


def test_signs_do_not_matter() -> None:
    u, vh = triples(gaussian(5, 4))
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
    assert match_triples((u, vh), (u * signs, signs[:, None] * vh)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("size", [2, 5, 12])
@pytest.mark.parametrize("turn", [0.02, 0.3, 3.0])
def test_matching_against_the_best_assignment(seed: int, size: int, turn: float) -> None:
    before = with_spectrum((size, size + 2), torch.linspace(1, 2, size, dtype=torch.float64), seed)
    after = before + turn / size * gaussian(size, size + 2, seed=seed + 100)
    (u, vh), (u2, vh2) = triples(before), triples(after)
    match = match_triples((u, vh), (u2, vh2))
    assert sorted(match.tolist()) == list(range(size))
    overlap = ((u.T @ u2).abs() * (vh @ vh2.T).abs()).numpy()
    _, best = linear_sum_assignment(overlap, maximize=True)
    clear = overlap[range(size), best] > 2 / 3
    assert (match.numpy() == best)[clear].all()
    # greedy assignment is never below half of the best
    assert overlap[range(size), match].sum() >= overlap[range(size), best].sum() / 2


def test_matching_takes_the_largest_overlap_first_where_triples_have_mixed() -> None:
    # rows of O: (.36, .16), (.49, .09): row maxima alone would take the first column twice
    u, vh = torch.eye(2), torch.eye(2)
    u2 = torch.tensor([[0.6, 0.4], [0.7, 0.3]])
    assert match_triples((u, vh), (u2, u2.T)).tolist() == [1, 0]


def test_complex_triples_are_matched_by_their_conjugates() -> None:
    """Phases of singular vectors are arbitrary, and a block of a few frequencies is complex."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(2, 50, 3, 3, generator=generator, dtype=torch.complex128)
    for u, v in zip(*torch.linalg.qr(draws).Q, strict=True):
        order = torch.randperm(3, generator=generator)
        phase = torch.exp(1j * torch.rand(3, generator=generator, dtype=torch.float64))
        after = (u[:, order] * phase, (v[:, order] * phase).mH)
        assert torch.equal(match_triples((u, v.mH), after), order.argsort())
