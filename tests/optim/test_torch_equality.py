"""At depth 1 it is torch.optim.SGD, to the last bit, after every step."""

from itertools import product
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, random_tensor
from torch import Tensor, nn
from torch.optim import SGD

from virtualdepth import EndToEndSGD

SHAPES = [(), (1,), (5,), (3, 4), (1, 4), (2, 3, 2), (2, 3, 2, 2), (2, 1, 2, 1, 3)]
EMPTY = [(0,), (0, 3), (3, 0), (2, 0, 2)]
VECTORS = [shape for shape in SHAPES if len(shape) < 2]

LEARNING_RATES = {
    "float": lambda: 0.1,
    "0-dim tensor": lambda: torch.tensor(0.1),
    "1-element tensor": lambda: torch.tensor([0.1], dtype=torch.float64),
}
MOMENTA = {
    "none": {},
    "dampening alone": {"dampening": 0.4},
    "negative dampening": {"momentum": 0.9, "dampening": -0.4},
    "momentum": {"momentum": 0.9},
    "dampened": {"momentum": 0.9, "dampening": 0.4},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def tensors(shapes: list[tuple[int, ...]], dtype: torch.dtype) -> list[nn.Parameter]:
    return [nn.Parameter(random_tensor(shape, i, dtype)) for i, shape in enumerate(shapes)]


def set_gradients(params: list[Tensor], step: int) -> None:
    for number, p in enumerate(params):
        p.grad = random_tensor(tuple(p.shape), 100 * (step + 1) + number, p.dtype)


def assert_same(ours: EndToEndSGD, theirs: SGD) -> None:
    for group, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        for number, (p, q) in enumerate(zip(group["params"], other["params"], strict=True)):
            assert_bitwise(p, q, f"parameter {number}, {tuple(p.shape)}")
            buffer = theirs.state[q].get("momentum_buffer")
            if buffer is not None:
                assert_bitwise(ours.state[p]["momentum_buffer"], buffer, f"momentum {number}")


@pytest.mark.parametrize("lr", LEARNING_RATES.values(), ids=LEARNING_RATES.keys())
@pytest.mark.parametrize("momentum", MOMENTA.values(), ids=MOMENTA.keys())
@pytest.mark.parametrize(
    ("weight_decay", "maximize"), list(product((0, 0.1), (False, True))), ids=str
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_option(
    lr: Any, momentum: Any, weight_decay: float, maximize: bool, dtype: torch.dtype
) -> None:
    """Every parameter in a group of depth 1, and what is no matrix in a group of depth 3."""
    options = {**momentum, "weight_decay": weight_decay, "maximize": maximize}
    groups, others = (
        [
            {"params": tensors(SHAPES + EMPTY, dtype), **own},
            {"params": tensors(VECTORS + EMPTY, dtype), **own_deep},
        ]
        for own, own_deep in (({"depth": 1}, {"depth": 3}), ({}, {}))
    )
    ours = EndToEndSGD(groups, lr=lr(), **options)
    theirs = SGD(others, lr=lr(), **options)
    for step in range(4):
        for group, other in zip(groups, others, strict=True):
            set_gradients(group["params"], step)
            set_gradients(other["params"], step)
        ours.step()
        theirs.step()
        assert_same(ours, theirs)


@pytest.mark.parametrize("momentum", MOMENTA.values(), ids=MOMENTA.keys())
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("repeated", [False, True], ids=["coalesced", "repeated indices"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_sparse_gradients(
    momentum: Any, maximize: bool, repeated: bool, dtype: torch.dtype
) -> None:
    options = {"lr": 0.1, **momentum, "maximize": maximize}
    p, q = (nn.Parameter(random_tensor((6, 3), 0, dtype)) for _ in range(2))
    ours, theirs = EndToEndSGD([p], depth=1, **options), SGD([q], **options)
    for step in range(4):
        rows = torch.tensor([[0, 2, 2 if repeated else 3, (4 + step) % 6]])
        for parameter in (p, q):
            parameter.grad = torch.sparse_coo_tensor(
                rows, random_tensor((4, 3), step, dtype), (6, 3), check_invariants=True
            )
            if not repeated:
                parameter.grad = parameter.grad.coalesce()
        ours.step()
        theirs.step()
        assert_same(ours, theirs)


def test_an_embedding_with_sparse_gradients_beside_a_deep_matrix() -> None:
    """Its checkpoint, with momentum in torch's sparse layout, goes on."""
    embedding, linear = nn.Embedding(6, 3, sparse=True), nn.Linear(3, 2)
    model = nn.Sequential(embedding, linear)
    groups = [{"params": embedding.parameters(), "depth": 1}, {"params": linear.parameters()}]
    optimizer = EndToEndSGD(groups, lr=0.1, momentum=0.9, depth=3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.tensor([1, 4, 4])).square().sum().backward()
        optimizer.step()
    assert optimizer.state[embedding.weight]["momentum_buffer"].is_sparse
    before = linear.weight.detach().clone()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.step()
    assert not torch.equal(linear.weight, before)


@pytest.mark.parametrize("momentum", MOMENTA.values(), ids=MOMENTA.keys())
def test_complex_parameters(momentum: Any) -> None:
    options = {"lr": 0.1, **momentum, "weight_decay": 0.1}
    p, q = (nn.Parameter(random_tensor((3, 2), 0, torch.complex128)) for _ in range(2))
    ours, theirs = EndToEndSGD([p], depth=1, **options), SGD([q], **options)
    for step in range(3):
        for parameter in (p, q):
            parameter.grad = random_tensor((3, 2), step, torch.complex128) * 1j
        ours.step()
        theirs.step()
        assert_same(ours, theirs)


def test_options_changed_on_the_way() -> None:
    params, others = tensors(SHAPES, torch.float32), tensors(SHAPES, torch.float32)
    ours, theirs = EndToEndSGD(params, lr=0.1, depth=1), SGD(others, lr=0.1)
    changes: list[dict[str, Any]] = [
        {},
        {"momentum": 0.5, "dampening": 0.2},
        {"lr": 0.3},
        {"momentum": 0},
        {"momentum": 0.9, "dampening": 0, "nesterov": True},
        {"weight_decay": 0.2, "maximize": True},
    ]
    for step, change in enumerate(changes):
        for optimizer, tensors_ in ((ours, params), (theirs, others)):
            optimizer.param_groups[0].update(change)
            set_gradients(tensors_, step)
            optimizer.step()
        assert_same(ours, theirs)


def test_gradients_that_come_and_go() -> None:
    """The first gradient of each parameter starts its own momentum, without dampening."""
    params, others = tensors(SHAPES, torch.float64), tensors(SHAPES, torch.float64)
    options = {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}
    ours, theirs = EndToEndSGD(params, depth=1, **options), SGD(others, **options)
    for step in range(6):
        for optimizer, tensors_ in ((ours, params), (theirs, others)):
            set_gradients(tensors_, step)
            for number, p in enumerate(tensors_):
                if (number + step) % 3:
                    p.grad = None
            optimizer.step()
        assert_same(ours, theirs)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -0.0, 5e-324])
def test_numbers_that_torch_lets_through(special: float) -> None:
    """Parameters of depth 1 are treated as torch does: their NaN is nobody's business."""
    params, others = tensors([(3, 4), (5,)], torch.float64), tensors([(3, 4), (5,)], torch.float64)
    ours = EndToEndSGD([{"params": params[:1], "depth": 1}, {"params": params[1:]}], lr=0.1)
    theirs = SGD([{"params": others[:1]}, {"params": others[1:]}], lr=0.1)
    for tensors_ in (params, others):
        set_gradients(tensors_, 0)
        for p in tensors_:
            p.data.view(-1)[0] = special
            p.grad.view(-1)[1] = special
    ours.step()
    theirs.step()
    assert_same(ours, theirs)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("momentum", MOMENTA.values(), ids=MOMENTA.keys())
def test_a_parameter_listed_twice(momentum: Any) -> None:
    p, q = (nn.Parameter(random_tensor((3, 2), 0)) for _ in range(2))
    ours = EndToEndSGD([p, p], lr=0.1, depth=1, **momentum)
    theirs = SGD([q, q], lr=0.1, **momentum)
    for step in range(3):
        set_gradients([p, q], step)
        q.grad = p.grad.clone()
        ours.step()
        theirs.step()
        assert_same(ours, theirs)
