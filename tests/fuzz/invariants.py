"""One random run, and what holds in every one of them."""

from typing import Any

import torch
from tests.contract.tools import assert_bitwise, copy_of, everything, through_a_file
from tests.fuzz.cases import DOUBLE, NAN, Case, rotation
from tests.fuzz.faults import fault
from torch import Tensor, nn

import virtualdepth as vd

# what an optimizer may raise for what it cannot do; torch's own raise RuntimeError for a number
# that the dtype does not hold
CLEAR = (ValueError, TypeError, FloatingPointError, torch.linalg.LinAlgError, RuntimeError)
# torch casts a number in the state of these to the dtype of the parameter when it is loaded
CAST = {"NAdam", "ASGD"}


def check(case: Case) -> None:
    """Construct, step with faults, and hold every step to the invariants."""
    params = case.parameters()
    before = copy_of(params)
    try:
        optimizer = case.optimizer(params)
    except CLEAR as error:
        check_error(case, error)
        assert_bitwise(copy_of(params), before)
        return
    vd.routing(optimizer)
    for number, name in enumerate(case.faults):
        case.set_gradients(params, number)
        check_equivariance(case, params, optimizer, number, name)
        twin = resumed(case, params, optimizer, number)
        with fault(name, params, optimizer):
            check_step(case, params, optimizer, name)
        if name is None and twin is not None:
            assert_bitwise(copy_of(params), copy_of(twin), "resumed")


def check_step(
    case: Case, params: list[nn.Parameter], optimizer: torch.optim.Optimizer, name: str | None
) -> None:
    """A step is whole or not at all, finite or refused, and leaves gradients as they are."""
    gradients = [p.grad for p in params]
    values = copy_of(gradients)
    before = everything(params, optimizer)
    try:
        optimizer.step(lambda: loss(params, name))
    except CLEAR as error:
        check_error(case, error)
        after = everything(params, optimizer)
        assert_bitwise(after["params"], before["params"], "params")
        if case.kind == "EndToEndSGD":  # another optimizer may have written to its own state
            assert_bitwise(after, before)
    else:
        check_moved(case, params, optimizer, before["params"])
    assert all(p.grad is grad for p, grad in zip(params, gradients, strict=True))
    assert_bitwise(copy_of(gradients), values, "gradients")


def check_error(case: Case, error: Exception) -> None:
    """It says what was expected, or is torch's word on a decomposition or on its own step."""
    text = str(error)
    of_torch = isinstance(error, torch.linalg.LinAlgError) or (
        (case.kind != "EndToEndSGD" or case.options["depth"] == 1) and "without overflow" in text
    )
    assert of_torch or ("expected" in text and "got" in text), text


def loss(params: list[nn.Parameter], name: str | None) -> float:
    if name == "nan loss":
        return NAN
    pairs = [(p.detach().double(), p.grad.double()) for p in params if p.grad is not None]
    return sum(float((weight * grad).sum()) for weight, grad in pairs)


def check_moved(
    case: Case, params: list[nn.Parameter], optimizer: torch.optim.Optimizer, before: list[Tensor]
) -> None:
    """Weights and state are finite, what has no gradient stays, and no step ascends."""
    group = optimizer.param_groups[0]
    if group["depth"] == 1:  # as under torch.optim.SGD, whatever comes in
        return
    for p, old in zip(params[:-1], before[:-1], strict=True):
        assert torch.isfinite(p).all(), "weight"
        if p.grad is None and case.kind == "LBFGS":
            continue  # it takes None for zero, and its direction comes from earlier steps too
        if p.grad is None:
            assert_bitwise(p.detach(), old, "without a gradient")
        elif is_plain_descent(case, optimizer):
            grad, step = in_range(p.grad), (old - p.detach()).double()
            rounding = 8 * torch.finfo(p.dtype).eps
            size = old.double().norm() + step.norm()
            assert (grad * step).sum() >= -rounding * grad.norm() * size, "<G, P_W(G)> >= 0"
    # another optimizer's state is its own affair, and a step of rate 0 writes none
    if case.kind != "EndToEndSGD" or group["lr"] == 0:
        return
    for state in optimizer.state.values():
        for key, value in state.items():
            assert is_finite(value), key


def in_range(tensor: Tensor) -> Tensor:
    """The tensor over its largest entry, so that its squares are in range."""
    peak = tensor.double().abs().amax()
    return tensor.double() / torch.where(peak > 0, peak, 1.0)


