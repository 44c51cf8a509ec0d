"""Ridge regression of rows on features, against least squares written as such."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from virtualdepth.maths import complete_rows


def drawn(rows: int, columns: int, rank: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(columns, rank, generator=generator, dtype=torch.float64)
    values = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    observed = torch.rand(rows, columns, generator=generator) < 0.6
    return values, observed, features


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 7),
    rank=st.integers(1, 7),
    noise=st.sampled_from([0.0, 1e-3, 1.0, 1e4]),
    seed=st.integers(0, 99),
)
def test_against_stacked_least_squares(
    rows: int, columns: int, rank: int, noise: float, seed: int
) -> None:
    values, observed, features = drawn(rows, columns, rank, seed)
    found = complete_rows(values, observed, features, noise)
    for row, mask, filled in zip(values.numpy(), observed.numpy(), found, strict=True):
        # ||x - F c||^2 + noise ||c||^2 as one system; lstsq takes the smallest c at noise 0
        system = np.vstack([features.numpy()[mask], noise**0.5 * np.eye(rank)])
        c = np.linalg.lstsq(system, np.r_[row[mask], np.zeros(rank)])[0]
        np.testing.assert_allclose(filled.numpy(), features.numpy() @ c, rtol=1e-7, atol=1e-8)


def test_features_that_depend_on_each_other() -> None:
    features = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    rows = torch.tensor([[1.0, 2.0, 0.0]])
    found = complete_rows(rows, torch.tensor([[True, True, False]]), features, 0.0)
    torch.testing.assert_close(
        found, torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unobserved_entries_are_not_read(dtype: torch.dtype) -> None:
    values, observed, features = (t for t in drawn(3, 5, 2, 0))
    values, features = values.to(dtype), features.to(dtype)
    hidden = torch.where(observed, values, torch.nan)
    found = complete_rows(hidden, observed, features, 0.1)
    torch.testing.assert_close(
        found, complete_rows(values, observed, features, 0.1), rtol=0, atol=0
    )
    assert found.dtype == torch.float64


def test_a_row_of_which_nothing_is_known_is_zero() -> None:
    values, _, features = drawn(2, 5, 2, 1)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    torch.testing.assert_close(
        complete_rows(values, nothing, features, 0.0), torch.zeros_like(values), rtol=0, atol=0
    )
