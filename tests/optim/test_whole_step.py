"""A step is whole or not at all: what fails names the parameter and changes nothing."""

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, everything, random_tensor
from torch import Tensor, nn

from virtualdepth import EndToEndSGD

INF, NAN = float("inf"), float("nan")


def sparse_gradient(p: nn.Parameter) -> None:
    p.grad = torch.sparse_coo_tensor(
        torch.tensor([[0], [0]]), torch.ones(1, dtype=p.dtype), p.shape, check_invariants=True
    )


def put(value: float, into: str) -> Callable[[nn.Parameter], None]:
    def spoil(p: nn.Parameter) -> None:
        tensor = p.data if into == "weight" else p.grad
        tensor[-1, -1] = value

    return spoil


def overflow(p: nn.Parameter) -> None:
    """Both are finite, and their product is not."""
    p.data.mul_(1e250)
    p.grad.mul_(1e200)


# what is wrong with the last matrix: how, the error, and what it says
FAILURES: dict[str, tuple[Callable[[nn.Parameter], None], type[Exception], str]] = {
    **{
        f"{value} in the {into}": (put(value, into), FloatingPointError, f"finite {into}")
        for value in (NAN, INF, -INF)
        for into in ("weight", "gradient")
    },
    "overflow": (overflow, FloatingPointError, "finite update"),
    "sparse gradient": (sparse_gradient, TypeError, "dense real gradient"),
}


class Scene:
    """Three groups with momentum, in the middle of a run; the last matrix of the last may fail."""

    def __init__(self, depth: float = 3, named: bool = False, **options: Any) -> None:
        self.params = [
            nn.Parameter(random_tensor(shape, i))
            for i, shape in enumerate([(3, 4), (4,), (2, 3), (2, 2, 4), (5,), (4, 3)])
        ]
        names = ["a.weight", "a.bias", "b.weight", "c.kernel", "d.bias", "last.weight"]
        chosen: list[Any] = list(zip(names, self.params, strict=True)) if named else self.params
        self.optimizer = EndToEndSGD(
            [
                {"params": chosen[:2], "momentum": 0.9, "depth": 2},
                {"params": chosen[2:3], "depth": 1, "weight_decay": 0.1},
                {"params": chosen[3:], "momentum": 0.9, "depth": depth},
            ],
            lr=0.01,
            **options,
        )
        self.step(0)
        self.step(1)
        self.set_gradients(2)

    @property
    def last(self) -> nn.Parameter:
        return self.params[-1]

    def set_gradients(self, number: int) -> None:
        for i, p in enumerate(self.params):
            p.grad = random_tensor(tuple(p.shape), 100 * (number + 1) + i)

    def step(self, number: int) -> None:
        self.set_gradients(number)
        self.optimizer.step()

    def everything(self) -> dict[str, Any]:
        return everything(self.params, self.optimizer)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("depth", [1.5, 2, 3, INF])
def test_the_last_matrix_fails(failure: Any, named: bool, depth: float) -> None:
    spoil, error, message = failure
    scene = Scene(depth, named)
    spoil(scene.last)
    before = scene.everything()
    gradients = [p.grad for p in scene.params]
    name = "last.weight" if named else "parameter 2 of group 2, shape (4, 3)"
    with pytest.raises(error, match=f"^{re.escape(name)}: .*{message}"):
        scene.optimizer.step()
    assert_bitwise(scene.everything(), before)
    assert all(p.grad is grad for p, grad in zip(scene.params, gradients, strict=True))


