"""Gaps, deficiency margins, relative balance and completion errors on batches, against numpy."""

import numpy as np
import pytest
import scipy.linalg
import torch
from tests.maths.matrices import SHAPES, gaussian

from virtualdepth.maths import (
    balanced_factors,
    deficiency_margin,
    end_to_end_gap,
    reconstruction_error,
    relative_balancedness,
    spectral_norm,
)

BATCHES = [(), (3,), (2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_batches_against_scipy(shape: tuple[int, int], batch: tuple[int, ...]) -> None:
    weight, other = gaussian(*batch, *shape, seed=1), gaussian(*batch, *shape, seed=2)
    pairs = list(
        zip(weight.reshape(-1, *shape).numpy(), other.reshape(-1, *shape).numpy(), strict=True)
    )
    norm, svdvals = scipy.linalg.norm, scipy.linalg.svdvals
    for found, truth in (
        (end_to_end_gap(weight, other), [norm(a - b) / norm(b) for a, b in pairs]),
        (deficiency_margin(weight, other), [svdvals(b).min() - norm(a - b) for a, b in pairs]),
        (spectral_norm(weight), [svdvals(a).max() for a, _ in pairs]),
    ):
        assert found.shape == batch
        assert found.flatten().tolist() == pytest.approx(truth, rel=1e-10)


def test_margin_keeps_matrices_away_from_singular_ones() -> None:
    """Whatever is as near to the target as W has no singular value below the margin."""
    target = torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    weight = target + 0.05 * gaussian(3, 3)
    margin, radius = deficiency_margin(weight, target), (weight - target).norm()
    assert margin > 0.5
    for seed in range(200):
        direction = gaussian(3, 3, seed=seed)
        neighbour = target + radius * direction / direction.norm()
        assert scipy.linalg.svdvals(neighbour.numpy()).min() >= margin
    nearest = target - radius * torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    assert scipy.linalg.svdvals(nearest.numpy()).min() == pytest.approx(margin.item(), rel=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_relative_balancedness(depth: int) -> None:
    factors = balanced_factors(gaussian(4, 6), depth)
    assert relative_balancedness(factors).tolist() == pytest.approx([0] * (depth - 1), abs=1e-14)
    scaled = [factor * 10.0**number for number, factor in enumerate(factors)]
    found = relative_balancedness(scaled).tolist()
    # between balanced layers ||100 A - A||_F / (100 tr A + tr A)
    gram = factors[0] @ factors[0].T
    ratio = (99 / 101 * gram.norm() / gram.trace()).item()
    assert found == pytest.approx([ratio] * (depth - 1), rel=1e-10)
    assert all(0 < value < 1 for value in found)


@pytest.mark.parametrize("batch", BATCHES)
def test_reconstruction_error_against_numpy(batch: tuple[int, ...]) -> None:
    weight, target = gaussian(*batch, 4, 5, seed=1), gaussian(*batch, 4, 5, seed=2)
    observed = gaussian(*batch, 4, 5, seed=3) > 0
    errors, mask = (weight - target).numpy() ** 2, observed.numpy()
    truth = [np.mean(errors), np.mean(errors[mask]), np.mean(errors[~mask])]
    found = [value.item() for value in reconstruction_error(weight, target, observed)]
    assert found == pytest.approx(truth, rel=1e-12)
