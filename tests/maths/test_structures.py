"""Every structure and imbalance: the rule against the literal network of layers of that kind."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.maths.matrices import gaussian, orthonormal
from tests.maths.test_range import agree
from torch import Tensor

from virtualdepth import (
    balanced_factors,
    balancedness,
    depth_kernel,
    end_to_end_product,
    precondition,
)
from virtualdepth.maths import (
    STRUCTURES,
    StructureName,
    _pieces,
    preconditioned_gradient,
    preconditioner,
    unit_scale,
    unit_step,
)

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


RATES = (4e-3, 2e-3)
TRAINED: list[tuple[StructureName, tuple[int, ...]]] = [
    ("matrix", (4, 6)),
    ("rows", (4, 6)),
    ("columns", (4, 6)),
    ("diagonal", (12,)),
    ("circulant", (12,)),
    ("circulant", (3, 4, 5)),
]


def gap(
    structure: StructureName, shape: tuple[int, ...], imbalance: float, assumed: float, lr: float
) -> float:
    """The largest relative distance to the network of three layers up to time 0.3."""
    weight, _ = weight_and_grad(shape)
    size, worst = weight.numel(), 0.0
    inputs = gaussian(2 * size, size, seed=3)
    outputs = inputs @ gaussian(size, seed=4)

    def slope(array: Tensor) -> Tensor:
        return (inputs.T @ (inputs @ array.flatten() - outputs) / len(inputs)).view(shape)

    layers = balanced_factors(weight, 3, structure=structure, imbalance=imbalance)
    for _ in range(round(0.3 / lr)):
        step = precondition(weight, slope(weight), 3, structure=structure, imbalance=assumed)
        weight = weight - lr * step
        layers = [layer.requires_grad_() for layer in layers]
        product = end_to_end_product(layers, structure=structure)
        grads = torch.autograd.grad((product * slope(product.detach())).sum(), layers)
        layers = [(x - lr * grad).detach() for x, grad in zip(layers, grads, strict=True)]
        product = end_to_end_product(layers, structure=structure)
        worst = max(worst, float((weight - product).norm() / product.norm()))
    return worst


@pytest.mark.parametrize("imbalance", [0.0, 0.5])
@pytest.mark.parametrize(("structure", "shape"), TRAINED)
def test_training_follows_the_network(
    structure: StructureName, shape: tuple[int, ...], imbalance: float
) -> None:
    coarse, fine = (gap(structure, shape, imbalance, imbalance, lr) for lr in RATES)
    assert math.log2(coarse / fine) == pytest.approx(1, abs=0.1)
    wrong = gap(structure, shape, imbalance, 0.5 - imbalance, RATES[1])
    assert wrong > 2 * fine


# A transform of each structure's arrays that its rule commutes with; rotations of 4 and of 6.
_LEFT, _RIGHT = orthonormal(4, 4, seed=5), orthonormal(6, 6, seed=6)
_ORDER, _SIGNS = torch.tensor([2, 0, 3, 1]), torch.tensor([1.0, -1.0, -1.0, 1.0])[:, None].double()


def _channels(array: Tensor) -> Tensor:
    return torch.einsum("ij,jkt,kl->ilt", _LEFT, array, _RIGHT)


SYMMETRIES: list[tuple[StructureName, tuple[int, ...], Callable[[Tensor], Tensor]]] = [
    ("matrix", (4, 6), lambda x: _LEFT @ x @ _RIGHT),
    ("rows", (4, 6), lambda x: (_SIGNS * x)[_ORDER] @ _RIGHT),
    ("columns", (6, 4), lambda x: _RIGHT @ (_SIGNS.T * x)[:, _ORDER]),
    ("diagonal", (4, 6), lambda x: (_SIGNS * x)[_ORDER].flip(1)),
    ("circulant", (2, 9), lambda x: -x.roll(4, -1)),
    ("circulant", (2, 8), lambda x: x.flip(-1)),
    (
        "circulant",
        (4, 6, 5),
        lambda x: torch.einsum("ij,jkt,kl->ilt", _LEFT, x, _RIGHT).roll(2, -1),
    ),
]


@pytest.mark.parametrize("depth", [1.5, 2, 3, math.inf])
@pytest.mark.parametrize(("structure", "shape", "symmetry"), SYMMETRIES)
def test_the_rule_commutes_with_the_symmetries(
    structure: StructureName,
    shape: tuple[int, ...],
    symmetry: Callable[[Tensor], Tensor],
    depth: float,
) -> None:
    weight, grad = weight_and_grad(shape)
    for imbalance in (0.0, 0.3) if math.isfinite(depth) else (0.0,):
        here = precondition(weight, grad, depth, structure=structure, imbalance=imbalance)
        there = precondition(
            symmetry(weight), symmetry(grad), depth, structure=structure, imbalance=imbalance
        )
        torch.testing.assert_close(there, symmetry(here), rtol=1e-10, atol=1e-12)


@given(
    st.sampled_from(CASES),
    st.floats(1, 20),
    st.sampled_from([0.0, 1e-3, 0.4, 10.0]),
    st.integers(0, 99),
)
def test_the_rule_is_symmetric_and_positive(
    case: tuple[StructureName, tuple[int, ...]], depth: float, imbalance: float, seed: int
) -> None:
    structure, shape = case
    weight, one, other = (gaussian(1, *shape, seed=seed + i / 4).reshape(shape) for i in range(3))

    def moved(grad: Tensor) -> Tensor:
        return precondition(weight, grad, depth, structure=structure, imbalance=imbalance)

    mixed = float((one * moved(other)).sum())
    assert mixed == pytest.approx(float((other * moved(one)).sum()), rel=1e-9, abs=1e-9)
    least = imbalance ** (depth - 1) * float(one.square().sum())  # K >= lambda^(N-1)
    assert float((one * moved(one)).sum()) >= least * (1 - 1e-12) >= 0
    both = moved(2 * one - 3 * other)
    torch.testing.assert_close(both, 2 * moved(one) - 3 * moved(other), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", [1.5, 2, 3, math.inf])
@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_ways_without_a_decomposition_are_the_rule_of_the_blocks(
    structure: StructureName, shape: tuple[int, ...], depth: float
) -> None:
    kind = STRUCTURES[structure]
    weight, grad = weight_and_grad(shape)
    for imbalance in (0.0, 0.3) if math.isfinite(depth) else (0.0,):
        found = preconditioned_gradient(weight, grad, depth, None, imbalance, structure)
        metric = preconditioner(kind.to_blocks(weight), depth, None, imbalance)
        blocks = metric.apply(kind.to_blocks(grad))
        expected = kind.from_blocks(blocks.direction, like=weight)
        torch.testing.assert_close(found.direction, expected)
        sizes, slopes = blocks.singular_values.flatten(), blocks.slopes.flatten()
        torch.testing.assert_close(kind.sizes(weight).flatten(), sizes)
        if structure == "matrix":  # each has a scale of its own
            continue
        gains, least = depth_kernel(sizes, sizes, depth, imbalance), imbalance ** (depth / 2)
        shares = gains * slopes.abs() / (sizes + least)
        speed = float(shares[(sizes > 1e-3 * sizes.max()) | (depth >= 2)].max())
        if imbalance > 0:
            eighth = torch.linalg.svdvals(blocks.direction).pow(8).sum(-1).pow(1 / 8)
            speed = max(speed, float(eighth.max() / (sizes.max() + least)))
        for lr in (1e-9, 1e9):
            scale = min(1 / float(gains[sizes.argmax()]), 0.05 / (lr * speed))
            found_scale = float(unit_scale(found, depth, lr, 0.05, imbalance))
            assert found_scale == pytest.approx(scale, rel=1e-12, abs=0)


@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_the_rule_is_differentiable(structure: StructureName, shape: tuple[int, ...]) -> None:
    if structure == "matrix" or len(shape) > 2:
        return  # the derivative of an SVD has tests of its own
    weight, grad = (each.requires_grad_() for each in weight_and_grad(shape))
    for imbalance in (0.0, 0.3):
        assert torch.autograd.gradcheck(
            lambda w, g, lam=imbalance: precondition(w, g, 3, structure=structure, imbalance=lam),
            (weight, grad),
        )


@pytest.mark.parametrize(
    ("structure", "shape", "expected"),
    [
        ("matrix", (3,), r"a matrix \(\.\.\., m, n\)"),
        ("rows", (3,), "'rows'"),
        ("columns", (3,), "'columns'"),
        ("circulant", (), "'circulant'"),
    ],
)
def test_shapes_without_a_meaning_are_refused(
    structure: StructureName, shape: tuple[int, ...], expected: str
) -> None:
    array = torch.ones(shape)
    with pytest.raises(ValueError, match=rf"^structure: expected .*{expected}.* but got shape \("):
        STRUCTURES[structure].check(shape)
    with pytest.raises(ValueError, match=rf"^weight: expected .*{expected}.* but got shape \("):
        precondition(array, array, 2, structure=structure)
    with pytest.raises(ValueError, match=rf"^weight: expected .*{expected}.* but got shape \("):
        balanced_factors(array, 2, structure=structure)


def test_names_and_forms_that_do_not_exist_are_refused() -> None:
    eye = torch.eye(2)
    for bad in ("matrices", None, 3):
        with pytest.raises(ValueError, match=r"^structure: expected one of matrix, .* but got"):
            precondition(eye, eye, 2, structure=bad)
        with pytest.raises(ValueError, match=r"^structure: expected one of matrix, .* but got"):
            end_to_end_product([eye], structure=bad)
    with pytest.raises(ValueError, match=r"^form: expected 'svd' or 'polar' but got 'qr'"):
        balanced_factors(eye, 2, form="qr")
    with pytest.raises(ValueError, match=r"^hidden_features: expected None with this structure"):
        balanced_factors(eye, 2, structure="rows", hidden_features=5)
    with pytest.raises(ValueError, match=r"^factors: expected at least one"):
        end_to_end_product([], structure="rows")
    with pytest.raises(TypeError, match=r"^factors, W_2: expected a dense real"):
        end_to_end_product([eye, eye.int()], structure="diagonal")


@pytest.mark.parametrize(
    ("structure", "shapes", "expected"),
    [
        ("rows", [(2, 3), (1,)], r"W_2: expected the shape \(2,\)"),
        ("rows", [(2, 3), (2,), (2, 3)], r"W_3: expected the shape \(2,\)"),
        ("rows", [(3,), (3,)], r"W_1: expected a matrix"),
        ("columns", [(1,), (2, 3)], r"W_1: expected the shape \(3,\)"),
        ("columns", [(3,), (3,)], r"W_2: expected a matrix"),
        ("diagonal", [(2, 3), (3,)], r"W_2: expected the shape \(2, 3\)"),
        ("circulant", [(4,), (5,)], r"W_2: expected the shape \(4,\)"),  # of as many frequencies
        ("circulant", [(3, 2, 4), (2, 3, 5)], r"W_2: expected the shape \(2, 3, 4\)"),
        ("circulant", [(3, 2, 4), ()], r"W_2: expected the shape \(3, 4\)"),
    ],
)
def test_layers_that_do_not_fit_are_refused(
    structure: StructureName, shapes: list[tuple[int, ...]], expected: str
) -> None:
    """Broadcast they would multiply to something."""
    layers = [torch.ones(shape) for shape in shapes]
    for function in (end_to_end_product, balancedness):
        with pytest.raises(ValueError, match=rf"^factors, {expected}.* but got"):
            function(layers, structure=structure)


@pytest.mark.parametrize(("structure", "shape"), CASES)
def test_layers_of_float32_of_any_size(structure: StructureName, shape: tuple[int, ...]) -> None:
    """Where W is in range and the norms of its blocks are not, too."""
    weight, _ = weight_and_grad(shape)
    for size, depth, imbalance in itertools.product((1e-36, 1.0, 3.3e38), (2, 5), (0.0, 1e-9)):
        large = (weight * (size / weight.abs().max())).float()
        layers = balanced_factors(large, depth, structure=structure, imbalance=imbalance)
        exact = balanced_factors(large.double(), depth, structure=structure, imbalance=imbalance)
        if structure == "matrix":  # the signs of singular vectors may differ
            layers, exact = ([each.abs() for each in found] for found in (layers, exact))
        for layer, truth in zip(layers, exact, strict=True):
            assert float((layer - truth).norm() / truth.norm()) < 2e-6, (size, depth, imbalance)


# beside imbalances, some in the last digits that a dtype has
SIZES, LEAST, GRADS = (1e-36, 1e-17, 1e-13, 1e25), (0.0, 1e-36, 1.0, 1e25), (1e-20, 1.0, 1e20)


@pytest.mark.parametrize("depth", [1.5, 2, 3, 16])
@pytest.mark.parametrize(
    ("structure", "shape"),
    [("matrix", (3, 5)), ("rows", (3, 5)), ("diagonal", (9,)), ("circulant", (9,))],
)
def test_float32_of_any_size(
    structure: StructureName, shape: tuple[int, ...], depth: float
) -> None:
    """Imbalances too: lambda^{N/2} is as small and as large as W."""
    for size, least, grad_size in itertools.product(SIZES, LEAST, GRADS):
        weight, grad = weight_and_grad(shape)
        weight, grad = (size * weight).float(), (grad_size * grad).float()
        imbalance = least ** (2 / depth)
        found, truth = (
            precondition(w, g, depth, rtol=1e-7, structure=structure, imbalance=imbalance)
            for w, g in ((weight, grad), (weight.double(), grad.double()))
        )
        assert agree(found, truth, 2e-5), (size, least, grad_size)
        found, truth = (
            unit_step(
                preconditioned_gradient(w, g, depth, 1e-7, imbalance, structure),
                depth,
                10.0,
                0.05,
                imbalance,
            )
            for w, g in ((weight, grad), (weight.double(), grad.double()))
        )
        assert agree(found, truth, 2e-5), (size, least, grad_size)


def test_every_matrix_of_a_batch_has_units_of_its_own() -> None:
    weight, grad = weight_and_grad((3, 4, 5))
    weight = (torch.tensor([1e-30, 1.0, 1e25])[:, None, None] * weight).float()
    grad = (torch.tensor([1e20, 1.0, 1e-30])[:, None, None] * grad).float()
    together = preconditioned_gradient(weight, grad, 3.0, None, 0.2)
    steps = unit_step(together, 3.0, 0.1, 0.05, 0.2)
    for index, each in enumerate(together.unbound()):
        alone = preconditioned_gradient(weight[index], grad[index], 3.0, None, 0.2)
        torch.testing.assert_close(each.direction, alone.direction)
        torch.testing.assert_close(unit_step(each, 3.0, 0.1, 0.05, 0.2), steps[index])


def test_half_precision_is_computed_in_single() -> None:
    weight, grad = (each.to(torch.bfloat16) for each in weight_and_grad((12,)))
    for structure in ("diagonal", "circulant"):
        found = precondition(weight, grad, 3, structure=structure, imbalance=0.1)
        assert found.dtype == torch.bfloat16
        single = precondition(weight.float(), grad.float(), 3, structure=structure, imbalance=0.1)
        torch.testing.assert_close(found, single.to(torch.bfloat16))
        layers = balanced_factors(weight, 2, structure=structure)
        assert [layer.dtype for layer in layers] == [torch.bfloat16] * 2


@pytest.mark.parametrize("imbalance", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1.5, 3])
@pytest.mark.parametrize(("structure", "shape"), [case for case in CASES if case[0] != "matrix"])
def test_pieces_of_a_large_array_are_the_array(
    structure: StructureName,
    shape: tuple[int, ...],
    depth: float,
    imbalance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, grad = weight_and_grad(shape)
    weight = torch.where(weight > 0.5, 0.0, weight)  # some stand still without an imbalance
    found = []
    for size in (2**19, 40):  # five numbers of float64 in a piece
        monkeypatch.setattr(_pieces, "_PIECE", size)
        each = preconditioned_gradient(weight, grad, depth, None, imbalance, structure)
        scale = unit_scale(each, depth, 1e9, 0.05, imbalance)
        inputs = weight.clone().requires_grad_(), grad.clone().requires_grad_()
        moved = precondition(*inputs, depth, structure=structure, imbalance=imbalance)
        found.append((each.direction, scale, *torch.autograd.grad(moved.sum(), inputs)))
    assert len(_pieces.pieces(torch.zeros(12))) == 2  # float32 has half the bytes
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=0, equal_nan=True)