def is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or bool(torch.isfinite(value).all())


def is_plain_descent(case: Case, optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step is -lr P_W(G), with a P that is positive semidefinite to rounding."""
    options = case.options
    return (
        case.kind == "EndToEndSGD"
        and not options.get("momentum")
        and not options["weight_decay"]
        and not options["maximize"]
        and options["origin"] is None
        and options["solver"] in {"auto", "svd"}
        and options["step_scale"] != "auto"
    )


def resumed(
    case: Case, params: list[nn.Parameter], optimizer: torch.optim.Optimizer, number: int
) -> list[nn.Parameter] | None:
    """The parameters after the step that a run takes which begins from a file here."""
    if case.kind in CAST and params[0].dtype != torch.float32:
        return None
    state = optimizer.state_dict()["state"]
    if any(not is_finite(value) for entry in state.values() for value in entry.values()):
        return None  # of torch's own step at depth 1, or of another optimizer; it is refused
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    other = case.optimizer(twins)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    case.set_gradients(twins, number)
    try:
        other.step(lambda: loss(twins, None))
    except CLEAR:
        return None  # the run itself is refused too, which check_step sees
    return twins


def check_equivariance(
    case: Case,
    params: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    number: int,
    name: str | None,
) -> None:
    """The step of Q W R from Q G R is Q (the step of W) R, for orthogonal Q and R.

    For other structures Q and R are those that keep the blocks.
    """
    options, first = case.options, params[0]
    structure = options["structure"]
    if (
        number > 0
        or name is not None
        or case.kind != "EndToEndSGD"
        or first.dtype != DOUBLE
        or options["origin"] is not None
        or options["step_scale"] == "auto"
        or case.splits
        # the slopes along equal singular values depend on the vectors chosen for them
        or (options["step_scale"] == "unit" and not is_determined(case))
        or options["lr"] > 1
        or max(abs(layer.exponent) for layer in case.layers) > 2
        or abs(case.grad_exponent) > 2
    ):
        return
    steps = []
    for turned in (False, True):
        copies = [nn.Parameter(p.detach().clone()) for p in params]
        for p, source in zip(copies, params, strict=True):
            p.grad = source.grad.clone()
            if turned and p.ndim > 1:
                p.data, p.grad = turn(p.data, structure), turn(p.grad, structure)
        before = copy_of(copies)
        try:
            case.optimizer(copies).step()
        except CLEAR:
            return
        steps.append([p.detach() - old for p, old in zip(copies, before, strict=True)])
    for plain, turned, p in zip(*steps, params, strict=True):
        expected = turn(plain, structure) if plain.ndim > 1 else plain
        relative = max(1e-9, equivariance_floor(options))
        # a new weight is rounded
        rounding = 32 * torch.finfo(p.dtype).eps * p.norm()
        tolerance = relative * expected.norm() + rounding
        error = (turned - expected).norm()
        assert error <= tolerance, f"equivariance: {error:.2g} of {expected.norm():.2g}"


def equivariance_floor(options: dict[str, Any]) -> float:
    """The relative error of a solver where singular values are zero but for rounding."""
    eps = torch.finfo(DOUBLE).eps
    # the layers have no rtol, and P_W is Hoelder continuous of order 2/N there
    return 10 * eps ** (2 / options["depth"]) if options["solver"] == "layers" else 0.0


def is_determined(case: Case) -> bool:
    """Whether singular vectors are, also those of zero where these move."""
    arbitrary = {"equal"}
    if case.options["imbalance"] > 0:
        arbitrary |= {"low rank", "one", "zero"}
    return not any(layer.spectrum in arbitrary for layer in case.layers)


def turn(tensor: Tensor, structure: str) -> Tensor:
    """Turn a parameter so that its blocks are turned, or change places or signs."""
    matrix = tensor.flatten(1)
    rows, columns = matrix.shape
    if structure == "rows":
        turned = -(matrix @ rotation(columns, 2)).flip(0)
    elif structure == "columns":
        turned = -(rotation(rows, 1) @ matrix).flip(1)
    elif structure == "diagonal":
        turned = -matrix.flip(0, 1)
    elif structure == "circulant":
        turned = -tensor.roll(1, -1)
    else:
        turned = rotation(rows, 1) @ matrix @ rotation(columns, 2)
    return turned.reshape(tensor.shape)
