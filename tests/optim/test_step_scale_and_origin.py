"""Step scales and the start at an origin, against formulas written out."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, random_tensor
from tests.optim.truth import preconditioned
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.maths import thin_svd
from virtualdepth.maths._svd import _DOUBTED, _warn_of

DEPTHS = (1.5, 2, 3, math.pi, 8, math.inf)


def truth(matrix: Tensor, grad: Tensor, depth: float) -> Tensor:
    return torch.tensor(preconditioned(matrix.numpy(), grad.numpy(), depth))


def unit_by_hand(matrix: Tensor, grad: Tensor, depth: float, lr: float, cap: float) -> float:
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    layers = 1 if math.isinf(depth) else depth
    gains = [layers * s ** (2 - 2 / depth) for s in sigma.tolist()]
    speeds = [
        gain * abs((u[:, r] @ grad @ vh[r]).item()) / sigma[r].item()
        for r, gain in enumerate(gains)
        if sigma[r] > 1e-3 * sigma[0] or depth >= 2
    ]
    return min(1 / gains[0], cap / (lr * max(speeds)))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)], ids=str)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("lr", [1e-3, 10.0])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_unit(shape: tuple[int, int], depth: float, lr: float, size: float) -> None:
    start, grad = size * random_tensor(shape, 1), random_tensor(shape, 2)
    p = nn.Parameter(start.clone())
    p.grad = grad.clone()
    options: dict[str, Any] = {"step_scale": "unit", "cap": 0.1, "weight_decay": 0.01}
    vd.EndToEndSGD([p], lr=lr, depth=depth, **options).step()
    layers = 1 if math.isinf(depth) else depth
    scale = unit_by_hand(start, grad, depth, lr, 0.1)
    expected = start - lr * (scale * truth(start, grad, depth) + layers * 0.01 * start)
    torch.testing.assert_close(p.detach(), expected, rtol=1e-9, atol=1e-12)


def test_unit_each_matrix_of_a_batch_has_its_own() -> None:
    layer = nn.Conv1d(4, 4, 2, groups=2, bias=False).double()
    with torch.no_grad():
        layer.weight[:2] *= 100
    start = layer.weight.detach().clone()
    layer.weight.grad = random_tensor((4, 2, 2), 1)
    vd.EndToEndSGD(vd.param_groups(layer, 3, step_scale="unit"), lr=0.1).step()
    for rows in (slice(0, 2), slice(2, 4)):
        matrix, grad = start[rows].flatten(1), layer.weight.grad[rows].flatten(1)
        scale = unit_by_hand(matrix, grad, 3, 0.1, 0.05)
        expected = matrix - 0.1 * scale * truth(matrix, grad, 3)
        torch.testing.assert_close(layer.weight.detach()[rows].flatten(1), expected)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, math.inf])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_unit_is_stable_wherever_gradient_descent_is(depth: float, size: float) -> None:
    """On a quadratic of smoothness 1 the loss never rises below a learning rate of 2."""
    target = random_tensor((6, 6), 1)
    p = nn.Parameter(size * random_tensor((6, 6), 2))
    optimizer = vd.EndToEndSGD([p], lr=1.9, depth=depth, step_scale="unit")
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (p - target).square().sum() / 2
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(after <= before for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


def test_rms_by_hand() -> None:
    """One scalar for both matrices: a bias-corrected mean of <G, P(G)>, and a floor."""
    weights = [random_tensor((3, 4), 1), random_tensor((5, 2), 2)]
    params = [nn.Parameter(w.clone()) for w in weights]
    optimizer = vd.EndToEndSGD(params, lr=0.01, depth=3, step_scale="rms")
    mean = 0.0
    for step in range(1, 5):
        grads = [random_tensor((3, 4), 10 + step), random_tensor((5, 2), 20 + step)]
        for p, grad in zip(params, grads, strict=True):
            p.grad = grad.clone()
        optimizer.step()
        moves = [truth(w, grad, 3) for w, grad in zip(weights, grads, strict=True)]
        square = sum((grad * move).sum().item() for grad, move in zip(grads, moves, strict=True))
        mean = 0.99 * mean + 0.01 * square
        scale = 0.01 / (math.sqrt(mean / (1 - 0.99**step)) + 1e-4)
        weights = [w - scale * move for w, move in zip(weights, moves, strict=True)]
        torch.testing.assert_close([p.detach() for p in params], weights)


def test_an_unknown_scale_is_an_error_that_lists_them() -> None:
    message = r"expected one of \('raw', 'unit', 'rms', 'auto'\) but got 'best'"
    with pytest.raises(ValueError, match=message):
        vd.EndToEndSGD([torch.ones(2, 2)], step_scale="best")


@pytest.mark.parametrize("weight_decay", [0, 0.1])
def test_origin_by_hand(weight_decay: float) -> None:
    start = random_tensor((5, 4), 1)
    p, b = nn.Parameter(start.clone()), nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = vd.EndToEndSGD(
        [{"params": [p, b], "origin_scale": 0.01}],
        lr=0.1,
        depth=2,
        origin="init",
        weight_decay=weight_decay,
    )
    assert_bitwise(p, nn.Parameter(start))  # nothing moves before the first step
    pretrained = start + 1  # loaded into the model after the optimizer was made
    with torch.no_grad():
        p.copy_(pretrained)
    change = None
    for step in range(4):
        p.grad, b.grad = random_tensor((5, 4), 10 + step), torch.zeros_like(b)
        optimizer.step()
        if change is None:
            generator = torch.Generator().manual_seed(0)
            change = torch.randn((5, 4), generator=generator, dtype=torch.float64) * 0.01 / 2
            assert_bitwise(optimizer.state[p]["origin"], pretrained)
        change = change - 0.1 * (truth(change, p.grad, 2) + 2 * weight_decay * change)
        torch.testing.assert_close(p.detach() - pretrained, change, rtol=1e-9, atol=1e-12)
    assert set(optimizer.state[b]) == {"left_origin"}


def test_origin_makes_the_change_of_low_rank() -> None:
    """A pretrained layer of full rank learns a change of rank 1 from a third of its entries."""
    pretrained = random_tensor((12, 12), 1)
    change = random_tensor((12, 1), 2) @ random_tensor((1, 12), 3)
    seen = torch.rand(12, 12, generator=torch.Generator().manual_seed(4)) < 0.4
    ranks = {}
    for origin in (None, "init"):
        p = nn.Parameter(pretrained.clone())
        optimizer = vd.EndToEndSGD([p], lr=0.05, depth=3, origin=origin, step_scale="unit")
        for _ in range(1500):
            optimizer.zero_grad()
            ((p - pretrained - change)[seen].square().sum() / 2).backward()
            optimizer.step()
        ranks[origin] = vd.effective_rank(p.detach() - pretrained).item()
    assert ranks["init"] < 2 < ranks[None]


def test_origin_refuses_what_would_drown_it() -> None:
    with pytest.raises(TypeError, match=r"parameter 0.*bfloat16.*autocast"):
        vd.EndToEndSGD([nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))], origin="init")
    with pytest.raises(ValueError, match="origin: expected one of"):
        vd.EndToEndSGD([torch.ones(2, 2)], origin="zero")
    with pytest.raises(ValueError, match="origin_scale"):
        vd.EndToEndSGD([{"params": [torch.ones(2, 2)], "origin_scale": 0}], origin="init")


def test_a_doubted_svd_is_checked_and_done_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU were the back end known to fail."""
    matrix, real, calls = random_tensor((6, 4), 1), torch.linalg.svd, []

    def wrong_at_first(tensor: Tensor, full_matrices: bool = True) -> Any:
        u, s, vh = real(tensor, full_matrices=full_matrices)
        calls.append(1)
        return (u + 1e-3 if len(calls) in (1, 3) else u), s, vh

    monkeypatch.setattr(torch.linalg, "svd", wrong_at_first)
    wrong = thin_svd(matrix)[0]  # elsewhere it is believed
    assert not torch.allclose(wrong.mT @ wrong, torch.eye(4, dtype=torch.float64))
    monkeypatch.setattr("virtualdepth.maths._svd._DOUBTED", {*_DOUBTED, "cpu"})
    _warn_of.cache_clear()
    thin_svd(matrix)  # the second call is right: believed, without another
    assert len(calls) == 2
    with pytest.warns(UserWarning, match="'cpu'.*not orthogonal"):
        u, s, vh = thin_svd(matrix)
    assert len(calls) == 4
    torch.testing.assert_close(u * s @ vh, matrix)
    calls.clear()
    thin_svd(matrix)  # a second warning would be an error here
    assert len(calls) == 2
    _warn_of.cache_clear()
