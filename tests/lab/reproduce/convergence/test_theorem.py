"""Runs where Theorem 1 applies or an assumption is missing, against literal numbers and steps."""

import math

import pytest
import torch

from virtualdepth.maths import deficiency_margin, end_to_end_product
from virtualdepth_lab.reproduce.convergence.problem import with_margin
from virtualdepth_lab.reproduce.convergence.theorem import (
    descend_to,
    identity_rows,
    least_eigenvalue_at_zero,
    lemma_rows,
    lemma_violations,
    saddle_rows,
    scalar_rows,
    unbalanced_rows,
)


def test_scalar_runs() -> None:
    found = {row["depth"]: (row["bound"], row["steps"]) for row in scalar_rows((2,))}
    assert found == {2: (534_215, 121_878)}


def test_descent_is_that_of_autograd() -> None:
    generator = torch.Generator().manual_seed(4)
    factors = [
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((3, 4), (3, 3), (2, 3))
    ]
    target = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    path = descend_to(factors, target, 0.01)
    for _ in range(5):
        torch.testing.assert_close(next(path), end_to_end_product(factors))
        layers = [factor.requires_grad_() for factor in factors]
        loss = (layers[2] @ layers[1] @ layers[0] - target).square().sum() / 2
        grads = torch.autograd.grad(loss, layers)
        factors = [(w - 0.01 * g).detach() for w, g in zip(layers, grads, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_problems_of_the_lemma_have_a_margin(seed: int) -> None:
    assert deficiency_margin(*with_margin(seed)) == pytest.approx(0.25, rel=1e-10)


def test_lemma_holds_where_it_should_and_fails_where_it_should() -> None:
    rows = list(lemma_rows((0, 1), steps=200))
    assert [row["violations"] for row in rows] == [0, 0, 0]
    assert [row["steps_checked"] for row in rows] == [400, 400, 400]
    # thirty times as large, eta = 0.01 is no small step: the loss goes up
    start, target = (30 * matrix.unsqueeze(0) for matrix in with_margin(0))
    assert lemma_violations(start, target, 3, 1) == (1, 1)


def test_assumptions_are_necessary() -> None:
    rows = {(row["depth"], row["start"]): row for row in unbalanced_rows()}
    for depth in (2, 3):
        good, bad = rows[depth, "balanced"], rows[depth, "unbalanced"]
        assert good["margin"] == bad["margin"] == pytest.approx(0.95, rel=1e-12)
        assert good["imbalance"] < good["delta"] < bad["imbalance"]
        assert good["loss"] < 1e-12
        assert bad["loss"] == math.inf


def test_identity_is_stuck_at_the_negative_eigenvalue() -> None:
    for row in identity_rows(500):
        # of diag(1, -1) the second entry can at best be left at 0
        assert row["loss"] == pytest.approx(0.5, abs=1e-3)
        assert row["loss"] >= 0.5


def test_the_saddle_at_zero_is_strict_at_two_layers_only() -> None:
    target = torch.tensor([[3.0, 0.0], [4.0, 0.0]], dtype=torch.float64)  # sigma_1 = 5
    assert least_eigenvalue_at_zero(target, 2) == pytest.approx(-5, abs=1e-12)
    assert least_eigenvalue_at_zero(target, 1) == pytest.approx(1, abs=1e-12)  # no saddle
    for row in saddle_rows((0, 3)):
        assert row["sigma_1"] == pytest.approx(1.5, abs=1e-12)
        expected = -1.5 if row["depth"] == 2 else 0
        assert row["least_eigenvalue"] == pytest.approx(expected, abs=1e-12)
