"""Structured classifiers: margins and norms against literal formulas, descent against its law."""

import math

import cvxpy
import numpy as np
import pytest
import torch

from virtualdepth.maths import depth_kernel, precondition
from virtualdepth_lab.reproduce.margin import norms
from virtualdepth_lab.reproduce.margin.constrained import one_vector, vector_outputs
from virtualdepth_lab.reproduce.margin.layers import added_rows, layer_rows
from virtualdepth_lab.reproduce.margin.norms import (
    PROBLEMS,
    descend,
    norm_rows,
    sizes,
)


def test_margins_of_vector_outputs_are_right_minus_wrong_scores() -> None:
    problem = vector_outputs(3)
    generator = torch.Generator().manual_seed(3)
    means = [torch.randn(*shape, generator=generator, dtype=torch.float64)
             for shape in ((6, 3), (3, 20))]  # fmt: skip
    labels = torch.arange(48) % 6
    noise = torch.randn(48, 20, generator=generator, dtype=torch.float64)
    inputs = (means[0] @ means[1])[labels] + noise
    weight = torch.randn(6, 20, generator=generator, dtype=torch.float64)
    scores = inputs @ weight.T
    expected = [
        float(scores[i, labels[i]] - scores[i, j])
        for i in range(48) for j in range(6) if j != labels[i]
    ]  # fmt: skip
    assert problem.margins(weight).tolist() == pytest.approx(expected, abs=1e-12)


def test_norms_of_each_structure() -> None:
    matrix, entries, frequencies = (draw(0) for draw in PROBLEMS)
    weight = torch.linspace(-1, 2, 120, dtype=torch.float64).view(6, 20)
    sigma = torch.linalg.svdvals(weight)
    for depth in (1, 2, 3):
        power = 2 / depth
        expected = float(sigma.pow(power).sum() ** (1 / power))
        assert float(matrix.norm(weight, depth)) == pytest.approx(expected, rel=1e-7)
        vector = weight.flatten()[:32]
        expected = float(vector.abs().pow(power).sum() ** (1 / power))
        assert float(entries.norm(vector, depth)) == pytest.approx(expected, rel=1e-12)
        every = torch.fft.fft(vector).abs() / 32**0.5
        expected = float(every.pow(power).sum() ** (1 / power))
        assert float(frequencies.norm(vector, depth)) == pytest.approx(expected, rel=1e-12)
    assert float(frequencies.norm(vector, 1)) == pytest.approx(float(vector.norm()), rel=1e-12)


@pytest.mark.parametrize("structure", ["diagonal", "circulant"])
def test_largest_margins_against_linear_programmes(structure: str) -> None:
    """The l1 norm by positive and negative parts; of the spectrum by a cone of each frequency."""
    problem = one_vector(2, structure)
    rows, count = problem.gradients.numpy(), 32
    if structure == "diagonal":
        parts = cvxpy.Variable(2 * count, nonneg=True)
        size, weight = cvxpy.sum(parts), parts[:count] - parts[count:]
    else:
        unknown, bounds = cvxpy.Variable(count), cvxpy.Variable(count)
        spectrum = np.fft.fft(np.eye(count), axis=0) / count**0.5
        size, weight = cvxpy.sum(bounds), unknown
    constraints = [rows @ weight >= 1]
    if structure == "circulant":
        constraints += [
            cvxpy.SOC(bounds[k], cvxpy.hstack([spectrum[k].real @ unknown,
                                               spectrum[k].imag @ unknown]))
            for k in range(count)
        ]  # fmt: skip
    expected = cvxpy.Problem(cvxpy.Minimize(size), constraints).solve(solver=cvxpy.CLARABEL)
    found = problem.largest(2)
    assert float(problem.margins(found).min()) == pytest.approx(1, abs=1e-5)
    assert float(problem.norm(found, 2)) == pytest.approx(expected, rel=1e-5)


def test_descent_is_the_rule_on_the_logarithm_of_the_loss() -> None:
    problem, depth = one_vector(1, "diagonal"), 2
    weight = torch.zeros(32, dtype=torch.float64)
    for _ in range(4):
        variable = weight.clone().requires_grad_()
        loss = torch.logsumexp(-problem.margins(variable), 0)
        (grad,) = torch.autograd.grad(loss, variable)
        step = precondition(weight, grad, depth, structure="diagonal", imbalance=1e-4)
        top = weight.abs().max()
        gain = float(depth_kernel(top, top, depth, 1e-4))
        weight = weight - min(1, 0.05 * max(float(weight.norm()), 1e-4)) / gain * step
    torch.testing.assert_close(descend(problem, depth, 4), weight, rtol=1e-10, atol=1e-16)


def test_depth_two_finds_few_entries_and_a_critical_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = one_vector(0, "diagonal")
    monkeypatch.setattr(norms, "DEPTHS", (1, 2))
    rows = {row["method"]: row for row in norm_rows(entries, 0, 400, lambda label: None)}
    assert rows["depth 2"]["of_largest_2"] > rows["depth 1"]["of_largest_2"] + 0.1
    assert rows["depth 1"]["of_largest_1"] > rows["depth 2"]["of_largest_1"] + 0.1
    assert rows["depth 2"]["counting"] < rows["depth 1"]["counting"]
    assert max(rows[name]["residual"] for name in ("depth 1", "depth 2")) < 0.05
    for name in ("least l2 norm", "least l1 norm"):
        assert rows[name]["residual"] < 1e-3
    assert rows["least l1 norm"]["of_largest_2"] == 1
    assert sizes(entries, torch.ones(32)).shape == (32,)


def test_layers_align_and_the_deeper_vector_takes_over() -> None:
    first, *_, last = layer_rows((2,), 300)
    assert last["outside_rank_one"] < 0.5 * first["outside_rank_one"]
    assert last["least_aligned"] > 0.99
    assert (first["step"], last["step"]) == (0, 300)
    first, *_, last = added_rows((2,), 300)
    assert 0.2 < first["share"] < 0.8
    assert last["share"] < 0.1
    assert math.isclose(last["share"], last["shallow"] / (last["shallow"] + last["deep"]))
