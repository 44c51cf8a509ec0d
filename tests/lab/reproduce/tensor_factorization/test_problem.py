"""Ranks, least squares, and the loop that follows components."""

from importlib import import_module

import numpy as np
import pytest
import torch

from virtualdepth import CPTensor, HierarchicalTensor, init
from virtualdepth_lab.reproduce.tensor_factorization.least_squares import alternate
from virtualdepth_lab.reproduce.tensor_factorization.problem import (
    draw_completion,
    matricisation_rank,
)
from virtualdepth_lab.reproduce.tensor_factorization.run import law_rows, rank_rows
from virtualdepth_lab.reproduce.tensor_factorization.training import grow

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rank_of_a_matricisation() -> None:
    first, second = torch.randn(2, 3, 4, dtype=F64, generator=seeded())
    whole = torch.einsum("ab,cd->acbd", first, second)  # axes 0, 2 are the first's
    assert matricisation_rank(whole, [0, 2]) == 1
    expected = np.linalg.matrix_rank(whole.reshape(9, 16).numpy())
    assert matricisation_rank(whole, [0, 1]) == expected == 9


def test_deep_and_shallow_ranks() -> None:
    rows = list(rank_rows((3,)))
    assert [row["deep_odd_even"] for row in rows] == [9, 16, 16]
    assert [row["shallow_odd_even"] for row in rows] == [3, 2, 2]
    assert [row["deep_halves"] for row in rows] == [3, 2, 2]


def test_least_squares_finds_the_tensor() -> None:
    problem = draw_completion(CPTensor((5, 6, 4), 2, dtype=F64), 80, 3.0, seeded())
    assert int(problem.seen.sum()) == 80
    assert float(problem.truth.norm()) == pytest.approx(3)
    tensor, share, starts, _ = alternate(
        problem, 2, sweeps=300, share=1e-12, restarts=20, generator=seeded(1)
    )
    assert share < 1e-12
    assert 1 <= starts <= 20
    assert problem.error(tensor) < 1e-4
    assert problem.error(torch.zeros_like(tensor)) == pytest.approx(1)


@pytest.mark.parametrize("kind", [CPTensor, HierarchicalTensor])
def test_small_starts_grow_few_components(kind) -> None:
    problem = draw_completion(kind((4, 4, 4, 4), 1, dtype=F64), 120, 1.0, seeded())
    model = init.near_zero_(kind((4, 4, 4, 4), 6, dtype=F64), 1e-2, generator=seeded(1))
    growth = grow(model, problem, lr=1e-2, most=3000, share=1e-4, least=1e-12)
    assert growth.finished
    assert growth.error < 0.05
    assert growth.law == {}
    for norms in growth.norms.values():
        assert len(norms) == len(growth.steps)
        assert norms[-1, 1] < 0.05 * norms[-1, 0]  # one grows, the others do not


def test_the_law_is_met_to_first_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # of the package, `run` is the function
    module = import_module("virtualdepth_lab.reproduce.tensor_factorization.run")
    monkeypatch.setattr(module, "LAW_TIME", 2.0)
    rows = list(law_rows(0, (0.04, 0.02)))
    assert [row["kind"] for row in rows] == ["components", "tree"]
    for row in rows:
        assert row["slope"] == pytest.approx(1, abs=0.1)
