"""What `precondition` takes: batches, strides, any dtype; what it leaves alone, what it refuses."""

import math

import pytest
import torch
from tests.maths.matrices import DEPTHS, gaussian

from virtualdepth import precondition
from virtualdepth.maths import check_rtol

I3 = torch.eye(3)


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("batch", [(1,), (4,), (2, 3), (2, 0), (0,)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (3, 6), (6, 3)])
def test_a_batch_equals_a_loop(
    shape: tuple[int, int], batch: tuple[int, ...], depth: float
) -> None:
    weight, grad = gaussian(*batch, *shape, seed=1), gaussian(*batch, *shape, seed=2)
    if weight.numel():
        weight.flatten(0, -3)[-1] = 0  # a matrix of zeros among the others
    result = precondition(weight, grad, depth)
    assert result.shape == grad.shape
    pairs = zip(weight.reshape(-1, *shape), grad.reshape(-1, *shape), strict=True)
    each = [precondition(w, g, depth) for w, g in pairs]
    if each:
        assert torch.allclose(result.reshape(-1, *shape), torch.stack(each), rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 3, math.inf])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 1), (2, 0, 4)])
def test_empty_matrices(shape: tuple[int, ...], depth: float) -> None:
    assert precondition(torch.zeros(shape), torch.zeros(shape), depth).shape == shape


@pytest.mark.parametrize("depth", [1, 2, 3.5, math.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (5, 5), (3, 6), (6, 3), (2, 4, 4)])
def test_never_writes_to_its_inputs(
    shape: tuple[int, ...], dtype: torch.dtype, depth: float
) -> None:
    weight, grad = gaussian(*shape, seed=1, dtype=dtype), gaussian(*shape, seed=2, dtype=dtype)
    weight_before, grad_before = weight.clone(), grad.clone()
    versions = weight._version, grad._version
    result = precondition(weight, grad, depth)
    result.add_(1)  # nor is what it returns a view of them
    assert torch.equal(weight, weight_before)
    assert torch.equal(grad, grad_before)
    assert (weight._version, grad._version) == versions  # nor written and restored


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (4, 4), (3, 6), (6, 3)])
def test_strides_do_not_matter(shape: tuple[int, int]) -> None:
    weight, grad = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    expected = precondition(weight, grad, 3)
    padded = torch.zeros(2 * shape[0], 3 * shape[1], dtype=torch.float64)
    padded[::2, ::3] = weight
    column_major = grad.T.contiguous().T
    assert torch.allclose(precondition(padded[::2, ::3], column_major, 3), expected, rtol=1e-12)
    same = torch.ones(1, 1, dtype=torch.float64).expand(shape)
    assert torch.allclose(
        precondition(same, same, 3), precondition(same.clone(), same.clone(), 3), rtol=1e-12
    )


def test_depth_one_returns_the_gradient_whatever_the_weight() -> None:
    grad = gaussian(3, 3)
    for weight in (gaussian(3, 3, seed=1), torch.full((3, 3), math.nan), I3 * math.inf):
        assert torch.equal(precondition(weight, grad, 1), grad)


