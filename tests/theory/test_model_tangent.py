"""The kernel of a model under depth against its explicit deep twin, and against what steps do."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from virtualdepth.maths import balanced_factors, end_to_end_product
from virtualdepth.optim import EndToEndSGD, param_groups, with_depth
from virtualdepth.theory import model_tangent_kernel, tangent_kernel


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    torch.manual_seed(5)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def by_autograd(outputs: Callable[..., Tensor], variables: list[Tensor], x: Tensor) -> Tensor:
    """Every derivative in one row for each output of each sample, (samples, outputs, number)."""
    jacobians = torch.autograd.functional.jacobian(lambda *v: outputs(x, *v), tuple(variables))
    return torch.cat([each.flatten(2) for each in jacobians], dim=2)


def gram(outputs: Callable[..., Tensor], variables: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    first, second = (by_autograd(outputs, variables, each) for each in (x, y))
    return torch.einsum("iap,jbp->ijab", first, second)


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < tolerance


def tanh_network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def deep_twin(model: nn.Module, names: list[str], depth: int, **options: float | str) -> Callable:
    """The model as a function of balanced layers of some weights, and of its other parameters."""
    rest = [name for name, _ in model.named_parameters() if name not in names]

    def outputs(x: Tensor, *variables: Tensor) -> Tensor:
        layers = [variables[i * depth : (i + 1) * depth] for i in range(len(names))]
        structure = options.get("structure", "matrix")
        weights = [end_to_end_product(each, structure=structure) for each in layers]
        values = dict(
            zip([*names, *rest], [*weights, *variables[len(names) * depth :]], strict=True)
        )
        return functional_call(model, values, (x,))

    return outputs


def layers_of(model: nn.Module, names: list[str], depth: int, **options: float | str) -> list:
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    layers = [f for name in names for f in balanced_factors(values[name], depth, **options)]
    return [*layers, *(value for name, value in values.items() if name not in names)]


def test_without_an_optimizer_it_is_that_of_gradient_descent() -> None:
    model, x, y = tanh_network(), normal(4, 5), normal(3, 5)
    names = [name for name, _ in model.named_parameters()]

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(model, dict(zip(names, values, strict=True)), (x,))

    variables = [parameter.detach() for parameter in model.parameters()]
    close(model_tangent_kernel(model, x, y), gram(outputs, variables, x, y))
    close(model_tangent_kernel(model, x), gram(outputs, variables, x, x))


@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imbalance": 0.7},
        {"structure": "rows"},
        {"structure": "columns", "imbalance": 0.3},
        {"structure": "diagonal"},
        {"structure": "circulant", "imbalance": 0.3},
    ],
    ids=str,
)
def test_an_explicit_deep_twin(depth: int, options: dict) -> None:
    model, x, y = tanh_network(), normal(4, 5), normal(3, 5)
    names = ["0.weight", "2.weight"]
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = EndToEndSGD(
        [{"params": matrices, "depth": depth, **options}, {"params": biases, "depth": 1}]
    )
    twin = deep_twin(model, names, depth, **options)
    expected = gram(twin, layers_of(model, names, depth, **options), x, y)
    found = model_tangent_kernel(model, x, y, optimizer)
    close(found, expected)
    plain = model_tangent_kernel(model, x, y)
    assert float((plain - expected).norm() / expected.norm()) > 0.05  # the check can fail


def test_convolutions_with_groups() -> None:
    """Each group of a convolution is one matrix, and so is a transposed one, transposed."""
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.ConvTranspose2d(6, 2, 2, bias=False)
    ).double()
    x, y = normal(2, 4, 5, 5), normal(3, 4, 5, 5)
    weights = [model[0].weight.detach(), model[2].weight.detach()]
    halves = weights[0].flatten(1).unflatten(0, (2, 3))
    turned = weights[1].flatten(1).T
    layers = [f for w in (*halves, turned) for f in balanced_factors(w, 2)]

    def outputs(x: Tensor, *v: Tensor) -> Tensor:
        kernel = torch.cat([v[1] @ v[0], v[3] @ v[2]]).view_as(weights[0])
        last = (v[5] @ v[4]).T.reshape(weights[1].shape)
        values = {"0.weight": kernel, "0.bias": v[6], "2.weight": last}
        return functional_call(model, values, (x,)).flatten(1)

    variables = [*layers, model[0].bias.detach()]
    optimizer = EndToEndSGD(param_groups(model, depth=2))
    close(model_tangent_kernel(model, x, y, optimizer), gram(outputs, variables, x, y))


@pytest.mark.parametrize("depth", [1, 1.5, 3, math.inf])
def test_one_matrix_has_the_kernel_of_the_formula(depth: float) -> None:
    model, x, y = nn.Linear(5, 3, bias=False).double(), normal(4, 5), normal(2, 5)
    found = model_tangent_kernel(model, x, y, EndToEndSGD(model.parameters(), depth=depth))
    close(found, tangent_kernel(model.weight.detach(), x, y, depth))


def test_a_small_step_moves_the_outputs_so() -> None:
    """Depth on the change of a weight counts too, whose start is drawn before the first step."""
    model, x, y = tanh_network(), normal(4, 5), normal(3, 5)
    groups = param_groups(model, 3, origin="init", origin_scale=0.5)
    optimizer = EndToEndSGD(groups, lr=1e-30)
    optimizer.zero_grad()
    model(x).sum().backward()
    optimizer.step()  # takes the start
    kernel, before = model_tangent_kernel(model, y, x, optimizer), model(y).detach()
    pull = normal(4, 3)
    optimizer.zero_grad()
    (model(x) * pull).sum().backward()
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[-1]["lr"] = 1e-7
    optimizer.step()
    close((before - model(y).detach()) / 1e-7, torch.einsum("ijab,jb->ia", kernel, pull), 1e-5)


def test_what_is_frozen_or_not_held_has_no_share() -> None:
    model, x = tanh_network(), normal(3, 5)
    whole = model_tangent_kernel(model, x)
    parts = [
        model_tangent_kernel(model, x, optimizer=EndToEndSGD([parameter], depth=1))
        for parameter in model.parameters()
    ]
    close(sum(parts), whole)
    model[0].requires_grad_(False)
    close(model_tangent_kernel(model, x), parts[2] + parts[3])


def test_tied_weights_and_buffers() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4, affine=False)
            self.second = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.second(torch.tanh(self.norm(self.first(x))))

    model, x = Tied().double().eval(), normal(3, 4)
    model.norm.running_var.fill_(3.0)
    state = copy.deepcopy(model.state_dict())

    def outputs(x: Tensor, weight: Tensor) -> Tensor:
        return torch.tanh(x @ weight.T / (3 + 1e-5) ** 0.5) @ weight.T

    expected = gram(outputs, [model.first.weight.detach()], x, x)
    close(model_tangent_kernel(model, x), expected)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert model.first.weight.grad is None


def test_float32() -> None:
    model, x = tanh_network(), normal(3, 5)
    optimizer = EndToEndSGD(param_groups(model, 3))
    expected = model_tangent_kernel(model, x, optimizer=optimizer)
    model.float()
    found = model_tangent_kernel(model, x.float(), optimizer=optimizer)
    assert found.dtype == torch.float32
    close(found.double(), expected, 1e-5)


def test_refusals() -> None:
    model, x = tanh_network(), normal(3, 5)
    with pytest.raises(TypeError, match="optimizer: expected an EndToEndSGD but got Adam"):
        model_tangent_kernel(model, x, optimizer=torch.optim.Adam(model.parameters()))
    deep = with_depth(
        torch.optim.SGD(model.parameters(), lr=0.1), 2, on="gradient", step_scale="raw"
    )
    with pytest.raises(TypeError, match="optimizer: expected an EndToEndSGD but got SGDWithDepth"):
        model_tangent_kernel(model, x, optimizer=deep)
    other = EndToEndSGD(tanh_network().parameters(), depth=2)
    with pytest.raises(ValueError, match="model: expected parameters that are trained"):
        model_tangent_kernel(model, x, optimizer=other)
    optimizer = EndToEndSGD(model.named_parameters(), depth=2)
    model[0].weight.data[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"0\.weight: expected finite numbers"):
        model_tangent_kernel(model, x, optimizer=optimizer)


class Twice(nn.Linear):
    """Gives its output twice, as a tuple."""

    def forward(self, inputs: Tensor) -> Any:
        outputs = super().forward(inputs)
        return outputs, outputs


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (None, torch.ones(2, 3), "model: expected a torch.nn.Module but got NoneType"),
        (nn.Linear(3, 2), [1.0], "inputs: expected a tensor but got list"),
        (Twice(3, 2), torch.ones(2, 3), "model: expected one tensor of outputs but got tuple"),
    ],
)
def test_what_has_no_kernel_is_refused(model: Any, inputs: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        model_tangent_kernel(model, inputs)


def test_a_frozen_weight_is_not_decomposed() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False))
    model[0].weight.requires_grad_(False).fill_(1e30)
    inputs = torch.ones(2, 3)
    optimizer = EndToEndSGD(model.parameters(), lr=0.1)
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf
    kernel = model_tangent_kernel(model[1], inputs, optimizer=optimizer)
    assert torch.isfinite(kernel).all()
