"""The velocity of sizes against what a small step of EndToEndSGD does to them."""

import pytest
import torch
from tests.maths.matrices import gaussian
from tests.maths.sizes import SHAPES, literal_sizes
from torch import Tensor, nn

from virtualdepth.maths import effective_rank
from virtualdepth.optim import EndToEndSGD
from virtualdepth.theory import singular_value_velocity

EACH = pytest.mark.parametrize("name", SHAPES)


def stepped(weight: Tensor, grad: Tensor, lr: float, **options: object) -> Tensor:
    """The parameter after one step of the optimizer; backwards in time for lr < 0."""
    parameter = nn.Parameter(weight.clone())
    optimizer = EndToEndSGD([parameter], lr=abs(lr), maximize=lr < 0, **options)
    parameter.grad = grad.clone()
    optimizer.step()
    return parameter.detach()


@EACH
@pytest.mark.parametrize("imbalance", [0.0, 0.3])
@pytest.mark.parametrize("depth", [2, 2.5, 4])
def test_against_differences_of_a_step(name: str, depth: float, imbalance: float) -> None:
    kind, time = name.split()[0], 3e-6
    weight, grad = gaussian(*SHAPES[name]), gaussian(*SHAPES[name], seed=3)
    options = {"depth": depth, "structure": kind, "imbalance": imbalance}
    ahead, behind = (
        literal_sizes(stepped(weight, grad, lr, **options), name) for lr in (time, -time)
    )
    found = singular_value_velocity(weight, grad, depth, structure=kind, imbalance=imbalance)
    assert found.numpy() == pytest.approx((ahead - behind) / (2 * time), rel=1e-7, abs=1e-7)


@EACH
@pytest.mark.parametrize("part", [0, 1])
def test_zeros_grow_along_the_gradient(name: str, part: int) -> None:
    """A parameter of zeros, or of which a part is zero, has no directions but those of G."""
    kind, time = name.split()[0], 1e-7
    weight, grad = torch.zeros(SHAPES[name], dtype=torch.float64), gaussian(*SHAPES[name], seed=3)
    if part:
        weight[0] = gaussian(*SHAPES[name])[0]
    options = {"depth": 3, "structure": kind, "imbalance": 0.3}
    after = literal_sizes(stepped(weight, grad, time, **options), name)
    change = (after - literal_sizes(weight, name)) / time
    found = singular_value_velocity(weight, grad, 3, structure=kind, imbalance=0.3).numpy()
    assert found == pytest.approx(change, rel=1e-5, abs=1e-5)
    assert (found > 0).sum() >= (part == 0) * len(found)


def test_shapes_and_names_are_checked() -> None:
    with pytest.raises(ValueError, match="structure: expected one of"):
        singular_value_velocity(torch.ones(2, 2), torch.ones(2, 2), 2, structure="row")
    with pytest.raises(ValueError, match=r"weight: expected a matrix"):
        singular_value_velocity(torch.ones(2), torch.ones(2), 2, structure="rows")
    with pytest.raises(ValueError, match="imbalance: expected 0 at infinite depth"):
        singular_value_velocity(torch.eye(2), torch.eye(2), float("inf"), imbalance=1.0)


@EACH
def test_half_precision_and_empty_parameters(name: str) -> None:
    kind, shape = name.split()[0], SHAPES[name]
    weight, grad = (gaussian(*shape, seed=seed).bfloat16() for seed in (0, 3))
    found = singular_value_velocity(weight, grad, 3, structure=kind, imbalance=0.1)
    wide = singular_value_velocity(weight.float(), grad.float(), 3, structure=kind, imbalance=0.1)
    assert torch.equal(found, wide)
    empty = torch.zeros((*shape[:-1], 0))
    velocity = singular_value_velocity(empty, empty, 3, structure=kind, imbalance=0.1)
    assert velocity.numel() == 0
    assert effective_rank(empty, structure=kind) == 0
