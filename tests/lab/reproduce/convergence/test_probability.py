"""How often a random start satisfies the theorem: against draws, and within its interval."""

import math

import numpy as np
import pytest

from virtualdepth_lab.reproduce.convergence.probability import margin_probability, probability_rows


@pytest.mark.parametrize("dimension", [2, 20, 100])
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_margin_probability(dimension: int, scale: float) -> None:
    generator = np.random.default_rng(0)
    draws = scale / dimension * generator.standard_normal((10_000, dimension))
    draws[:, 0] -= 1
    share = float(((draws**2).sum(1) < 1).mean())
    exact = margin_probability(dimension, scale / dimension)
    assert exact == pytest.approx(share, abs=4 * math.sqrt(exact * (1 - exact) / 10_000) + 1e-4)


def test_shares_of_random_starts() -> None:
    for row in probability_rows(60, seed=3):
        assert row["from"] <= row["share"] <= row["to"]
        spread = math.sqrt(row["exact"] * (1 - row["exact"]) / 60)
        assert abs(row["share"] - row["exact"]) < 4 * spread + 1e-9
        assert row["certified"] == row["certified_converged"] == round(60 * row["share"])
