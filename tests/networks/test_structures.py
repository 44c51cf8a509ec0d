"""Structured and unbalanced networks: what they compute, how they start, who follows them."""

import math
import pickle
from collections.abc import Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth import DeepLinear, init

# the structures, on wide and on tall parameters; three dimensions and more are signals
CASES = (
    ("matrix", (4, 6)),
    ("matrix", (5, 3)),
    ("rows", (4, 6)),
    ("rows", (5, 3)),
    ("columns", (4, 6)),
    ("columns", (5, 3)),
    ("diagonal", (4, 6)),
    ("circulant", (4, 6)),
    ("circulant", (3, 5)),
    ("circulant", (2, 3, 4)),
    ("circulant", (3, 2, 5)),
    ("circulant", (3, 2, 3, 4)),
)
FLAT = tuple(case for case in CASES if len(case[1]) == 2)
EVERY = pytest.mark.parametrize(("structure", "shape"), CASES, ids=str)
EVERY_FLAT = pytest.mark.parametrize(("structure", "shape"), FLAT, ids=str)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network_of(structure: str, shape: tuple[int, ...], depth: int, **options: Any) -> DeepLinear:
    m, n, *size = shape
    options |= {"signal_size": size} if size else {}
    return DeepLinear(n, m, depth, structure=structure, dtype=torch.float64, **options)


def correlated(kernel: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """sum_{j, s} W[i, j, s] x[j, t + s] around the circle or torus, (m, k, ...), literally."""
    size = inputs.shape[1:]
    outputs = np.zeros((kernel.shape[0], *size))
    for t in np.ndindex(*size):
        for s in np.ndindex(*size):
            there = tuple((a + b) % k for a, b, k in zip(t, s, size, strict=True))
            outputs[:, *t] += kernel[:, :, *s] @ inputs[:, *there]
    return outputs


def literal(structure: str, factors: list[np.ndarray], inputs: np.ndarray) -> np.ndarray:
    """What the network computes from one input, (n,) or (n, k, ...), written out."""
    if inputs.ndim > 1:
        return reduce(lambda passed, kernel: correlated(kernel, passed), factors, inputs)
    if structure == "diagonal":
        gated = reduce(lambda passed, gates: passed * gates, factors, np.ones_like(factors[0]))
        return np.array([gates @ inputs for gates in gated])
    if structure == "circulant":
        outputs = []
        for filters in zip(*factors, strict=True):  # those of one output
            passed = inputs[None]
            for each in filters:
                passed = correlated(each[None, None], passed)
            outputs.append(passed[0, 0])
        return np.array(outputs)
    matrices = [np.diag(factor) if factor.ndim == 1 else factor for factor in factors]
    return reduce(lambda passed, matrix: matrix @ passed, matrices, inputs)


@EVERY
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_the_layers_compute_what_they_say(
    structure: str, shape: tuple[int, ...], depth: int
) -> None:
    network = network_of(structure, shape, depth)
    with torch.no_grad():
        for number, factor in enumerate(network.factors):
            factor.copy_(gaussian(*factor.shape, seed=number))
    inputs = gaussian(3, *shape[1:], seed=9)
    outputs = network(inputs).detach()
    factors = [factor.detach().numpy() for factor in network.factors]
    expected = [literal(structure, factors, each) for each in inputs.numpy()]
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-12)
    assert torch.allclose(network(inputs[None])[0], outputs, rtol=0, atol=1e-13)  # any batch
    # and the end-to-end matrix, or kernel, computes the same
    weight = network.end_to_end().detach()
    assert weight.shape == shape
    assert (network.out_features, network.in_features, *network.signal_size) == shape
    one = DeepLinear.from_weight(weight, 1, structure=structure)
    assert torch.allclose(one(inputs), outputs, rtol=0, atol=1e-12)
    if len(shape) == 2:
        assert torch.allclose(inputs @ weight.T, outputs, rtol=0, atol=1e-12)
        assert torch.equal(network.to_linear().weight, weight)


@EVERY
def test_a_new_network_starts_as_a_linear_layer(structure: str, shape: tuple[int, ...]) -> None:
    if structure == "matrix":
        return  # each of its layers does, see test_deep_linear.py
    torch.manual_seed(0)
    weight = network_of(structure, shape, 3).end_to_end().detach()
    torch.manual_seed(0)
    m, n, *size = shape
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d)
    layer = kinds[len(size)](n, m, *([size] if size else []), bias=False, dtype=torch.float64)
    assert torch.allclose(weight, layer.weight, rtol=0, atol=1e-14)


