"""Factorised tensors against literal sums, and what a module has to bear."""

import copy
import math
import pickle
import string
from itertools import product

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor, nn

from virtualdepth import CPTensor, HierarchicalTensor, init
from virtualdepth.maths import vector_norms
from virtualdepth.networks import FactorizedTensor

F64 = torch.float64
CASES = [
    CPTensor((3, 4), 2, dtype=F64),
    CPTensor((2, 3, 4, 2), 5, dtype=F64),
    HierarchicalTensor((3, 4), 3, dtype=F64),
    HierarchicalTensor((2, 3, 4, 2), (5, 3), dtype=F64),
    HierarchicalTensor((2,) * 8, (3, 2, 4), dtype=F64),
    HierarchicalTensor((2, 3, 2, 2, 1, 3, 2, 2, 2), (3, 2), 3, dtype=F64),
]
EACH = pytest.mark.parametrize("tensor", CASES, ids=lambda tensor: tensor.extra_repr())


def literal(tensor: FactorizedTensor) -> Tensor:
    """The sum over all components, by one einsum over the whole tree."""
    order, letters = len(tensor.shape), iter(string.ascii_letters[20:])
    factors = list(tensor.factors)
    operands, terms = [], []
    below = []  # the letter of each node's features, which is that of its factor's rows
    above = next(letters)
    for place in range(order):
        if place % tensor.branching == 0:
            above = next(letters)
        terms.append(above + string.ascii_letters[place])
        operands.append(factors[place])
        if place % tensor.branching == 0:
            below.append(above)
    inner = factors[order:]
    while inner:
        level, inner, names = inner[: len(below)], inner[len(below) :], below
        below = []
        for place, (factor, name) in enumerate(zip(level, names, strict=True)):
            if place % tensor.branching == 0:
                above = next(letters)
                below.append(above)
            terms.append(above + name)
            operands.append(factor)
    return torch.einsum(",".join(terms) + "->" + string.ascii_letters[:order], *operands).detach()


@EACH
def test_tensor_and_entries_against_one_sum(tensor: FactorizedTensor) -> None:
    expected = literal(tensor)
    assert expected.shape == tensor.shape
    assert torch.allclose(tensor.tensor(), expected, rtol=1e-12, atol=1e-12)
    indices = torch.tensor(list(product(*map(range, tensor.shape))))
    assert torch.allclose(tensor(indices), expected.flatten(), rtol=1e-12, atol=1e-12)
    one = tensor(indices[5].int())
    assert one.shape == ()
    assert float(one.detach()) == pytest.approx(float(expected.flatten()[5]), rel=1e-12)


@EACH
def test_gradients_of_entries_are_those_of_the_tensor(tensor: FactorizedTensor) -> None:
    indices = torch.stack([torch.arange(7) % size for size in tensor.shape], -1)
    weights = gaussian(7)
    mine = torch.autograd.grad((weights * tensor(indices)).sum(), list(tensor.factors))
    whole = tensor.tensor()[tuple(indices.T)]
    expected = torch.autograd.grad((weights * whole).sum(), list(tensor.factors))
    for found, each in zip(mine, expected, strict=True):
        assert torch.allclose(found, each, rtol=1e-12, atol=1e-12)


@EACH
def test_norms_are_those_of_the_components(tensor: FactorizedTensor) -> None:
    norms = tensor.component_norms()
    if isinstance(norms, dict):
        top = tuple(range(len(tensor.shape)))
        assert list(norms)[-1] == top
        for node, sizes in norms.items():
            width = tensor.widths[round(math.log(len(node), tensor.branching)) - 1]
            assert sizes.shape == (width,)
        return
    for component, norm in enumerate(norms):
        alone = copy.deepcopy(tensor)
        with torch.no_grad():
            for factor in alone.factors:
                factor[torch.arange(len(factor)) != component] = 0
        assert float(alone.tensor().detach().norm()) == pytest.approx(
            float(norm.detach()), rel=1e-12
        )


