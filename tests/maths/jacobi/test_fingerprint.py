"""What tells that a matrix was changed, and does not mistake rounding for a change."""

import pytest
import torch
from tests.contract.tools import random_tensor

from virtualdepth.maths.jacobi import fingerprint, fingerprint_differs
from virtualdepth.maths.jacobi._fingerprint import fingerprint_direction


@pytest.mark.parametrize("shape", [(3, 4), (64, 3), (3, 5000), (2, 4, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_orders_of_adding_are_no_change(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = random_tensor(shape, 1, dtype)
    # the same numbers in another layout are added in another order
    kept = fingerprint(weight.mT.contiguous().mT)
    assert not fingerprint_differs(weight, kept, exact=False)
    assert not fingerprint_differs(weight, fingerprint(weight), exact=True)


@pytest.mark.parametrize("shape", [(3, 4), (64, 3), (3, 5000), (2, 4, 7)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_change_is_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = random_tensor(shape, 1, dtype)
    kept, size = fingerprint(weight), 1000 * torch.finfo(dtype).eps
    assert fingerprint_differs(weight * (1 - size), kept, exact=False)
    assert fingerprint_differs(
        weight + 10 * size * random_tensor(shape, 2, dtype), kept, exact=False
    )
    assert fingerprint_differs(weight * torch.nan, kept, exact=False)
    # one entry changes by a few units of rounding of its row's sum, which no order of adding loses
    nudged = weight.clone()
    nudged[..., 0, 0] += (
        8 * torch.finfo(dtype).eps * (weight * fingerprint_direction(weight)).abs().sum(-1)[..., 0]
    )
    assert fingerprint_differs(nudged, kept, exact=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_change_of_any_one_column_shows(dtype: torch.dtype) -> None:
    """A pruned one, say: the fixed vector must not have an entry near 0 there."""
    weight = torch.eye(5000, dtype=dtype)
    assert fingerprint(weight).abs().min() > 0.3
