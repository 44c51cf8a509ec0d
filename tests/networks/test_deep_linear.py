"""The explicit network: its function, its factors, and what any nn.Module must do."""

import copy
import io
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from virtualdepth import DeepLinear

SHAPES = ((1, 1), (1, 5), (5, 1), (4, 4), (3, 6), (6, 3))


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("hidden", [None, 7, "each"])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_from_weight_is_exact_and_balanced(
    shape: tuple[int, int], depth: int, hidden: int | str | None
) -> None:
    weight, (m, n), k = gaussian(*shape), shape, min(shape)
    widths = {None: [k] * (depth - 1), 7: [7] * (depth - 1), "each": list(range(6, 5 + depth))}
    network = DeepLinear.from_weight(weight, depth, widths["each"] if hidden == "each" else hidden)
    sizes = [n, *widths[hidden], m]
    assert [tuple(layer.weight.shape) for layer in network.layers] == [
        (rows, columns) for columns, rows in pairwise(sizes)
    ]
    assert (network.in_features, network.out_features, network.depth) == (n, m, depth)
    assert np.allclose(network.end_to_end().detach(), weight, rtol=0, atol=1e-13)
    for before, after in pairwise(network.factors):
        defect = (after.T @ after - before @ before.T).detach()
        assert defect.abs().max() < 1e-13
    inputs = gaussian(2, 5, n, seed=1)
    assert torch.allclose(network(inputs), inputs @ weight.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(4, 3, 1), (4, 3, 3), (2, 6, 5)])
def test_forward_applies_the_layers_one_after_the_other(sizes: tuple[int, int, int]) -> None:
    n, m, depth = sizes
    network = DeepLinear(n, m, depth, 7 if depth > 1 else None, dtype=torch.float64)
    expected = inputs = gaussian(3, n)
    for factor in network.factors:
        expected = (factor @ expected.T).T
    assert torch.allclose(network(inputs), expected, rtol=1e-12, atol=1e-14)
    product = inputs @ network.end_to_end().T
    assert torch.allclose(product, expected, rtol=1e-12, atol=1e-14)


def test_layers_are_linear_modules_without_biases() -> None:
    network = DeepLinear(4, 3, 3)
    assert all(type(layer) is nn.Linear and layer.bias is None for layer in network.layers)
    assert list(network.state_dict()) == [f"layers.{j}.weight" for j in range(3)]
    assert sum(p.numel() for p in network.parameters()) == 3 * 4 + 3 * 3 + 3 * 3
    assert all(a is b for a, b in zip(network.factors, network.parameters(), strict=True))
    assert all(p.requires_grad for p in network.parameters())


def test_fresh_layers_have_the_default_start_of_torch() -> None:
    torch.manual_seed(0)
    network = DeepLinear(4, 3, 2, 5)
    torch.manual_seed(0)
    for layer, (columns, rows) in zip(network.layers, [(4, 5), (5, 3)], strict=True):
        assert torch.equal(layer.weight, nn.Linear(columns, rows, bias=False).weight)


