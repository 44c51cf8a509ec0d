"""Every structure and imbalance: the rule against the literal network of layers of that kind."""

import pytest
import torch
from tests.maths.matrices import gaussian
from torch import Tensor

from virtualdepth import balanced_factors, end_to_end_product, precondition
from virtualdepth.maths import STRUCTURES, StructureName

CASES: list[tuple[StructureName, tuple[int, ...]]] = [
    ("matrix", (4, 6)),
    ("matrix", (6, 4)),
    ("matrix", (2, 3, 3)),
    ("rows", (4, 6)),
    ("rows", (2, 3, 1)),
    ("columns", (4, 6)),
    ("columns", (1, 5)),
    ("diagonal", (12,)),
    ("diagonal", (3, 2, 2)),
    ("diagonal", ()),
    ("circulant", (12,)),
    ("circulant", (2, 7)),
    ("circulant", (3, 4, 5)),
    ("circulant", (4, 3, 2, 4)),
]


def weight_and_grad(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    weight, grad = (gaussian(1, *shape, seed=seed).reshape(shape) for seed in (1, 2))
    return weight / 2, grad


def literally(layers: list[Tensor], grad: Tensor, structure: StructureName) -> tuple[Tensor, float]:
    """The first-order change of the product under gradient descent, and the squared gradients."""
    layers = [layer.requires_grad_() for layer in layers]
    product = end_to_end_product(layers, structure=structure)
    by_layer = torch.autograd.grad((product * grad).sum(), layers, retain_graph=True)
    # its derivative along the gradients, exactly: the transpose of the transpose
    along = torch.zeros_like(product, requires_grad=True)
    transposed = torch.autograd.grad(product, layers, along, create_graph=True)
    (change,) = torch.autograd.grad(transposed, along, by_layer)
    return change, sum(float(each.square().sum()) for each in by_layer)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("imbalance", [0.0, 0.4])
@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_the_rule_is_the_motion_of_the_layers(
    structure: StructureName, shape: tuple[int, ...], imbalance: float, depth: int
) -> None:
    weight, grad = weight_and_grad(shape)
    for form in ("svd", "polar"):
        layers = balanced_factors(
            weight, depth, structure=structure, imbalance=imbalance, form=form
        )
        product = end_to_end_product(layers, structure=structure)
        torch.testing.assert_close(product, weight, rtol=1e-12, atol=1e-13)
        change, squares = literally(layers, grad, structure)
        rule = precondition(weight, grad, depth, structure=structure, imbalance=imbalance)
        torch.testing.assert_close(rule, change, rtol=1e-10, atol=1e-12)
        assert float((rule * grad).sum()) == pytest.approx(squares, rel=1e-11)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_zeros_move_with_an_imbalance(
    structure: StructureName, shape: tuple[int, ...], depth: int
) -> None:
    _, grad = weight_and_grad(shape)
    zeros = torch.zeros_like(grad)
    rule = precondition(zeros, grad, depth, structure=structure, imbalance=0.4)
    torch.testing.assert_close(rule, 0.4 ** (depth - 1) * grad)
    assert not precondition(zeros, grad, depth, structure=structure).any()
    layers = balanced_factors(zeros, depth, structure=structure, imbalance=0.4, form="polar")
    change, _ = literally(layers, grad, structure)
    torch.testing.assert_close(change, rule)


@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_blocks_and_back(structure: StructureName, shape: tuple[int, ...]) -> None:
    weight, _ = weight_and_grad(shape)
    kind = STRUCTURES[structure]
    blocks = kind.to_blocks(weight)
    torch.testing.assert_close(kind.from_blocks(blocks, like=weight), weight)
    sizes = torch.linalg.svdvals(blocks)
    torch.testing.assert_close(kind.sizes(weight).flatten(), sizes.flatten())
