"""Cheaper matrix products, against plain ones."""

import pytest
import torch
from tests.maths.matrices import gaussian

from virtualdepth.maths import matvec
from virtualdepth.maths._products import add_product_, gram


@pytest.mark.parametrize("shape", [(5, 3), (384, 8), (401, 20), (2, 5, 3), (2, 387, 3)], ids=str)
def test_gram_is_the_product(shape: tuple[int, ...]) -> None:
    matrix = gaussian(*shape)
    torch.testing.assert_close(gram(matrix), matrix @ matrix.mT, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_product_is_added(batch: tuple[int, ...]) -> None:
    left, right, total = gaussian(*batch, 3, 4), gaussian(*batch, 4, 5), gaussian(*batch, 3, 5)
    expected = left @ right + total
    torch.testing.assert_close(add_product_(total, left, right), expected, rtol=1e-14, atol=1e-14)
    assert torch.equal(add_product_(total, 0 * left, right), total), "it is not added in place"


@pytest.mark.parametrize("batch", [(), (3,)])
def test_one_vector_or_one_for_each_matrix(batch: tuple[int, ...]) -> None:
    matrix = gaussian(*batch, 3, 4)
    for vector in (gaussian(4), gaussian(*batch, 4)):
        expected = torch.einsum("...ij,...j->...i", matrix, vector.expand(*batch, 4))
        torch.testing.assert_close(matvec(matrix, vector), expected, rtol=1e-14, atol=1e-14)