@pytest.mark.parametrize("shape", [(1, 5), (4, 4), (3, 6), (6, 3)])
def test_differentiable_in_the_gradient(shape: tuple[int, int]) -> None:
    """P_W is linear and self-adjoint: its vector-Jacobian product is itself."""
    weight, other = gaussian(*shape, seed=1), gaussian(*shape, seed=2)
    grad = gaussian(*shape, seed=3).requires_grad_()
    (product,) = torch.autograd.grad(precondition(weight, grad, 3), grad, other)
    assert torch.allclose(product, precondition(weight, other, 3), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("depth", [1.5, 2, 3, math.inf])
@pytest.mark.parametrize("shape", [(1, 5), (4, 4), (3, 6), (6, 3)])
def test_differentiable_in_the_weight(shape: tuple[int, int], depth: float) -> None:
    weight = gaussian(*shape, seed=1).requires_grad_()
    grad = gaussian(*shape, seed=2)
    assert torch.autograd.gradcheck(lambda w: precondition(w, grad, depth), (weight,))


def test_parameters_are_taken_as_they_are() -> None:
    weight = torch.nn.Parameter(gaussian(3, 4))
    weight.grad = gaussian(3, 4, seed=1)
    before = weight.grad.clone()
    with torch.no_grad():
        result = precondition(weight, weight.grad, 2)
    assert not result.requires_grad
    assert torch.equal(weight.grad, before)


@pytest.mark.parametrize("shape", [(1, 6), (5, 5), (3, 6), (6, 3)])
def test_autocast_does_not_reach_in(shape: tuple[int, int]) -> None:
    weight, grad = gaussian(*shape, seed=1).float(), gaussian(*shape, seed=2).float()
    expected = precondition(weight, grad, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(precondition(weight, grad, 3), expected)


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode])
def test_under_any_grad_mode(grad_mode: type) -> None:
    weight, grad = gaussian(3, 4), gaussian(3, 4, seed=1)
    expected = precondition(weight, grad, 3)
    with grad_mode():
        assert torch.equal(precondition(weight, grad, 3), expected)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    precondition(gaussian(3, 4), gaussian(3, 4), 3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (I3.long(), "torch.int64"),
        (I3.bool(), "torch.bool"),
        (I3.to(torch.complex64), "torch.complex64"),
        (I3.to_sparse(), "torch.sparse_coo"),
        (I3.tolist(), "list"),
        (I3.numpy(), "ndarray"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_what_is_no_dense_real_tensor(bad: object, found: str) -> None:
    with pytest.raises(TypeError, match=f"^weight: expected .* but got .*{found}"):
        precondition(bad, I3, 2)
    with pytest.raises(TypeError, match=f"^grad: expected .* but got .*{found}"):
        precondition(I3, bad, 2)


def test_refuses_vectors_and_shapes_that_differ() -> None:
    for vector in (torch.ones(3), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"^weight: expected a matrix .* but got shape \("):
            precondition(vector, vector, 2)
        with pytest.raises(ValueError, match=r"^grad: expected a matrix .* but got shape \("):
            precondition(I3, vector, 2)
    for other in (torch.ones(3, 4), torch.ones(1, 3, 3), torch.ones(1, 3)):
        with pytest.raises(ValueError, match=r"^grad: expected the shape \(3, 3\) of weight but"):
            precondition(I3, other, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2, 3, 3)])
def test_refuses_weights_that_are_not_finite(shape: tuple[int, ...], bad: float) -> None:
    weight = torch.ones(shape)
    weight[..., 0, 1] = bad
    with pytest.raises(ValueError, match=r"^weight: expected finite numbers .*learning rate"):
        precondition(weight, torch.ones(shape), 2)


@pytest.mark.parametrize("rtol", [-1e-9, 1, 2.0, math.nan, math.inf])
def test_refuses_rtol_out_of_range(rtol: float) -> None:
    with pytest.raises(ValueError, match=r"^rtol: expected None or a number in \[0, 1\) but got"):
        precondition(I3, I3, 2, rtol=rtol)


@pytest.mark.parametrize("rtol", ["1e-3", True, torch.tensor(0.1), [0.1]])
def test_refuses_rtol_of_the_wrong_type(rtol: object) -> None:
    with pytest.raises(TypeError, match=r"^rtol: expected None or a number in \[0, 1\) but got"):
        precondition(I3, I3, 2, rtol=rtol)


@pytest.mark.parametrize("rtol", [None, 0, 0.0, 1e-13, 0.999])
def test_takes_rtol_in_range(rtol: float | None) -> None:
    assert check_rtol(rtol) is rtol


@pytest.mark.parametrize("depth", [0, 0.5, -2, math.nan])
def test_refuses_depth_out_of_range(depth: float) -> None:
    with pytest.raises(ValueError, match=r"^depth: expected a real number >= 1 or inf but got"):
        precondition(I3, I3, depth)


@pytest.mark.parametrize("depth", ["2", None, True, torch.tensor(2)])
def test_refuses_depth_of_the_wrong_type(depth: object) -> None:
    with pytest.raises(TypeError, match=r"^depth: expected a real number >= 1 or inf but got"):
        precondition(I3, I3, depth)
