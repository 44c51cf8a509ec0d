"""Methods that choose their own step find the minimum."""

from itertools import groupby, pairwise

import pytest
import torch
from tests.lab.reproduce.lp_regression.small import problem

from virtualdepth_lab.reproduce.lp_regression.rivals import barzilai_borwein, hits, lbfgs

ZERO = torch.zeros(1, 3, dtype=torch.float64)


@pytest.mark.parametrize("power", [2, 4])
def test_methods_without_a_rate_find_the_minimum(power: int) -> None:
    data = problem(power)
    _, smallest = data.solve()
    for losses in (
        barzilai_borwein(data, ZERO + 0.1, 300),
        barzilai_borwein(data, ZERO + 0.1, 300, long=True),
        lbfgs(data, ZERO + 0.1, 300),
    ):
        assert losses[0] == data.objective((ZERO + 0.1).unsqueeze(0))[1].item()
        assert min(losses) == pytest.approx(smallest, rel=1e-8)
        assert len(losses) <= 301


@pytest.mark.parametrize("long", [False, True])
def test_no_loss_exceeds_the_ten_before(long: bool) -> None:
    evaluations = barzilai_borwein(problem(4), ZERO + 3, 200, long=long)
    losses = [loss for loss, _ in groupby(evaluations)]  # a refused point leaves the loss as it was
    for index in range(10, len(losses)):
        assert losses[index] <= max(losses[index - 10 : index])
    assert any(b > a for a, b in pairwise(losses))  # though one may rise


def test_hits() -> None:
    assert list(hits([3.0, 1.0, 2.0, 0.5], [3.0, 1.5, 0.5, 0.1])) == [0, 1, 3, None]
