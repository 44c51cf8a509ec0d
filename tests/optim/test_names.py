"""Messages and tables call a parameter what its model calls it, however the optimizer got it."""

import copy
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from virtualdepth import EndToEndSGD, param_groups, routing, with_depth


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def listed(net: nn.Module) -> list[dict]:
    names, params = zip(*net.named_parameters(), strict=True)
    return [{"params": list(params), "param_names": list(names)}]


WAYS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "named parameters": lambda net: EndToEndSGD(net.named_parameters(), lr=0.1, momentum=0.9),
    "param_groups": lambda net: EndToEndSGD(param_groups(net, 3), lr=0.1, momentum=0.9),
    "param_names": lambda net: EndToEndSGD(listed(net), lr=0.1, momentum=0.9),
    "with_depth, named": lambda net: with_depth(SGD(net.named_parameters(), 0.1, 0.9), 2),
    "with_depth, model": lambda net: with_depth(SGD(net.parameters(), 0.1, 0.9), 2, model=net),
    "with_depth on updates": lambda net: with_depth(
        AdamW(param_groups(net, 2)), 2, on="update"
    ),
}  # fmt: skip
MADE_ANEW: dict[str, Callable[[Optimizer], Optimizer]] = {
    "as it is": lambda optimizer: optimizer,
    "copied": copy.deepcopy,
    "pickled": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),
}


def gradients(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Give every parameter a gradient of ones; return the parameters by their shapes' names."""
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
            found[str(tuple(parameter.shape))] = parameter
    return found


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[nn.Module], Optimizer]:
    return WAYS[request.param]


@pytest.mark.parametrize("made", MADE_ANEW)
def test_a_step_that_is_refused(way: Callable[[nn.Module], Optimizer], made: str) -> None:
    optimizer = MADE_ANEW[made](way(model()))
    found = gradients(optimizer)
    found["(2, 4)"].grad[0, 0] = torch.nan  # type: ignore[index]
    with pytest.raises(FloatingPointError, match=r"^2\.weight: expected a finite gradient"):
        optimizer.step()
    found["(2, 4)"].grad[0, 0] = 1.0  # type: ignore[index]
    with torch.no_grad():
        found["(4, 3)"][0, 0] = torch.inf
    with pytest.raises(FloatingPointError, match=r"^0\.weight: expected a finite weight"):
        optimizer.step()


def test_a_run_that_diverges_hears_of_the_step_scale(
    way: Callable[[nn.Module], Optimizer],
) -> None:
    optimizer = way(model())
    gradients(optimizer)["(4, 3)"].grad.fill_(torch.inf)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=r"^0\.weight: .*step_scale='unit'"):
        optimizer.step()


def test_a_bias_whose_step_is_refused(way: Callable[[nn.Module], Optimizer]) -> None:
    optimizer = way(model())
    gradients(optimizer)["(4,)"].grad.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=r"^0\.bias: expected a finite "):
        optimizer.step()


def test_a_sparse_gradient(way: Callable[[nn.Module], Optimizer]) -> None:
    optimizer = way(model())
    found = gradients(optimizer)["(4, 3)"]
    found.grad = torch.ones_like(found).to_sparse()
    with pytest.raises(TypeError, match=r"^0\.weight: expected a dense real gradient"):
        optimizer.step()


def test_a_matrix_of_zeros(way: Callable[[nn.Module], Optimizer]) -> None:
    optimizer = way(model())
    with torch.no_grad():
        gradients(optimizer)["(2, 4)"].zero_()
    with pytest.warns(UserWarning, match=r"^2\.weight: all weights are zero"):
        optimizer.step()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda value: value[:1], r"of shape \(\d, \d\) but got \(1, \d\)"),
        (lambda value: value * torch.nan, "finite numbers in .* but got NaN or inf"),
        (lambda value: value.to(torch.int64), "a dtype like torch.float64"),
    ],
)
def test_a_checkpoint_that_does_not_fit(
    way: Callable[[nn.Module], Optimizer], change: Callable, said: str
) -> None:
    optimizer = way(model())
    gradients(optimizer)
    optimizer.step()
    saved, names = optimizer.state_dict(), {}
    for group in saved["param_groups"]:
        names |= zip(group["params"], group.get("param_names", [None] * 4), strict=False)
    number = next(
        number
        for number, state in saved["state"].items()
        for key, value in state.items()
        if key in {"momentum_buffer", "exp_avg"} and value.ndim == 2
    )
    key = "exp_avg" if "exp_avg" in saved["state"][number] else "momentum_buffer"
    saved["state"][number][key] = change(saved["state"][number][key])
    name = names[number] or "0.weight"
    with pytest.raises((TypeError, ValueError), match=rf"^{re.escape(name)}: expected .*{said}"):
        optimizer.load_state_dict(saved)


def test_routing_names_every_parameter(way: Callable[[nn.Module], Optimizer]) -> None:
    optimizer = way(model())
    assert sorted(row.parameter for row in routing(optimizer)) == [
        "0.bias", "0.weight", "2.bias", "2.weight",
    ]  # fmt: skip


def test_auto_names_what_it_cannot_step() -> None:
    with pytest.raises(ValueError, match=r"but got 0\.bias, 2\.bias; give them a group"):
        EndToEndSGD(model().named_parameters(), step_scale="auto")


def test_layers_name_the_matrix() -> None:
    with pytest.raises(ValueError, match=r"^0\.weight: hidden_features"):
        EndToEndSGD(
            [{"params": list(model().named_parameters()), "hidden_features": [1, 2, 3]}],
            depth=2,
            solver="layers",
        )


def test_complex_and_parametrized_weights() -> None:
    net = nn.Sequential(nn.Linear(3, 4, dtype=torch.complex64))
    for make in (
        lambda: EndToEndSGD(net.named_parameters()),
        lambda: with_depth(SGD(net.named_parameters()), 2),
    ):
        with pytest.raises(TypeError, match=r"^0\.weight: expected a dense real parameter"):
            make()
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)))
    with pytest.raises(ValueError, match=r"^0\.parametrizations\.weight\.original\d: expected"):
        param_groups(net, 2)


def test_a_name_that_is_not_known_is_a_place() -> None:
    optimizer = EndToEndSGD(model().parameters(), lr=0.1)
    gradients(optimizer)["(4, 3)"].grad.fill_(torch.nan)  # type: ignore[union-attr]
    with pytest.raises(FloatingPointError, match=r"^parameter 0 of group 0, shape \(4, 3\): "):
        optimizer.step()
