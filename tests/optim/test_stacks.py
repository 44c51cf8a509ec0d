"""Small matrices of one shape are solved together, and nobody can tell but by the time."""

import math
from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.optim.solvers import _exact
from virtualdepth.optim.solvers._exact import ExactSolver

SHAPES = [(5, 5), (3, 7), (5, 5), (1, 6), (2, 3, 2, 2), (5, 5), (1, 6), (80, 80), (80, 80), (3, 7)]


def moved(options: dict[str, Any], steps: int = 3) -> list[Tensor]:
    params = [nn.Parameter(random_tensor(shape, i)) for i, shape in enumerate(SHAPES)]
    optimizer = vd.EndToEndSGD(params, lr=0.01, **options)
    for step in range(steps):
        for i, p in enumerate(params):
            p.grad = random_tensor(tuple(p.shape), 100 * step + i)
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 3},
        {"depth": math.inf},
        {"depth": 2.5, "step_scale": "unit", "momentum": 0.9},
        {"depth": 3, "step_scale": "rms"},
    ],
    ids=str,
)
def test_together_as_one_by_one(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    together, sizes = moved(options), []
    inner = ExactSolver._solve_stack

    def counted(solver: Any, stack: Any, finite: Any) -> Any:
        if len(stack) > 1:
            sizes.append(len(stack))
        return inner(solver, stack, finite)

    monkeypatch.setattr(ExactSolver, "_solve_stack", counted)
    moved(options, steps=1)
    assert sorted(sizes) == [2, 2, 3]  # not the large ones, nor the kernel alone
    monkeypatch.setattr(_exact, "stacks", lambda matrices: [[matrix] for matrix in matrices])
    for stacked, alone in zip(together, moved(options), strict=True):
        torch.testing.assert_close(stacked, alone, rtol=1e-11, atol=1e-11)


def test_many_are_solved_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, inner = [], ExactSolver._solve_stack

    def counted(solver: Any, stack: Any, finite: Any) -> Any:
        if len(stack) > 1:
            sizes.append(len(stack))
        return inner(solver, stack, finite)

    monkeypatch.setattr(ExactSolver, "_solve_stack", counted)
    params = [nn.Parameter(random_tensor((64, 64), i)) for i in range(17)]
    for p in params:
        p.grad = torch.ones_like(p)
    vd.EndToEndSGD(params, lr=1e-3, depth=2).step()
    assert sizes == [8, 8]  # and one by itself


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_precisions_are_not_mixed(dtype: torch.dtype) -> None:
    """A gradient, and a weight, of another precision are another stack."""
    p, q = (nn.Parameter(random_tensor((4, 4), i, t)) for i, t in enumerate((dtype, torch.float64)))
    p.grad, q.grad = random_tensor((4, 4), 3, dtype), random_tensor((4, 4), 4)
    both = vd.EndToEndSGD([p, q], lr=0.01, depth=3)
    twin = nn.Parameter(q.detach().clone())
    twin.grad = q.grad.clone()
    both.step()
    vd.EndToEndSGD([twin], lr=0.01, depth=3).step()
    torch.testing.assert_close(q, twin, rtol=1e-12, atol=1e-12)


def test_the_one_that_does_not_converge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack tells of one failure only that there was one."""
    names = ["a", "b", "c"]
    params = [nn.Parameter(random_tensor((4, 4), i)) for i in range(3)]
    for p in params:
        p.grad = torch.ones_like(p)
    bad = params[1].detach().clone()
    inner = torch.linalg.svd

    def svd(matrix: Tensor, **options: Any) -> Any:
        if any((m == bad).all() or (m == bad.mT).all() for m in matrix.reshape(-1, 4, 4)):
            raise torch.linalg.LinAlgError("no")
        return inner(matrix, **options)

    monkeypatch.setattr(torch.linalg, "svd", svd)
    monkeypatch.setattr(torch.linalg, "qr", lambda matrix: (torch.eye(4).double(), matrix))
    before = [p.detach().clone() for p in params]
    optimizer = vd.EndToEndSGD(zip(names, params, strict=True), lr=0.1, depth=3)
    with pytest.raises(torch.linalg.LinAlgError, match=r"^b: "):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
