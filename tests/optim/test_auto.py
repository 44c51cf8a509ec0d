"""``step_scale="auto"``: its step against the formulas, its memory, what it refuses."""

import copy
import io
import warnings

import pytest
import torch
from torch import Tensor

import virtualdepth as vd
from virtualdepth.maths import balanced_factors, end_to_end_product
from virtualdepth.maths._reference import factor_gradients_literally

CAP = 0.05


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
    # both near multiples of the identity: no singular value has to cross 0, which none does
    identity = torch.eye(4, dtype=torch.float64)
    target, start = 2 * identity + 0.3 * normal[0], 0.1 * identity + 0.02 * normal[1]
    return target, start


class Run:
    """Half the squared distance to a target, by closure."""

    def __init__(self, **options: object) -> None:
        self.target, start = problem()
        self.weight = torch.nn.Parameter(start)
        self.optimizer = vd.EndToEndSGD(
            [self.weight], **{"depth": 3, "step_scale": "auto", **options}
        )
        self.losses: list[float] = []

    def closure(self) -> float:
        self.optimizer.zero_grad()
        loss = (self.weight - self.target).square().sum() / 2
        loss.backward()
        self.losses.append(loss.item())
        return loss.item()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.optimizer.step(self.closure)


def capped_step(weight: Tensor, grad: Tensor, depth: int) -> Tensor:
    u, sigma, vh = torch.linalg.svd(weight)
    slopes = (u * (grad @ vh.mT)).sum(0).abs()
    length = CAP / float((depth * sigma ** (1 - 2 / depth) * slopes).max())
    factors = balanced_factors(weight, depth)
    first = factor_gradients_literally(factors, grad)
    half_way = [f - length / 2 * slope for f, slope in zip(factors, first, strict=True)]
    turned = factor_gradients_literally(half_way, grad)
    return end_to_end_product([f - length * v for f, v in zip(factors, turned, strict=True)])


def test_first_step_is_the_capped_midpoint() -> None:
    run = Run()
    expected = capped_step(run.weight.detach(), run.weight.detach() - run.target, 3)
    run.steps(1)
    torch.testing.assert_close(run.weight.detach(), expected, rtol=1e-9, atol=1e-10)


def test_learning_rate_does_not_matter() -> None:
    ends = []
    for lr in (1e-3, 0.5):
        run = Run(lr=lr)
        run.steps(40)
        ends.append(run.weight.detach())
    torch.testing.assert_close(*ends, rtol=1e-7, atol=1e-9)


def test_it_converges() -> None:
    run = Run()
    run.steps(300)
    assert run.losses[-1] < 1e-12


@pytest.mark.parametrize("radial", [0, 1e-14, 1e-3])
@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("depth", [1.5, 2, 3, 9])
def test_a_gradient_that_only_turns_moves_no_further_than_the_weight(
    depth: float, tall: bool, radial: float
) -> None:
    # to first order it changes no singular value: the cap allows any length, at a radial part of
    # 1e-14 one that the loss took for 1e73, and at none there was no step
    start, target = (torch.tensor([row], dtype=torch.float64) for row in ([1, 0], [1 + radial, 1]))
    if tall:
        start, target = start.mT, target.mT
    weight = torch.nn.Parameter(start.clone())
    optimizer = vd.EndToEndSGD([weight], depth=depth, step_scale="auto")

    def closure() -> float:
        weight.grad = weight.detach() - target
        return float(weight.grad.square().sum() / 2)

    optimizer.step(closure)
    # by its own norm half-way, where the rule moves at most N (5 / 4)^(1 - 1/N) times as fast
    moved = float((weight.detach() - start).norm())
    assert 0.5 < moved < depth * 1.25
    for _ in range(80):
        loss = optimizer.step(closure)
    assert loss < 1e-12


def test_a_gradient_that_turns_both_sides_of_a_matrix() -> None:
    # of the identity the slopes of an antisymmetric gradient are exactly 0
    turn = torch.tensor([[0, 1, 0], [-1, 0, 1], [0, -1, 0]], dtype=torch.float64)
    target = torch.eye(3, dtype=torch.float64) + turn
    weight = torch.nn.Parameter(torch.eye(3, dtype=torch.float64))
    optimizer = vd.EndToEndSGD([weight], depth=2, step_scale="auto")
    for _ in range(40):
        weight.grad = weight.detach() - target
        optimizer.step()
    torch.testing.assert_close(weight.detach(), target, rtol=0, atol=1e-10)


