"""The law of component norms against the exact derivative along the flow, and finite steps."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import CPTensor, EndToEndSGD, HierarchicalTensor
from virtualdepth.maths import component_slopes, component_velocity, vector_norms
from virtualdepth.networks import FactorizedTensor

F64 = torch.float64
SHAPES = [((3, 4), None), ((4, 5, 3), None), ((2, 3, 2, 3), None), ((2,) * 5, None)]
TREES = [((3, 4), 2), ((3, 2, 3, 4), 2), ((2,) * 8, 2), ((2,) * 9, 3)]


def drawn(shape: tuple[int, ...], branching: int | None, seed: int = 0) -> FactorizedTensor:
    """A factorised tensor with unequal, but not small, norms."""
    tensor: FactorizedTensor
    if branching is None:
        tensor = CPTensor(shape, 3, dtype=F64)
    else:
        tensor = HierarchicalTensor(shape, 3, branching, dtype=F64)
    with torch.no_grad():
        for place, factor in enumerate(tensor.factors):
            factor.copy_(gaussian(*factor.shape, seed=seed + place) * (0.5 + 0.2 * (place % 3)))
    return tensor


def loss_of(tensor: FactorizedTensor) -> Tensor:
    target = gaussian(math.prod(tensor.shape), seed=99).reshape(tensor.shape)
    return (tensor.tensor() - target).square().sum() / 2


def predicted(tensor: FactorizedTensor, **options: float) -> dict[tuple[int, ...], Tensor]:
    grads = torch.autograd.grad(loss_of(tensor), list(tensor.factors))
    nodes = tensor.component_vectors(list(tensor.factors))
    slopes = tensor.component_vectors(grads)
    found = {}
    for node, vectors in nodes.items():
        norms = vector_norms(vectors)
        along = component_slopes(vectors, slopes[node])
        found[node] = component_velocity(norms, along, **options).detach()
    return found


def norms_of(tensor: FactorizedTensor) -> dict[tuple[int, ...], Tensor]:
    nodes = tensor.component_vectors([factor.detach() for factor in tensor.factors])
    return {node: vector_norms(vectors).prod(0) for node, vectors in nodes.items()}


@pytest.mark.parametrize(("shape", "branching"), [*SHAPES, *TREES])
def test_against_differences_of_a_step(shape: tuple[int, ...], branching: int | None) -> None:
    time, ends = 1e-5, []
    expected = predicted(drawn(shape, branching))
    for sign in (-1, 1):
        tensor = drawn(shape, branching)
        torch.autograd.backward(loss_of(tensor))
        torch.optim.SGD(tensor.parameters(), lr=time, maximize=sign < 0).step()
        ends.append(norms_of(tensor))
    assert len(expected) == (1 if branching is None else len(list(tensor.factors)) - len(shape))
    for node, velocity in expected.items():
        seen = (ends[1][node] - ends[0][node]) / (2 * time)
        assert float((velocity - seen).norm() / seen.norm()) < 1e-7
        assert float(seen.norm()) > 1e-2


@settings(max_examples=15)
@given(st.sampled_from([*SHAPES, *TREES]), st.integers(0, 1000))
def test_is_the_derivative_along_the_flow(case: tuple[tuple[int, ...], int | None], seed: int):
    tensor = drawn(*case, seed=seed)
    factors = list(tensor.factors)
    moves = [-grad for grad in torch.autograd.grad(loss_of(tensor), factors)]
    for node, vectors in tensor.component_vectors(factors).items():
        for component, size in enumerate(vector_norms(vectors).prod(0)):
            slopes = torch.autograd.grad(size, factors, allow_unused=True, retain_graph=True)
            along = [
                (slope * move).sum()
                for slope, move in zip(slopes, moves, strict=True)
                if slope is not None
            ]
            found, expected = predicted(tensor)[node][component], torch.stack(along)
            tolerance = 1e-10 * float(expected.abs().sum())
            assert float(found) == pytest.approx(float(expected.sum()), abs=tolerance)


@pytest.mark.parametrize("imbalance", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 2, 2.5, 3])
@pytest.mark.parametrize(("shape", "branching"), SHAPES)
def test_depth_on_the_rows_composes(
    shape: tuple[int, ...], branching: None, depth: float, imbalance: float
) -> None:
    time, options = 1e-8, {"depth": depth, "imbalance": imbalance if depth > 1 else 0.0}
    tensor = drawn(shape, branching)
    [before], [expected] = (
        each.values() for each in (norms_of(tensor), predicted(tensor, weight_decay=0.2, **options))
    )
    optimizer = EndToEndSGD(
        tensor.parameters(), lr=time, structure="rows", weight_decay=0.2, **options
    )
    torch.autograd.backward(loss_of(tensor))
    optimizer.step()
    [after] = norms_of(tensor).values()
    seen = (after - before) / time
    assert float((expected - seen).norm() / seen.norm()) < 1e-5


@given(st.integers(2, 6), st.floats(0.05, 3), st.sampled_from([1.0, 1.5, 2.0, 4.0]))
def test_equal_norms_have_the_gain_of_as_many_layers(count: int, size: float, depth: float) -> None:
    norms = torch.full((count, 1), size ** (1 / count), dtype=F64)
    layers = count * depth
    found = component_velocity(norms, torch.ones(1, dtype=F64), depth)
    assert float(found) == pytest.approx(-layers * size ** (2 - 2 / layers), rel=1e-12)


def test_zero_components_rest() -> None:
    vectors = [torch.zeros(1, 3), torch.ones(1, 2)]
    slopes = component_slopes(vectors, [torch.ones(1, 3), torch.zeros(1, 2)])
    assert component_velocity(vector_norms(vectors), slopes).tolist() == [0.0]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"norms": torch.ones(3)}, r"norms: expected \(K, R\) and slopes \(R,\)"),
        ({"slopes": torch.ones(3)}, r"norms: expected \(K, R\) and slopes \(R,\)"),
        ({"depth": 0.5}, "depth: expected a real number >= 1"),
        ({"depth": math.inf, "imbalance": 0.1}, "imbalance: expected 0 at infinite depth"),
    ],
)
def test_bad_arguments(change: dict[str, object], error: str) -> None:
    call: Callable[..., Tensor] = component_velocity
    with pytest.raises(ValueError, match=error):
        call(**{"norms": torch.ones(3, 2), "slopes": torch.ones(2)} | change)