def test_gradients_reach_every_factor() -> None:
    network = DeepLinear.from_weight(gaussian(3, 4), 3)
    inputs, grad_out = gaussian(6, 4, seed=1), gaussian(6, 3, seed=2)
    (network(inputs) * grad_out).sum().backward()
    by_layers = [factor.grad.clone() for factor in network.factors]
    network.zero_grad()
    # the same loss is linear in the product: <grad_out^T inputs, W>
    (network.end_to_end() * (grad_out.T @ inputs)).sum().backward()
    for factor, grad in zip(network.factors, by_layers, strict=True):
        assert grad.norm() > 0
        assert torch.allclose(factor.grad, grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", [1, 4])
def test_to_linear_computes_the_same_function(depth: int, dtype: torch.dtype) -> None:
    network = DeepLinear.from_weight(gaussian(3, 5, dtype=dtype), depth)
    linear = network.to_linear()
    assert type(linear) is nn.Linear
    assert linear.bias is None
    assert linear.weight.dtype == dtype
    assert linear.weight.requires_grad
    assert torch.equal(linear.weight, network.end_to_end())
    inputs = gaussian(7, 5, seed=1, dtype=dtype)
    tolerance = 20 * torch.finfo(dtype).eps
    assert torch.allclose(linear(inputs), network(inputs), rtol=0, atol=10 * tolerance)
    with torch.no_grad():
        linear.weight.zero_()
    assert network.end_to_end().abs().max() > 0  # a copy


def test_from_weight_copies_and_detaches() -> None:
    for depth in (1, 2):
        weight = nn.Parameter(gaussian(3, 3))
        before = weight.detach().clone()
        network = DeepLinear.from_weight(weight, depth)
        assert all(factor.is_leaf for factor in network.factors)
        with torch.no_grad():
            for factor in network.factors:
                factor.zero_()
        assert torch.equal(weight, before)
        assert weight.grad is None


def test_set_end_to_end_keeps_widths_and_parameters() -> None:
    network = DeepLinear(4, 3, 3, [6, 5], dtype=torch.float64)
    parameters = list(network.parameters())
    weight = gaussian(3, 4)
    assert network.set_end_to_end_(weight) is network
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert [tuple(p.shape) for p in parameters] == [(6, 4), (5, 6), (3, 5)]
    assert torch.allclose(network.end_to_end(), weight, rtol=0, atol=1e-13)


def test_converting_leaves_the_global_generator_alone() -> None:
    network = DeepLinear(4, 3, 2)
    before = torch.get_rng_state()
    DeepLinear.from_weight(gaussian(3, 4), 3)
    network.to_linear()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dtype(dtype: torch.dtype) -> None:
    assert {p.dtype for p in DeepLinear(3, 2, 2, dtype=dtype).parameters()} == {dtype}
    network = DeepLinear.from_weight(gaussian(3, 4, dtype=dtype), 3)
    assert {p.dtype for p in network.parameters()} == {dtype}
    assert network.to(torch.float64).end_to_end().dtype == torch.float64


def test_device() -> None:
    network = DeepLinear(3, 2, 2, device="meta")
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert network.end_to_end().shape == (2, 3)


def test_repr_names_the_sizes() -> None:
    network = DeepLinear(4, 3, 2)
    assert network.extra_repr() == "in_features=4, out_features=3, depth=2"
    assert repr(network).startswith("DeepLinear(\n  in_features=4, out_features=3, depth=2\n")


def test_checkpoint_copy_and_pickle() -> None:
    network = DeepLinear.from_weight(gaussian(3, 4), 3)
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    buffer.seek(0)
    other = DeepLinear(4, 3, 3, dtype=torch.float64)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for twin in (other, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert twin.depth == 3
        assert torch.equal(twin.end_to_end(), network.end_to_end())
        with torch.no_grad():
            twin.factors[0].zero_()
        assert network.factors[0].abs().max() > 0


def test_a_subclass_is_what_from_weight_builds() -> None:
    class Counting(DeepLinear):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)
            self.register_buffer("calls", torch.zeros(()))

    network = Counting.from_weight(gaussian(2, 2), 2)
    assert type(network) is Counting
    assert network.calls.item() == 0


@pytest.mark.parametrize("depth", [0, -1, 2.5, math.inf, math.nan])
def test_refuses_depths_without_a_network(depth: float) -> None:
    match = r"^depth: expected an integer >= 1 for an explicit network but got .* one matrix only"
    with pytest.raises(ValueError, match=match):
        DeepLinear(3, 2, depth)
    with pytest.raises(ValueError, match=match):
        DeepLinear.from_weight(torch.ones(2, 3), depth)


def test_refuses_widths() -> None:
    with pytest.raises(ValueError, match=r"^hidden_features: expected widths >= .* got \[1, 1\]"):
        DeepLinear(3, 2, 3, 1)
    with pytest.raises(ValueError, match=r"^hidden_features: expected widths >= .* got \[3, 1\]"):
        DeepLinear.from_weight(torch.ones(2, 3), 3, [3, 1])
    with pytest.raises(ValueError, match=r"^hidden_features: expected one width or 2 widths"):
        DeepLinear(3, 2, 3, [4])
    with pytest.raises(ValueError, match=r"^in_features: expected a width >= 1 but got 0"):
        DeepLinear(0, 2, 3)
    with pytest.raises(ValueError, match=r"^out_features: expected a width >= 1 but got -1"):
        DeepLinear(2, -1, 3)
    with pytest.raises(TypeError, match=r"^in_features: expected an integer width but got 3\.0"):
        DeepLinear(3.0, 2, 3)


def test_refuses_weights() -> None:
    for shape in ((3,), (2, 3, 3)):
        with pytest.raises(ValueError, match=r"^weight: expected a matrix"):
            DeepLinear.from_weight(torch.ones(shape), 2)
    with pytest.raises(TypeError, match=r"^weight: expected a dense real floating-point tensor"):
        DeepLinear.from_weight(torch.eye(2, dtype=torch.int64), 2)
    with pytest.raises(TypeError, match=r"^weight: expected a tensor but got list"):
        DeepLinear.from_weight([[1.0]], 2)
    with pytest.raises(ValueError, match=r"^weight: expected finite numbers"):
        DeepLinear.from_weight(torch.full((2, 2), math.nan), 2)
    network = DeepLinear(3, 2, 2)
    before = [p.clone() for p in network.parameters()]
    with pytest.raises(ValueError, match=r"^weight: expected shape \(2, 3\) but got \(3, 2\)"):
        network.set_end_to_end_(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"^weight: expected finite numbers"):
        network.set_end_to_end_(torch.full((2, 3), math.inf))
    assert all(torch.equal(p, old) for p, old in zip(network.parameters(), before, strict=True))
