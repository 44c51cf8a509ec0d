"""Random runs over all public options: 2,000 among the slow tests, ``--cases 100000`` by hand."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from tests.fuzz.cases import DEPTHS, SPECTRA, cases, seeded, with_spectrum
from tests.fuzz.invariants import check
from torch import nn

from virtualdepth import EndToEndSGD

SHARDS = 8  # so that several workers share them


@pytest.fixture
def share(pytestconfig: pytest.Config) -> int:
    return math.ceil(pytestconfig.getoption("--cases") / SHARDS)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.filterwarnings("ignore:.*all weights are zero")
@pytest.mark.filterwarnings("ignore:.*step_scale='auto'")
def test_random_runs(shard: int, share: int) -> None:
    runs = settings(max_examples=share, derandomize=False, database=None, print_blob=True)
    runs(seed(shard)(given(cases())(check)))()


@settings(max_examples=200)
@given(
    st.sampled_from(DEPTHS),
    st.sampled_from([spectrum for spectrum in SPECTRA if spectrum != "zero"]),
    st.integers(-3, 3),
    st.integers(0, 2**20),
)
def test_unit_never_raises_a_convex_quadratic(
    depth: float, spectrum: str, exponent: int, number: int
) -> None:
    """Half of |A (W - T)|^2 at a rate of 1 / L, where L is the largest eigenvalue of A^T A."""
    a, target = (
        torch.randn(4, 4, generator=seeded(number + i), dtype=torch.float64) for i in range(2)
    )
    weight = nn.Parameter(with_spectrum((4, 4), spectrum, number) * 10.0**exponent)
    lr = 1 / float(torch.linalg.matrix_norm(a, 2)) ** 2
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, step_scale="unit")
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = 0.5 * (a @ (weight - target)).square().sum()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    for before, after in pairwise(losses):
        assert after <= before * (1 + 1e-12)