@pytest.mark.parametrize("named", [False, True])
def test_an_svd_that_does_not_converge(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SVD of the last matrix alone, in every way that it is tried; a 4 x 3 or 3 x 4 one."""
    scene = Scene(named=named)
    before = scene.everything()
    svd, refused = torch.linalg.svd, []

    def give_up(matrix: Tensor, *args: Any, **kwargs: Any) -> Any:
        if matrix.numel() == 16:  # of the kernel c, (2, 2 * 4): this one converges
            return svd(matrix, *args, **kwargs)
        refused.append(tuple(matrix.shape))
        raise torch.linalg.LinAlgError("linalg.svd: it failed to converge")

    scene.params[0].grad = None
    monkeypatch.setattr(torch.linalg, "svd", give_up)
    name = "last.weight" if named else "parameter 2 of group 2, shape (4, 3)"
    with pytest.raises(torch.linalg.LinAlgError, match=f"^{re.escape(name)}: .*converge"):
        scene.optimizer.step()
    assert_bitwise(scene.everything(), before)
    assert len(refused) >= 3, "it was given up too early"


def test_an_svd_that_converges_at_the_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, undisturbed = Scene(), Scene()
    svd, calls = torch.linalg.svd, []

    def fail_once(matrix: Tensor, *args: Any, **kwargs: Any) -> Any:
        calls.append(matrix)
        if len(calls) == 1:
            raise torch.linalg.LinAlgError("linalg.svd: it failed to converge")
        return svd(matrix, *args, **kwargs)

    undisturbed.optimizer.step()
    monkeypatch.setattr(torch.linalg, "svd", fail_once)
    scene.optimizer.step()
    assert len(calls) > 1
    for p, q in zip(scene.params, undisturbed.params, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("depth", 0.5, ValueError),
        ("depth", 0, ValueError),
        ("depth", -INF, ValueError),
        ("depth", NAN, ValueError),
        ("depth", "3", TypeError),
        ("depth", None, TypeError),
        ("depth", True, TypeError),
        ("rtol", 1.0, ValueError),
        ("rtol", -1e-9, ValueError),
        ("rtol", NAN, ValueError),
        ("solver", "eigh", ValueError),
        ("step_scale", "AUTO", ValueError),
        ("origin", "start", ValueError),
    ],
)
def test_an_option_changed_to_what_it_cannot_be(
    option: str, value: Any, error: type[Exception]
) -> None:
    scene = Scene()
    before = scene.everything()
    kept = scene.optimizer.param_groups[2][option]
    scene.optimizer.param_groups[2][option] = value
    with pytest.raises(error, match=option):
        scene.optimizer.step()
    scene.optimizer.param_groups[2][option] = kept
    assert_bitwise(scene.everything(), before)


def test_a_complex_or_sparse_matrix_that_gets_depth_later() -> None:
    """At depth 1 they were torch's own business."""
    complex_one = nn.Parameter(random_tensor((3, 2), 0, torch.complex128))
    dense = nn.Parameter(random_tensor((3, 2), 1))
    optimizer = EndToEndSGD([("dense", dense), ("complex", complex_one)], lr=0.1, depth=1)
    for p in (dense, complex_one):
        p.grad = torch.ones_like(p)
    optimizer.step()
    before = everything([dense, complex_one], optimizer)
    optimizer.param_groups[0]["depth"] = 2
    with pytest.raises(TypeError, match=r"^complex: .*complex128.*depth=1"):
        optimizer.step()
    optimizer.param_groups[0]["depth"] = 1
    assert_bitwise(everything([dense, complex_one], optimizer), before)


def test_what_failed_once_goes_on_when_it_is_mended() -> None:
    scene, undisturbed = Scene(), Scene()
    scene.last.grad[0, 0] = NAN
    with pytest.raises(FloatingPointError):
        scene.optimizer.step()
    for number in (2, 3):
        scene.step(number)
        undisturbed.step(number)
    assert_bitwise(scene.everything(), undisturbed.everything())


def test_a_failing_first_step_makes_no_state() -> None:
    p = nn.Parameter(random_tensor((3, 2), 0))
    optimizer = EndToEndSGD([p], lr=0.1, depth=3)
    optimizer.param_groups[0]["momentum"] = 0.9
    p.grad = torch.full_like(p, NAN)
    with pytest.raises(FloatingPointError):
        optimizer.step()
    assert not optimizer.state


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0, 0.9])
@pytest.mark.parametrize("depth", [1.5, 2, 3, INF])
def test_a_diverging_run_ends_in_a_clear_error(
    dtype: torch.dtype, momentum: float, depth: float
) -> None:
    """And not in LAPACK's, which is a ValueError or a LinAlgError that names no parameter."""
    model = nn.Linear(4, 3, bias=False).to(dtype)
    with torch.no_grad():
        model.weight.copy_(random_tensor((3, 4), 0))
    optimizer = EndToEndSGD(model.named_parameters(), lr=10.0, depth=depth, momentum=momentum)
    inputs, targets = random_tensor((8, 4), 1, dtype), random_tensor((8, 3), 2, dtype)

    def step() -> None:
        optimizer.zero_grad()
        (model(inputs) - targets).square().sum().backward()
        before[:] = [everything(model, optimizer)]
        optimizer.step()

    before: list[Any] = []
    with pytest.raises(FloatingPointError, match=r"^weight: .*lower the learning rate"):
        deque((step() for _ in range(2000)), maxlen=0)
    assert_bitwise(everything(model, optimizer), before[0])


def test_a_plain_step_that_torch_refuses_moves_no_matrix() -> None:
    """torch has no weight decay for sparse gradients, and finds out in the middle of a step."""
    deep, plain = (nn.Parameter(random_tensor((3, 2), seed)) for seed in (0, 1))
    deep.grad = torch.ones_like(deep)
    sparse_gradient(plain)
    optimizer = EndToEndSGD(
        [{"params": [deep], "depth": 2}, {"params": [plain], "depth": 1}], weight_decay=0.1
    )
    before = deep.detach().clone()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert_bitwise(deep.detach(), before)