def dense(structure: str, factors: list[Tensor]) -> list[np.ndarray]:
    """The layers as the matrices of their blocks."""
    arrays, block_diag = [factor.detach().numpy() for factor in factors], scipy.linalg.block_diag
    if arrays[0].ndim > 2:  # the block circulant matrix, (l k, n k), by the unit vectors
        basis = [np.eye(math.prod(f.shape[1:])).reshape(-1, *f.shape[1:]) for f in arrays]
        return [
            np.stack([correlated(f, each).ravel() for each in units], axis=1)
            for f, units in zip(arrays, basis, strict=True)
        ]
    if structure == "circulant":
        return [block_diag(*map(scipy.linalg.circulant, array)) for array in arrays]
    if structure == "rows":
        return [block_diag(*arrays[0][:, None]), *map(np.diag, arrays[1:])]
    if structure == "columns":
        return [*map(np.diag, arrays[:-1]), block_diag(*arrays[-1].T[:, :, None])]
    return [np.diag(array.ravel()) if structure == "diagonal" else array for array in arrays]


@EVERY
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("imbalance", [0.0, 0.7])
def test_from_weight_is_exact_and_as_unbalanced_as_it_says(
    structure: str, shape: tuple[int, ...], depth: int, imbalance: float
) -> None:
    weight = gaussian(*shape)
    network = DeepLinear.from_weight(weight, depth, structure=structure, imbalance=imbalance)
    assert network.depth == len(network.factors) == depth
    assert (network.structure, network.imbalance) == (structure, imbalance)
    assert torch.allclose(network.end_to_end(), weight, rtol=0, atol=1e-12)
    layers = dense(structure, network.factors)
    defects = [after.T @ after - before @ before.T for before, after in pairwise(layers)]
    # lambda I at the pair of the smaller layer, of either sign, else 0
    sizes = [np.linalg.norm(defect) for defect in defects]
    if depth > 1:
        assert sum(size > 1e-12 for size in sizes) == (imbalance > 0)
        odd = max(defects, key=np.linalg.norm)
        identity = math.copysign(imbalance, np.trace(odd)) * np.eye(len(odd))
        np.testing.assert_allclose(odd, identity, rtol=0, atol=1e-12)
    found = vd.balancedness(network.factors, structure=structure).detach()
    np.testing.assert_allclose(found, sizes, rtol=0, atol=1e-12)


@EVERY
def test_balancedness_of_any_layers(structure: str, shape: tuple[int, ...]) -> None:
    network = network_of(structure, shape, 3)
    for scale in (1.0, 1e100):  # whose squares are in range, and whose fourth powers are not
        with torch.no_grad():
            for number, factor in enumerate(network.factors):
                factor.copy_(scale * gaussian(*factor.shape, seed=number))
        layers = [layer / scale for layer in dense(structure, network.factors)]
        expected = [np.linalg.norm(b.T @ b - a @ a.T) for a, b in pairwise(layers)]
        found = vd.balancedness(network.factors, structure=structure).detach() / scale**2
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def gap(
    structure: str,
    shape: tuple[int, ...],
    lr: float,
    start: Tensor,
    network: Mapping[str, Any],
    rule: Mapping[str, Any],
) -> tuple[float, float]:
    """The largest relative gap over the time 1 / 2, and how far W came."""
    _, n, *size = shape
    inputs = gaussian(4 * n, n, *size, seed=1)
    targets = DeepLinear.from_weight(gaussian(*shape, seed=2), 1, structure=structure)(inputs)
    deep = DeepLinear.from_weight(start, structure=structure, **network)
    single = DeepLinear.from_weight(start, 1, structure=structure)
    (weight,) = single.factors
    optimizer = torch.optim.SGD([*single.parameters(), *deep.parameters()], lr)
    largest = 0.0
    for _ in range(round(0.5 / lr)):
        optimizer.zero_grad()
        for model in (single, deep):
            residual = model(inputs) - targets.detach()
            (residual.square().sum() / (2 * len(inputs) * math.prod(size))).backward()
        weight.grad = vd.precondition(weight.detach(), weight.grad, **rule)
        optimizer.step()
        with torch.no_grad():
            product = deep.end_to_end()
            largest = max(largest, float((weight - product).norm() / product.norm()))
    return largest, float((product - start).norm())