def test_step_too_far_is_halved() -> None:
    run = Run()
    run.steps(5)
    before = run.weight.detach().clone()
    run.steps(1)
    here = run.weight.detach().clone()
    run.optimizer.param_groups[0]["auto_losses"] = [0.0]  # now every loss is too large
    run.steps(1)
    torch.testing.assert_close(run.weight.detach(), (before + here) / 2, rtol=1e-12, atol=1e-14)


def test_rate_zero_changes_nothing() -> None:
    run = Run()
    run.steps(3)
    weight = run.weight.detach().clone()
    state = copy.deepcopy(run.optimizer.state_dict())
    run.optimizer.param_groups[0]["lr"] = 0.0
    run.steps(1)
    torch.testing.assert_close(run.weight.detach(), weight, rtol=0, atol=0)
    run.optimizer.param_groups[0]["lr"] = 1e-3
    assert str(run.optimizer.state_dict()) == str(state)


def test_checkpoint_continues_bitwise() -> None:
    run, other = Run(), Run()
    run.steps(12)
    file = io.BytesIO()
    torch.save({"weight": run.weight, "optimizer": run.optimizer.state_dict()}, file)
    file.seek(0)
    checkpoint = torch.load(file, weights_only=True)
    other.weight.data.copy_(checkpoint["weight"].data)
    other.optimizer.load_state_dict(checkpoint["optimizer"])
    run.steps(12)
    other.steps(12)
    torch.testing.assert_close(other.weight, run.weight, rtol=0, atol=0)


def test_two_matrices_share_a_length() -> None:
    # one block-diagonal problem as two parameters of the same target: they stay equal
    run = Run()
    twin = [torch.nn.Parameter(run.weight.detach().clone()) for _ in range(2)]
    optimizer = vd.EndToEndSGD(twin, depth=3, step_scale="auto")
    for _ in range(20):
        run.steps(1)
        for parameter in twin:
            parameter.grad = parameter.detach() - run.target
        optimizer.step()
    for parameter in twin:
        torch.testing.assert_close(parameter.detach(), run.weight.detach(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("noise", [0.5, 5])
@pytest.mark.parametrize("with_loss", [False, True])
def test_mini_batches_are_noticed(with_loss: bool, noise: float) -> None:
    run = Run()
    generator = torch.Generator().manual_seed(1)

    def closure() -> float:
        rest = run.weight.detach() - run.target
        batch = noise * torch.randn(4, 4, generator=generator, dtype=torch.float64)
        run.weight.grad = rest + batch
        return float((rest * rest / 2 + rest * batch).sum())

    def train(steps: int) -> None:
        for _ in range(steps):
            if with_loss:
                run.optimizer.step(closure)
            else:
                closure()
                run.optimizer.step()

    with pytest.warns(UserWarning, match="needs the gradient of the full batch") as caught:
        train(300)
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_full_batch_is_not_suspected(dtype: torch.dtype) -> None:
    run = Run()
    run.weight.data, run.target = run.weight.data.to(dtype), run.target.to(dtype)
    run.optimizer = vd.EndToEndSGD([run.weight], depth=3, step_scale="auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.steps(200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 0.9}, "momentum: expected 0"),
        ({"weight_decay": 0.1}, "weight_decay: expected 0"),
        ({"maximize": True}, "maximize: expected False"),
        ({"origin": "init"}, "origin: expected None"),
        ({"depth": 1}, "step_scale: expected matrices of depth > 1"),
    ],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Run(**options)


def test_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\)"):
        vd.EndToEndSGD([torch.nn.Parameter(torch.ones(3))], step_scale="auto")


def test_other_optimizers_cannot_have_it() -> None:
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.eye(2))], lr=0.1)
    with pytest.raises(ValueError, match="use EndToEndSGD"):
        vd.with_depth(sgd, 2, step_scale="auto", on="gradient")
