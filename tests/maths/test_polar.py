"""P_W(G) at depth 2 by the polar factor, against the literal formula in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maths.matrices import gaussian, orthonormal
from torch import Tensor

from virtualdepth.maths import polar_gradient


def truth_of_depth_two(weight: Tensor, grad: Tensor) -> Tensor:
    """[W W^T]^{1/2} G + G [W^T W]^{1/2}, which is safe at equal singular values too."""
    u, sigma, vh = np.linalg.svd(np.asarray(weight), full_matrices=False)
    g = np.asarray(grad)
    return torch.from_numpy((u * sigma) @ u.T @ g + g @ (vh.T * sigma) @ vh)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_polar_factor_gives_the_rule_of_depth_two(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight, grad = gaussian(*shape, seed=1, dtype=dtype), gaussian(*shape, seed=2, dtype=dtype)
    found = polar_gradient(weight, grad, 2.0).direction
    assert found.dtype == dtype
    pairs = zip(*(x.double().reshape(-1, *shape[-2:]) for x in (found, weight, grad)), strict=True)
    for direction, w, g in pairs:
        assert error(direction, truth_of_depth_two(w, g)) < 1000 * torch.finfo(dtype).eps


@given(st.lists(st.floats(-9, 0), min_size=1, max_size=6), st.integers(-6, 6))
@settings(max_examples=30, deadline=None)
def test_the_polar_factor_of_any_spectrum(exponents: list[float], scale: int) -> None:
    """Rank-deficient ones too: what is too small to resolve is small."""
    sigma = (
        10.0**scale
        * torch.cat([torch.ones(1), 10.0 ** torch.tensor(exponents), torch.zeros(1)]).double()
    )
    size = len(sigma)
    weight = orthonormal(size, size, seed=1) * sigma @ orthonormal(size, size, seed=2).T
    grad = gaussian(size, size, seed=3)
    found = polar_gradient(weight, grad, 2.0).direction
    expected = truth_of_depth_two(weight, grad)
    assert float((found - expected).norm()) < 1e-7 * float(sigma[0]) * float(grad.norm())


def test_the_polar_factor_of_nothing() -> None:
    nothing = torch.zeros(3, 4)
    assert torch.equal(polar_gradient(nothing, torch.ones(3, 4), 2.0).direction, nothing)