def order(
    structure: str,
    shape: tuple[int, ...],
    start: Tensor,
    network: Mapping[str, Any],
    wrong: Mapping[str, Any] | None = None,
) -> float:
    """log2 of what halving the learning rate divides the gap by."""
    rule = {"structure": structure, **network, **(wrong or {})}
    gaps, ways = zip(
        *(gap(structure, shape, lr, start, network, rule) for lr in (0.01, 0.005)), strict=True
    )
    assert min(ways) > 0.3  # they learned, so that there is something to follow
    return math.log2(gaps[0] / gaps[1])


LEARNED = (
    ("matrix", (4, 6)),
    ("rows", (4, 6)),
    ("columns", (4, 6)),
    ("diagonal", (4, 6)),
    ("circulant", (4, 6)),
    ("circulant", (2, 3, 4)),
)
LEARNING = pytest.mark.parametrize(("structure", "shape"), LEARNED, ids=str)


@LEARNING
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(("scale", "imbalance"), [(0.5, 0.0), (0.5, 0.5), (0.0, 0.4)])
def test_one_layer_follows_the_network(
    structure: str, shape: tuple[int, ...], depth: int, scale: float, imbalance: float
) -> None:
    start = scale * gaussian(*shape)
    found = order(structure, shape, start, {"depth": depth, "imbalance": imbalance})
    assert 0.9 < found < 1.1


@LEARNING
@pytest.mark.parametrize(
    "wrong", [{"imbalance": 0.0}, {"depth": 3}, {"structure": "matrix"}],
    ids=str,
)  # fmt: skip
def test_another_rule_does_not(
    structure: str, shape: tuple[int, ...], wrong: dict[str, Any]
) -> None:
    if wrong.get("structure") == structure:
        wrong = {"structure": "diagonal"}
    found = order(structure, shape, 0.5 * gaussian(*shape), {"depth": 2, "imbalance": 0.5}, wrong)
    assert abs(found) < 0.3


@EVERY
@pytest.mark.parametrize("imbalance", [0.0, 0.7])
def test_balanced_draws_what_a_single_layer_gets(
    structure: str, shape: tuple[int, ...], imbalance: float
) -> None:
    deep = network_of(structure, shape, 3, imbalance=imbalance)
    init.balanced_(deep, 0.1, generator=torch.Generator().manual_seed(3))
    columns = math.prod(shape[1:])
    single = nn.Linear(columns, shape[0], bias=False, dtype=torch.float64)
    init.balanced_(single, 0.1, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(deep.end_to_end(), single.weight.view(shape), rtol=0, atol=1e-14)
    largest = vd.balancedness(deep.factors, structure=structure).max()
    assert bool(largest > 0.7) is (imbalance > 0)


@EVERY
def test_identity_passes_inputs_on(structure: str, shape: tuple[int, ...]) -> None:
    network = init.identity_(network_of(structure, shape, 3, imbalance=0.2), 2.5)
    inputs = gaussian(2, *shape[1:])
    common = min(shape[:2])
    expected = torch.zeros(2, shape[0], *shape[2:], dtype=torch.float64)
    expected[:, :common] = 2.5 * inputs[:, :common]
    assert torch.allclose(network(inputs), expected, rtol=0, atol=1e-12)


@EVERY
def test_near_zero_draws_every_factor(structure: str, shape: tuple[int, ...]) -> None:
    m, n = (10 * length for length in shape[:2])
    network = network_of(structure, (m, n, *shape[2:]), 2)
    init.near_zero_(network, 1e-3, generator=torch.Generator().manual_seed(0))
    for factor in network.factors:
        count = factor.numel()
        # five standard deviations of the mean of squares
        assert float(factor.detach().square().mean()) == pytest.approx(
            1e-6, rel=5 * math.sqrt(2 / count)
        )
    unbalanced = nn.Sequential(nn.Linear(2, 2), network_of(structure, shape, 2, imbalance=0.1))
    before = unbalanced[0].weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"^near_zero_: expected layers of one size but got .*0\.1"
    ):
        init.near_zero_(unbalanced, 1e-3)
    assert torch.equal(unbalanced[0].weight, before)


@EVERY
def test_set_end_to_end_keeps_structure_and_imbalance(
    structure: str, shape: tuple[int, ...]
) -> None:
    network = network_of(structure, shape, 2, imbalance=0.3)
    parameters = list(network.parameters())
    assert network.set_end_to_end_(torch.zeros(shape)) is network
    assert all(a is b for a, b in zip(parameters, network.parameters(), strict=True))
    assert network.end_to_end().abs().max() == 0
    assert sorted(float(p.detach().norm()) > 0.1 for p in parameters) == [False, True]
    with pytest.raises(ValueError, match=r"^weight: expected shape"):
        network.set_end_to_end_(torch.zeros(*shape[:-1], 9))


