"""Balanced factors: their product, balance, spectra and shapes; products and defects of any."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from tests.maths.matrices import SHAPES, gaussian, spectrum, with_spectrum
from torch import Tensor

from virtualdepth import balanced_factors, balancedness, end_to_end_product
from virtualdepth.maths import factor_gradients, layer_sizes, partial_products

KINDS = ("gaussian", "six decades", "equal", "rank deficient", "zero", "tiny", "huge")


def sample(shape: tuple[int, int], kind: str) -> Tensor:
    k = min(shape)
    if kind == "six decades":
        return with_spectrum(shape, spectrum("six decades below 1", k))
    if kind == "equal":
        return with_spectrum(shape, spectrum("equal", k))
    if kind == "rank deficient":
        return gaussian(shape[0], 1, seed=1) @ gaussian(1, shape[1], seed=1)
    return {"zero": 0.0, "tiny": 1e-200, "huge": 1e200}.get(kind, 1.0) * gaussian(*shape, seed=1)


def singular_values(matrix: Tensor) -> np.ndarray:
    return np.linalg.svd(matrix.numpy(), compute_uv=False)


def relative(difference: Tensor, reference: Tensor) -> float:
    """In the largest entry, as squares would leave the range of the extreme matrices."""
    scale = float(reference.abs().max())
    return float(difference.abs().max()) / (scale or 1.0)


@pytest.mark.parametrize("depth", [1, 2, 3, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_factors_multiply_to_the_matrix_and_are_balanced(
    shape: tuple[int, int], kind: str, depth: int
) -> None:
    weight, (m, n), k = sample(shape, kind), shape, min(shape)
    roots = singular_values(weight) ** (1 / depth)
    for widths in ([k] * (depth - 1), [k + 2] * (depth - 1), [k + j % 3 for j in range(depth - 1)]):
        factors = balanced_factors(weight, depth, hidden_features=widths)
        sizes = [(rows, columns) for columns, rows in pairwise([n, *widths, m])]
        assert [tuple(factor.shape) for factor in factors] == sizes

        product = torch.linalg.multi_dot(factors[::-1]) if depth > 1 else factors[0]
        assert relative(product - weight, weight) <= 1e-12
        for before, after in pairwise(factors):
            defect = after.T @ after - before @ before.T
            assert float(defect.abs().max()) <= 1e-13 * (roots[0] ** 2 or 1)
        if kind not in ("rank deficient", "zero"):  # where the roots are those of noise
            for factor in factors:
                values = singular_values(factor)
                assert values[:k] == pytest.approx(roots, rel=1e-8)
                assert values[k:] == pytest.approx(0, abs=1e-13 * roots[0])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_widths_may_be_one_number_or_left_out(depth: int) -> None:
    weight = gaussian(3, 5)
    for hidden, width in ((None, 3), (6, 6)):
        factors = balanced_factors(weight, depth, hidden_features=hidden)
        assert [factor.shape[0] for factor in factors] == [width] * (depth - 1) + [3]
        assert relative(end_to_end_product(factors) - weight, weight) < 1e-14


@pytest.mark.parametrize("depth", [2, 3, 8])
def test_exact_zeros_stay_zero(depth: int) -> None:
    """N-th roots raise the noise of a zero to eps^{1/N}; an exact zero brings none."""
    weight = torch.diag(torch.tensor([8.0, 0.0, 2.0, 0.0], dtype=torch.float64))
    for factor in balanced_factors(weight, depth):
        expected = sorted([8 ** (1 / depth), 2 ** (1 / depth), 0, 0], reverse=True)
        assert singular_values(factor).tolist() == pytest.approx(expected, rel=1e-14, abs=0)
    for factor in balanced_factors(torch.zeros(3, 5), depth):
        assert torch.count_nonzero(factor) == 0


@pytest.mark.parametrize("batch", [(4,), (2, 3), (0,)])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_batch_equals_a_loop(depth: int, batch: tuple[int, ...]) -> None:
    weight = gaussian(*batch, 3, 5, seed=1)
    factors = balanced_factors(weight, depth, hidden_features=4)
    assert end_to_end_product(factors).shape == weight.shape
    assert torch.allclose(end_to_end_product(factors), weight, rtol=0, atol=1e-13)
    defects = balancedness(factors)
    assert defects.shape == (*batch, depth - 1)
    assert (defects < 1e-13).all()
    for index, one in enumerate(weight.reshape(-1, 3, 5)):
        for factor, expected in zip(
            factors, balanced_factors(one, depth, hidden_features=4), strict=True
        ):
            assert torch.allclose(
                factor.reshape(-1, *factor.shape[-2:])[index], expected, rtol=0, atol=1e-13
            )


@pytest.mark.parametrize("depth", [1, 2, 5])
@pytest.mark.parametrize("width", [None, 3, 6])
def test_factors_share_no_memory(depth: int, width: int | None) -> None:
    weight = gaussian(3, 3)
    before = weight.clone()
    factors = balanced_factors(weight, depth, hidden_features=width)
    copies = [factor.clone() for factor in factors]
    for index, factor in enumerate(factors):
        factor.zero_()
        for other, copy in zip(factors[index + 1 :], copies[index + 1 :], strict=True):
            assert torch.equal(other, copy)
    assert torch.equal(weight, before)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float64, 1e-14),
        (torch.float32, 1e-5),
        (torch.float16, 5e-3),
        (torch.bfloat16, 4e-2),
    ],
)
def test_dtype_is_kept(dtype: torch.dtype, tolerance: float) -> None:
    weight = gaussian(4, 6, dtype=dtype)
    factors = balanced_factors(weight, 3)
    assert all(factor.dtype == dtype for factor in factors)
    product = end_to_end_product([factor.double() for factor in factors])
    assert relative(product - weight.double(), weight.double()) < tolerance


def test_widths_from_any_integers() -> None:
    for widths in (4, np.int64(4), [4, 4], (4, 4), [np.int32(4), torch.tensor(4)]):
        assert layer_sizes(5, 3, 3, widths) == [5, 4, 4, 3]
    assert layer_sizes(5, 3, 1) == [5, 3]
    assert layer_sizes(5, 3, 2.0) == [5, 3, 3]
    assert layer_sizes(3, 5, np.int64(3), [7, 4]) == [3, 7, 4, 5]


def test_product_by_hand() -> None:
    first = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    second = torch.tensor([[1.0, 0.0, -1.0]])
    third = torch.tensor([[2.0], [3.0]])
    assert end_to_end_product([first, second, third]).tolist() == [[-8, -8], [-12, -12]]
    assert end_to_end_product((first,)).tolist() == first.tolist()


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_product_is_that_of_the_matrices(batch: tuple[int, ...]) -> None:
    sizes = [4, 6, 2, 7, 3]
    factors = [gaussian(*batch, rows, columns, seed=rows) for columns, rows in pairwise(sizes)]
    expected = np.eye(sizes[0])
    for factor in factors:
        expected = factor.numpy() @ expected
    assert np.allclose(end_to_end_product(factors), expected, rtol=1e-13)


def test_balancedness_by_hand() -> None:
    # ||[[1, 0], [0, 4]]^2 - [[2, 0], [0, 3]]^2||_F with diagonal layers: |1 - 4|, |16 - 9|
    first, second = torch.diag(torch.tensor([2.0, 3.0])), torch.diag(torch.tensor([1.0, 4.0]))
    assert balancedness([first, second]).tolist() == pytest.approx([math.hypot(3, 7)])
    # rectangular: W_2^T W_2 = 4 against W_1 W_1^T = 1 + 4 + 4
    row, scalar = torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([[2.0]])
    assert balancedness([row, scalar, scalar]).tolist() == pytest.approx([5, 0])
    assert balancedness([row]).shape == (0,)
    assert balancedness([torch.ones(4, 2, 3)]).shape == (4, 0)


def test_balancedness_does_not_depend_on_the_order_of_a_rotation() -> None:
    """W_2 Q^T, Q W_1 is another balanced pair of the same product; scaling one breaks balance."""
    first, second = balanced_factors(gaussian(3, 5), 2)
    q = torch.linalg.qr(gaussian(3, 3, seed=9))[0]
    assert balancedness([q @ first, second @ q.T]).item() < 1e-13
    c = 1.1
    sigma = singular_values(second @ first)
    expected = math.sqrt(sum(((1 / c**2 - c**2) * s) ** 2 for s in sigma))
    assert balancedness([c * first, second / c]).item() == pytest.approx(expected, rel=1e-12)


def test_balancedness_under_autocast() -> None:
    factors = balanced_factors(gaussian(6, 6, dtype=torch.float32), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (balancedness(factors) < 1e-5).all()


@pytest.mark.parametrize("depth", [0, -1, 2.5, math.inf, math.nan])
def test_refuses_depths_without_a_network(depth: float) -> None:
    with pytest.raises(ValueError, match=r"^depth: expected an integer >= 1 for an explicit netw"):
        balanced_factors(torch.eye(2), depth)


@pytest.mark.parametrize("depth", ["2", None, True, [2]])
def test_refuses_depths_that_are_no_number(depth: object) -> None:
    with pytest.raises(TypeError, match=r"^depth: expected an integer >= 1 for an explicit netw"):
        balanced_factors(torch.eye(2), depth)


def test_refuses_widths() -> None:
    weight = torch.ones(3, 5)
    with pytest.raises(ValueError, match=r"^hidden_features: expected widths >= .* 3, .*\[2, 2\]"):
        balanced_factors(weight, 3, hidden_features=2)
    with pytest.raises(ValueError, match=r"^hidden_features: expected widths >= .* 3, .*\[4, 2\]"):
        balanced_factors(weight, 3, hidden_features=[4, 2])
    with pytest.raises(ValueError, match=r"^hidden_features: expected one width or 2 widths .* 1$"):
        balanced_factors(weight, 3, hidden_features=[4])
    with pytest.raises(ValueError, match=r"^hidden_features: expected one width or 0 widths .* 1$"):
        balanced_factors(weight, 1, hidden_features=[4])
    for widths in (4.0, "4", [4.0, 4]):
        with pytest.raises(TypeError, match=r"^hidden_features: expected an integer width"):
            balanced_factors(weight, 3, hidden_features=widths)


def test_refuses_matrices() -> None:
    with pytest.raises(ValueError, match=r"^weight: expected a matrix \(\.\.\., m, n\) but got"):
        balanced_factors(torch.ones(3), 2)
    with pytest.raises(TypeError, match=r"^weight: expected a dense real floating-point tensor"):
        balanced_factors(torch.ones(3, 3, dtype=torch.int64), 2)
    with pytest.raises(TypeError, match=r"^weight: expected a dense real floating-point tensor"):
        balanced_factors(torch.ones(3, 3, dtype=torch.complex64), 2)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^weight: expected finite numbers"):
            balanced_factors(torch.full((2, 2), bad), 2)
    with pytest.raises(ValueError, match=r"^out_features: expected a width >= 1 but got 0"):
        balanced_factors(torch.ones(0, 3), 2)
    with pytest.raises(ValueError, match=r"^in_features: expected a width >= 1 but got 0"):
        balanced_factors(torch.ones(3, 0), 2)


@pytest.mark.parametrize("function", [end_to_end_product, balancedness])
def test_refuses_chains_that_do_not_fit(function: object) -> None:
    with pytest.raises(ValueError, match=r"^factors: expected at least one matrix but got none"):
        function([])
    first, second, third = torch.ones(4, 2), torch.ones(3, 4), torch.ones(5, 3)
    assert function([first, second, third]) is not None
    with pytest.raises(ValueError, match=r"^factors: expected W_2 with .* 3, but got \(5, 5\)"):
        function([second, torch.ones(5, 5)])
    with pytest.raises(ValueError, match=r"^factors: expected W_3 with .* W_1, the layer applied"):
        function([first, second, first])
    with pytest.raises(TypeError, match=r"^factors, W_2: expected a dense real floating-point"):
        function([first, second.long()])
    with pytest.raises(ValueError, match=r"^factors, W_1: expected a matrix"):
        function([torch.ones(3), second])


@pytest.mark.parametrize("widths", [(3, 2), (4, 3, 5), (5, 4, 6, 2), (1, 2, 2, 2, 1)])
def test_factor_gradients_by_autograd(widths: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = [normal(rows, columns).requires_grad_() for columns, rows in pairwise(widths)]
    grad = normal(widths[-1], widths[0])
    product = factors[0]
    for factor in factors[1:]:
        product = factor @ product
    expected = torch.autograd.grad((product * grad).sum(), factors)
    detached = [factor.detach() for factor in factors]
    products = partial_products(detached)
    torch.testing.assert_close(products[-1], product.detach(), rtol=1e-12, atol=1e-12)
    found = factor_gradients(detached, products, grad)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