@EACH
@pytest.mark.parametrize("scale", [1e-6, 0.5])
def test_balanced_start(tensor: FactorizedTensor, scale: float) -> None:
    tensor = init.balanced_(copy.deepcopy(tensor), scale, generator=seeded())
    nodes = tensor.component_vectors([factor.detach() for factor in tensor.factors])
    for node, vectors in nodes.items():
        norms = vector_norms(vectors)
        assert float((norms / norms[0, 0] - 1).abs().max()) < 1e-12
        if len(node) == len(tensor.shape):
            assert torch.allclose(norms.prod(0), torch.tensor(scale, dtype=F64), rtol=1e-12)
    again = init.balanced_(copy.deepcopy(tensor), scale, generator=seeded())
    assert torch.equal(again.tensor(), tensor.tensor())
    other = init.balanced_(copy.deepcopy(tensor), scale, generator=seeded(1))
    assert not torch.allclose(other.tensor(), tensor.tensor(), atol=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_near_zero_start() -> None:
    model = nn.Sequential(nn.Linear(2, 2), CPTensor((40, 40, 40), 50, dtype=F64))
    init.near_zero_(model, 1e-2, generator=seeded())
    entries = torch.cat([factor.flatten() for factor in model[1].factors]).detach()
    assert float(entries.std()) == pytest.approx(1e-2, rel=0.05)
    assert float(entries.mean()) == pytest.approx(0, abs=5e-4)
    assert float(model[0].weight.detach().std()) < 0.05
    with pytest.raises(ValueError, match=r"module: expected an nn\.Linear"):
        init.identity_(model[1])
    with pytest.raises(ValueError, match="scale: expected a finite number > 0"):
        init.balanced_(model[1], 0.0)


@pytest.mark.parametrize("kind", [CPTensor, HierarchicalTensor])
def test_new_entries_have_variance_1(kind: type[FactorizedTensor]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        squares = [
            kind((3,) * 4, 60, dtype=F64).tensor().detach().square().mean() for _ in range(40)
        ]
    assert float(torch.stack(squares).mean()) == pytest.approx(1, rel=0.2)


@EACH
def test_copies_and_state(tensor: FactorizedTensor) -> None:
    copied, pickled = copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))
    for other in (copied, pickled):
        assert torch.equal(other.tensor(), tensor.tensor())
        assert repr(other) == repr(tensor)
    init.near_zero_(copied, 1.0)
    assert not torch.equal(copied.tensor(), tensor.tensor())
    copied.load_state_dict(tensor.state_dict())
    assert torch.equal(copied.tensor(), tensor.tensor())
    assert sorted(tensor.state_dict())[0] == "factors.0"


def test_dtype_and_device() -> None:
    for tensor in (
        CPTensor((2, 3), 2, device="meta", dtype=torch.bfloat16),
        HierarchicalTensor((2, 3), 2, device="meta", dtype=torch.bfloat16),
    ):
        whole = tensor.tensor()
        assert (whole.dtype, whole.device.type, whole.shape) == (torch.bfloat16, "meta", (2, 3))
    assert CPTensor((2, 3), 2).double().tensor().dtype == F64


@pytest.mark.parametrize(
    ("build", "kind", "error"),
    [
        (lambda: CPTensor((3,), 2), ValueError, "shape: expected two axes or more"),
        (lambda: CPTensor(3, 2), TypeError, "shape: expected a sequence of integers but got 3"),
        (lambda: CPTensor("33", 2), TypeError, "shape: expected a sequence of integers"),
        (lambda: CPTensor((3, 2.5), 2), TypeError, "shape: expected an integer but got 2.5"),
        (lambda: CPTensor((3, 0), 2), ValueError, "shape: expected integers >= 1 but got 0"),
        (lambda: CPTensor((3, 3), 2, dtype=torch.int64), TypeError, "dtype: expected a real"),
        (lambda: HierarchicalTensor((3, 3), 2, dtype=torch.int64), TypeError, "dtype: expected"),
        (lambda: CPTensor((3, 3), True), TypeError, "components: expected an integer but got True"),
        (lambda: CPTensor((3, 3), 0), ValueError, "components: expected integers >= 1 but got 0"),
        (lambda: HierarchicalTensor((2,) * 6, 2), ValueError, "shape: expected a power of the"),
        (lambda: HierarchicalTensor((2,) * 4, 2, 1), ValueError, "shape: expected a power of the"),
        (lambda: HierarchicalTensor((2,) * 4, (2,)), ValueError, "widths: expected one number, or"),
        (lambda: HierarchicalTensor((2,) * 4, (2, 0)), ValueError, "widths: expected integers"),
        (lambda: CASES[0](torch.tensor([0.0, 1.0])), TypeError, "indices: expected a tensor of"),
        (lambda: CASES[0]([0, 1]), TypeError, "indices: expected a tensor of int64 or int32"),
        (lambda: CASES[0](torch.tensor([0, 1, 2])), ValueError, r"indices: expected shape"),
        (lambda: CASES[0](torch.tensor(0)), ValueError, r"indices: expected shape \(..., 2\)"),
        (lambda: CASES[0](torch.tensor([0, 4])), IndexError, "out of range"),
        (lambda: CASES[0](torch.tensor([-1, 0])), IndexError, "out of range"),
    ],
)
def test_wrong_arguments(build, kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=error):
        build()