@EVERY
def test_pickle_meta_and_repr(structure: str, shape: tuple[int, ...]) -> None:
    network = network_of(structure, shape, 2, imbalance=0.3)
    again = pickle.loads(pickle.dumps(network))
    inputs = gaussian(2, *shape[1:])
    assert torch.equal(again(inputs), network(inputs))
    other = network_of(structure, shape, 2, imbalance=0.3)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(inputs), network(inputs))
    named = "" if structure == "matrix" else f", structure={structure!r}"
    size = f", signal_size={shape[2:]}" if len(shape) > 2 else ""
    assert network.extra_repr().endswith(f"depth=2{named}, imbalance=0.3{size}")
    away = network_of(structure, shape, 3, device="meta")
    assert {p.device.type for p in away.parameters()} == {"meta"}


def test_the_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    for structure, shape in CASES:
        DeepLinear.from_weight(gaussian(*shape), 2, structure=structure)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_of_older_versions_is_balanced_matrices() -> None:
    network = DeepLinear(3, 2, 2)
    for name in ("structure", "imbalance", "signal_size"):
        del vars(network)[name]
    init.balanced_(network, 0.1)
    assert network(torch.ones(3)).shape == (2,)
    assert network.extra_repr() == "in_features=3, out_features=2, depth=2"


@pytest.mark.parametrize("structure", ["rows", "columns", "diagonal", "circulant"])
def test_refuses_hidden_widths_of_a_structure(structure: str) -> None:
    match = rf"^hidden_features: expected None with structure='{structure}'.* but got 4"
    with pytest.raises(ValueError, match=match):
        DeepLinear(3, 2, 3, 4, structure=structure)
    with pytest.raises(ValueError, match=match):
        DeepLinear.from_weight(torch.ones(2, 3), 3, 4, structure=structure)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"structure": "toeplitz"}, ValueError, r"^structure: expected one of matrix, rows, .*"),
        ({"imbalance": -1.0}, ValueError, r"^imbalance: expected a finite number >= 0 but got -1"),
        ({"imbalance": math.inf}, ValueError, r"^imbalance: expected a finite number >= 0"),
        ({"imbalance": "0.5"}, TypeError, r"^imbalance: expected a finite number >= 0"),
        ({"signal_size": 4}, ValueError, r"^signal_size: expected None with structure='matrix'"),
        ({"structure": "circulant", "signal_size": 0}, ValueError, r"^signal_size: .*>= 1 but got"),
        ({"structure": "circulant", "signal_size": ()}, ValueError, r"^signal_size: .*>= 1 but"),
    ],
    ids=str,
)
def test_refuses(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        DeepLinear(3, 2, 3, **options)


@pytest.mark.parametrize("size", [2.5, "4", (3, None)])
def test_refuses_sizes_that_are_no_integers(size: object) -> None:
    with pytest.raises(TypeError, match=r"^signal_size: expected integers .* but got"):
        DeepLinear(3, 2, 3, structure="circulant", signal_size=size)


@EVERY
def test_refuses_inputs_of_other_features(structure: str, shape: tuple[int, ...]) -> None:
    """One feature, or filters of as many frequencies, would silently be broadcast."""
    network = network_of(structure, shape, 2)
    _, n, *size = shape
    for other in ((1, *size), (n + 1, *size), (n, *(k + 1 for k in size)), ()):
        if other != (n, *size):
            with pytest.raises(
                ValueError, match=rf"^inputs: expected shape \(\.\.\., {n}.* but got"
            ):
                network(torch.ones(other, dtype=torch.float64))


def test_refuses_kernels_without_signals() -> None:
    for structure in ("matrix", "rows", "columns", "diagonal"):
        match = r"^weight: expected a matrix \(m, n\) but got .* structure='circulant'"
        with pytest.raises(ValueError, match=match):
            DeepLinear.from_weight(torch.ones(2, 3, 4), 2, structure=structure)
    network = DeepLinear(3, 2, 2, structure="circulant", signal_size=4)
    with pytest.raises(ValueError, match=r"^to_linear: .* a convolution of signals \(4,\)"):
        network.to_linear()
