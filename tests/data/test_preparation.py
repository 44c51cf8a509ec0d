"""Whitening against eigenvalues in numpy, standardising against numpy."""

import numpy as np
import pytest
import torch

from virtualdepth.data import standardise, whiten
from virtualdepth.runs import UnusableError

SHAPES = [(50, 4), (200, 12), (9, 30), (2, 3), (5, 1)]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def projector(columns: np.ndarray) -> np.ndarray:
    """Onto the space that the columns span, by numpy's pseudoinverse."""
    return columns @ np.linalg.pinv(columns)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_covariance_is_the_identity(shape: tuple[int, int], scale: float) -> None:
    features = scale * (3 + drawn(*shape))
    white = whiten(features)
    covariance = np.cov(white.numpy().T, ddof=0).reshape(white.shape[1], -1)
    rank = np.linalg.matrix_rank(features.numpy() - features.numpy().mean(0))
    assert white.shape == (shape[0], rank)
    np.testing.assert_allclose(covariance, np.eye(rank), atol=1e-12)
    np.testing.assert_allclose(white.numpy().mean(0), 0, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_else_changes(shape: tuple[int, int]) -> None:
    features = 3 + drawn(*shape)
    centred = features.numpy() - features.numpy().mean(0)
    np.testing.assert_allclose(projector(whiten(features).numpy()), projector(centred), atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_dependent_and_constant_features_add_no_direction(rank: int) -> None:
    few = drawn(40, rank)
    # 0.1 has no exact mean in floating point: centring it leaves about 1e-17
    features = torch.cat([few, few @ drawn(rank, 4, seed=1), torch.full((40, 2), 0.1)], dim=1)
    assert whiten(features.double()).shape == (40, rank)


def test_constant_features_are_refused() -> None:
    with pytest.raises(UnusableError, match=r"^data: expected features that vary but got constant"):
        whiten(torch.full((40, 2), 0.1, dtype=torch.float64))


def test_standardise() -> None:
    targets = 5 + 3 * drawn(40, 3)
    expected = (targets.numpy() - targets.numpy().mean(0)) / targets.numpy().std(0, ddof=0)
    np.testing.assert_allclose(standardise(targets).numpy(), expected, atol=1e-12)


def test_constant_targets_are_refused() -> None:
    targets = torch.tensor([[1.0, 0.1], [2.0, 0.1], [3.0, 0.1]], dtype=torch.float64)
    with pytest.raises(UnusableError, match=r"^targets: .* but got 0.1 in every row of target 2"):
        standardise(targets)
