"""What P_W is: linear, positive semidefinite, of known eigenvectors, symmetric, homogeneous."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths import truth
from tests.maths.matrices import DEPTHS, SHAPES, gaussian, orthonormal
from torch import Tensor

from virtualdepth import precondition
from virtualdepth.maths import preconditioned_gradient

DEEP = tuple(depth for depth in DEPTHS if depth > 1)

sizes = st.integers(1, 8)
seeds = st.integers(0, 10**6)
depths = st.one_of(st.floats(1, 60), st.just(math.inf))


def inner(a: Tensor, b: Tensor) -> float:
    return (a * b).sum().item()


def of_rank(shape: tuple[int, int], rank: int, seed: int) -> Tensor:
    return gaussian(shape[0], rank, seed=seed) @ gaussian(rank, shape[1], seed=seed)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, float]:
    """W of any rank and scale, G, H and a depth."""
    shape, seed = (draw(sizes), draw(sizes)), draw(seeds)
    rank = draw(st.integers(0, min(shape)))
    weight = 10 ** draw(st.floats(-3, 3)) * of_rank(shape, rank, seed)
    return weight, gaussian(*shape, seed=seed + 1), gaussian(*shape, seed=seed + 2), draw(depths)


@given(problems(), st.floats(-5, 5), st.floats(-5, 5))
def test_linear_in_the_gradient(
    problem: tuple[Tensor, Tensor, Tensor, float], a: float, b: float
) -> None:
    weight, g, h, depth = problem
    together = precondition(weight, a * g + b * h, depth)
    apart = a * precondition(weight, g, depth) + b * precondition(weight, h, depth)
    scale = gain(weight, depth) * (abs(a) * g.norm() + abs(b) * h.norm())
    assert (together - apart).norm() <= 1e-12 * scale


@given(problems())
def test_self_adjoint(problem: tuple[Tensor, Tensor, Tensor, float]) -> None:
    weight, g, h, depth = problem
    one = inner(h, precondition(weight, g, depth))
    other = inner(precondition(weight, h, depth), g)
    scale = gain(weight, depth) * g.norm().item() * h.norm().item()
    assert one == pytest.approx(other, rel=0, abs=1e-12 * scale)


@given(problems())
def test_between_the_smallest_and_the_largest_eigenvalue(
    problem: tuple[Tensor, Tensor, Tensor, float],
) -> None:
    """k_min <= <G, P(G)> / <G, G> <= N s_1^{2-2/N}; the lower bound makes it semidefinite."""
    weight, g, _, depth = problem
    result, top = inner(g, precondition(weight, g, depth)), gain(weight, depth)
    smallest = np.linalg.svd(weight.numpy(), compute_uv=False)[-1]
    # K(s_min, 0) for a rectangular matrix, at least that for a square one; 0 at infinite depth
    bottom = smallest ** (2 - 2 / depth) if math.isfinite(depth) else 0.0
    slack = 1e-12 * top * inner(g, g)
    assert bottom * inner(g, g) - slack <= result <= top * inner(g, g) + slack


def gain(weight: Tensor, depth: float) -> float:
    """N s_1^{2-2/N}, the largest eigenvalue of P_W (s_1^2 at infinite depth)."""
    top = np.linalg.norm(weight.numpy(), 2)
    return float(top ** (2 - 2 / depth) * (depth if math.isfinite(depth) else 1))


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1), (3, 3), (3, 5), (5, 3)])
@pytest.mark.parametrize("kind", ["distinct", "rank deficient", "equal"])
def test_eigenvectors_and_eigenvalues(shape: tuple[int, int], kind: str, depth: float) -> None:
    """vec(u_r v_s^T), of the full bases, with eigenvalue K(s_r, s_s)."""
    (m, n), k = shape, min(shape)
    u, v = orthonormal(m, m, seed=1), orthonormal(n, n, seed=2)
    sigma = torch.zeros(max(shape), dtype=torch.float64)
    sigma[:k] = torch.tensor([2.0, 0.5, 1e-3][:k])
    if kind == "rank deficient":
        sigma[k - 1 :] = 0
    elif kind == "equal":
        sigma[:k] = 1.7
    weight = u[:, :k] * sigma[:k] @ v[:, :k].T
    for r in range(m):
        for s in range(n):
            vector = torch.outer(u[:, r], v[:, s])
            # zeros of the spectrum are noise in W: tell the rank
            result = precondition(weight, vector, depth, rtol=1e-13)
            a, b = sigma[r].item(), sigma[s].item()
            expected = float(truth.kernel(truth.mp.mpf(a), truth.mp.mpf(b), depth)) * vector
            assert torch.allclose(
                result, expected, rtol=0, atol=1e-12 * max(1, gain(weight, depth))
            )


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_symmetric_under_transposition(shape: tuple[int, int], depth: float) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    one, other = precondition(weight.T, grad.T, depth), precondition(weight, grad, depth).T
    assert one.shape == other.shape
    assert (one - other).norm() <= 1e-12 * other.norm()


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", SHAPES)
def test_rotates_with_its_arguments(shape: tuple[int, int], depth: float) -> None:
    """P_{Q W R}(Q G R) = Q P_W(G) R for orthogonal Q and R."""
    q, r = orthonormal(shape[0], shape[0], seed=3), orthonormal(shape[1], shape[1], seed=4)
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    expected = q @ precondition(weight, grad, depth) @ r
    assert (precondition(q @ weight @ r, q @ grad @ r, depth) - expected).norm() <= (
        1e-12 * expected.norm()
    )


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (6, 6), (4, 9)])
@pytest.mark.parametrize("scale", [1e-100, 1e-3, 1e100])
def test_homogeneous_in_the_weight(shape: tuple[int, int], scale: float, depth: float) -> None:
    """P_{cW}(G) = c^{2-2/N} P_W(G), near the ends of the dtype too."""
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    expected = scale ** (2 - 2 / depth) * precondition(weight, grad, depth)
    result = precondition(scale * weight, grad, depth)
    # entries relative to the largest: the squares in a norm would leave the dtype
    peak = expected.abs().max()
    assert ((result - expected).abs() / peak).max() <= 1e-11
    assert peak > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", ["largest", "smallest"])
def test_single_row_near_the_ends_of_the_dtype(size: str, dtype: torch.dtype) -> None:
    """The squares of its entries have no place in the dtype, the result has."""
    info = torch.finfo(dtype)
    unit = info.max / 16 if size == "largest" else info.tiny * 16
    weight = torch.tensor([[3.0, 4.0]], dtype=dtype) * unit
    result = precondition(weight, torch.tensor([[1.0, 0.0]], dtype=dtype), 2)
    expected = torch.tensor([[6.8, 2.4]], dtype=torch.float64)
    assert torch.allclose(result.double() / unit, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("column", [False, True])
def test_closed_form_equals_the_general_path(column: bool, depth: float) -> None:
    """A row, and the same row above a row of zeros, for which the SVD is needed."""
    weight, grad = gaussian(1, 6, seed=1), gaussian(1, 6, seed=2)
    taller = torch.zeros(2, 6, dtype=torch.float64)
    weight2, grad2 = taller.clone(), taller.clone()
    weight2[0], grad2[0] = weight[0], grad[0]
    if column:
        weight, grad, weight2, grad2 = weight.T, grad.T, weight2.T, grad2.T
    one, general = precondition(weight, grad, depth), precondition(weight2, grad2, depth)
    general = general.T if column else general
    assert torch.allclose(one.reshape(6), general[0], rtol=1e-12, atol=0)
    assert general[1].abs().max() <= 1e-14 * general[0].norm()


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize("shape", SHAPES)
def test_stands_still_at_zero(shape: tuple[int, int], depth: float) -> None:
    zero = torch.zeros(shape, dtype=torch.float64)
    assert torch.equal(precondition(zero, gaussian(*shape), depth), zero)


def test_infinite_depth_is_the_limit_of_the_quotient_by_depth() -> None:
    weight, grad = gaussian(4, 4, seed=1), gaussian(4, 4, seed=2)
    limit = precondition(weight, grad, math.inf)
    errors = [
        ((precondition(weight, grad, depth) / depth - limit).norm() / limit.norm()).item()
        for depth in (1e2, 1e3, 1e4)
    ]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.01)
    assert errors[2] < 1e-3


def test_infinite_depth_freezes_the_row_and_column_spaces() -> None:
    weight, grad = of_rank((6, 5), 2, seed=1), gaussian(6, 5, seed=2)
    result = precondition(weight, grad, math.inf, rtol=1e-13).numpy()
    u, _, vt = np.linalg.svd(weight.numpy())
    outside = [u[:, 2:].T @ result, result @ vt[2:].T]
    assert max(np.abs(part).max() for part in outside) < 1e-13
    row, g = gaussian(1, 5, seed=3), gaussian(1, 5, seed=4)
    along = (row * g).sum() * row
    assert torch.allclose(precondition(row, g, math.inf), along, rtol=1e-13, atol=0)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (4, 4), (3, 6), (6, 3)])
def test_singular_values_and_slopes_come_along(shape: tuple[int, int]) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    found = preconditioned_gradient(weight, grad, 3.0)
    sigma, slopes = found.singular_values, found.slopes
    u, expected, vt = np.linalg.svd(weight.numpy(), full_matrices=False)
    assert np.allclose(sigma, expected, rtol=1e-13)
    assert np.allclose(slopes, np.diag(u.T @ grad.numpy() @ vt.T), atol=1e-13)


@pytest.mark.parametrize(("depth", "steps"), [(2, 12), (2.5, 60), (3, 200)])
def test_a_small_mode_grows_beside_a_large_one_in_float32(depth: float, steps: int) -> None:
    """Singular values 55 and 1e-3 of a 100 x 100 matrix, drawn towards 55 and 20.

    With target and weight in one basis and 55 at rest, s <- s + lr N s^{2-2/N} (20 - s) exactly; lr
    is half of what keeps the largest gain stable.
    """
    u, v = orthonormal(100, 2, seed=1), orthonormal(100, 2, seed=2)
    weight, target = (
        (u * torch.tensor([55, small], dtype=torch.float64) @ v.T).float() for small in (1e-3, 20)
    )
    lr = 0.5 / (depth * 55 ** (2 - 2 / depth))
    exact = 1e-3
    for _ in range(steps):
        exact += lr * depth * exact ** (2 - 2 / depth) * (20 - exact)
        weight = weight - lr * precondition(weight, weight - target, depth)
    sigma = np.linalg.svd(weight.double().numpy(), compute_uv=False)
    assert exact > 3e-3
    assert sigma[:2] == pytest.approx([55, exact], rel=1e-2)
    assert sigma[2] < 1e-4  # the noise has not


def test_a_large_rtol_freezes_the_small_mode() -> None:
    weight = torch.diag(torch.tensor([55.0, 1e-3]))
    grad = torch.diag(torch.tensor([0.0, -1.0]))
    assert precondition(weight, grad, 3)[1, 1].item() == pytest.approx(-3 * 1e-4, rel=1e-5)
    assert precondition(weight, grad, 3, rtol=1e-4)[1, 1].item() == 0
