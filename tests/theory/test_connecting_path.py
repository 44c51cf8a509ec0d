"""Paths between linear networks: the products along them, their ends and their steps."""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth.maths import frame_path
from virtualdepth.theory import connecting_path

F64 = torch.float64
SIZES = [(5, 4, 3), (3, 4, 5), (6, 5, 7, 4), (4, 5, 6, 5, 4), (1, 2, 1), (7, 9, 1), (3, 3), (4, 2)]


def network(sizes: Sequence[int], seed: int) -> list[Tensor]:
    return [
        gaussian(after, before, seed=100 * seed + place)
        for place, (before, after) in enumerate(pairwise(sizes))
    ]


def product(factors: Sequence[Tensor]) -> np.ndarray:
    return reduce(lambda done, factor: factor @ done, [factor.numpy() for factor in factors])


def largest_step(path: Sequence[Sequence[Tensor]]) -> float:
    flat = torch.stack([torch.cat([factor.flatten() for factor in point]) for point in path])
    return float(torch.linalg.vector_norm(flat.diff(dim=0), dim=1).max())


@settings(max_examples=30)
@given(st.sampled_from(SIZES), st.integers(0, 10_000), st.integers(2, 9))
def test_products_stay_move_straight_and_stay(
    sizes: tuple[int, ...], seed: int, points: int
) -> None:
    first, second = network(sizes, 2 * seed), network(sizes, 2 * seed + 1)
    path = connecting_path(first, second, points)
    assert len(path) == 5 * (points - 1) + 1
    for end, factors in ((path[0], first), (path[-1], second)):
        assert all(torch.equal(a, b) for a, b in zip(end, factors, strict=True))
    start, stop = product(first), product(second)
    still = np.zeros(2 * (points - 1))
    times = [*still, *np.linspace(0, 1, points), *(still + 1)]
    size = max(np.abs(start).max(), np.abs(stop).max())
    # frames are inverted: rounding grows with their condition
    condition = max(np.linalg.cond(start), np.linalg.cond(stop))
    for time, factors in zip(times, path, strict=True):
        assert [factor.shape for factor in factors] == [factor.shape for factor in first]
        expected = (1 - time) * start + time * stop
        assert np.abs(product(factors) - expected).max() < 1e-10 * size * condition


def test_no_convex_loss_exceeds_the_larger_end() -> None:
    first, second = network((6, 5, 7, 4), 1), network((6, 5, 7, 4), 2)
    inputs, targets = gaussian(6, 3, seed=7).numpy(), gaussian(4, 3, seed=8).numpy()

    def losses(factors: Sequence[Tensor]) -> tuple[float, float]:
        outputs = product(factors) @ inputs
        logistic = np.log(np.exp(outputs).sum(0)) - outputs[0]
        return float(((outputs - targets) ** 2).sum()), float(logistic.sum())

    path = [losses(factors) for factors in connecting_path(first, second, 40)]
    for ends, highest in zip(zip(path[0], path[-1], strict=True), map(max, *path), strict=True):
        assert highest <= max(ends) * (1 + 1e-10)


@pytest.mark.parametrize("sizes", [(5, 4, 3), (6, 5, 7, 4)])
def test_steps_fall_with_the_points(sizes: tuple[int, ...]) -> None:
    first, second = network(sizes, 3), network(sizes, 4)
    steps = [largest_step(connecting_path(first, second, points)) for points in (50, 100, 200)]
    assert steps[0] / steps[1] == pytest.approx(2, rel=0.1)
    assert steps[1] / steps[2] == pytest.approx(2, rel=0.1)


def test_signs_that_a_straight_line_cannot_pass() -> None:
    """W = 1 and W = -1, and all hidden frames opposite."""
    first = [torch.tensor([[-1.0], [0.0], [0.0]], dtype=F64), torch.tensor([[-1.0, 0, 0]]).double()]
    second = [-first[0], first[1]]
    path = connecting_path(first, second, 400)
    assert largest_step(path) < 0.15  # through 0, where the layers move as its root
    assert float(product(path[-1]).item()) == -1


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 1000), st.booleans())
def test_frames_stay_orthonormal(count: int, more: int, seed: int, opposite: bool) -> None:
    height = count + more
    frame = torch.linalg.qr(gaussian(height, count, seed=seed))[0]
    if opposite:
        frame = -torch.eye(height, count, dtype=F64)
    times = torch.linspace(0, 1, 21, dtype=F64)
    path = frame_path(frame, times)
    unit = torch.eye(count, dtype=F64)
    assert torch.allclose(path.mT @ path, unit.expand(21, count, count), atol=1e-13)
    assert torch.allclose(path[-1], frame, atol=1e-13)
    assert torch.equal(path[0], torch.eye(height, count, dtype=F64))
    assert float(path.diff(dim=0).norm(dim=(1, 2)).max()) < 1.5 * count * np.pi / 20


def test_dtypes_and_inputs_stay() -> None:
    first, second = network((5, 4, 3), 1), network((5, 4, 3), 2)
    copies = [factor.clone() for factor in first]
    for dtype, found in ((torch.float32, torch.float32), (torch.bfloat16, torch.float32)):
        ends = [[factor.to(dtype) for factor in factors] for factors in (first, second)]
        path = connecting_path(*ends, 5)
        assert {factor.dtype for factors in path for factor in factors} == {found}
        assert torch.allclose(path[-1][0], ends[1][0].to(found))
    parameters = [torch.nn.Parameter(factor) for factor in first]
    assert not connecting_path(parameters, second, 3)[1][0].requires_grad
    assert all(torch.equal(a, b) for a, b in zip(first, copies, strict=True))


A, B = network((5, 4, 3), 1), network((5, 4, 3), 2)
LOW = [A[0], torch.cat([A[1][:2], A[1][1:2]])]


@pytest.mark.parametrize(
    ("first", "second", "points", "kind", "error"),
    [
        ([], B, 5, ValueError, "first: factors: expected at least one matrix"),
        (A[::-1], B, 5, ValueError, "first: factors: expected W_2 with as many columns"),
        (A, network((5, 6, 3), 1), 5, ValueError, "second: expected the shapes of first"),
        (network((5, 3, 3), 1), B, 5, ValueError, r"first: expected hidden widths above .* = 3"),
        (A, LOW, 5, ValueError, "second: expected an end-to-end matrix of full rank 3 but got"),
        (A, [B[0], B[1].float()], 5, ValueError, "second: expected factors of one dtype"),
        ([A[0] * float("nan"), A[1]], B, 5, ValueError, "first: factors, W_1: expected finite"),
        ([A[0].int(), A[1]], B, 5, TypeError, "first: factors, W_1: expected a dense real"),
        ([A[0][None], A[1]], B, 5, ValueError, "first: expected matrices but got a batch"),
        (A, B, 1, ValueError, "points: expected an integer >= 2 but got 1"),
        (A, B, 5.0, TypeError, "points: expected an integer >= 2 but got 5.0"),
        (A, B, True, TypeError, "points: expected an integer >= 2 but got True"),
    ],
)
def test_wrong_arguments(first, second, points, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=error):
        connecting_path(first, second, points)
