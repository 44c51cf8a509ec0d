"""What a user changes between two steps is checked at the next, and nothing else is assumed."""

import warnings

import pytest
import torch
from torch import nn

from virtualdepth import EndToEndSGD, param_groups, routing, with_depth
from virtualdepth.optim._finite_check import FiniteCheck


def matrix_with_gradient(dtype: torch.dtype = torch.float64) -> nn.Parameter:
    weight = nn.Parameter(torch.diag(torch.tensor([4.0, 9.0], dtype=dtype)))
    weight.grad = torch.ones_like(weight)
    return weight


def test_a_parameter_appended_later_is_checked() -> None:
    optimizer = EndToEndSGD([matrix_with_gradient()], step_scale="auto")
    optimizer.step()
    bias = nn.Parameter(torch.ones(2, dtype=torch.float64))
    bias.grad = torch.ones_like(bias)
    optimizer.param_groups[0]["params"].append(bias)
    with pytest.raises(ValueError, match="expected matrices of depth > 1 only"):
        optimizer.step()
    assert torch.equal(bias.detach(), torch.ones(2, dtype=torch.float64))


def test_a_tensor_that_is_written_to_is_checked() -> None:
    cap = torch.tensor(0.05, dtype=torch.float64)
    optimizer = EndToEndSGD([matrix_with_gradient()], step_scale="unit", cap=cap)  # type: ignore[arg-type]
    optimizer.step()
    cap.fill_(-1)
    with pytest.raises(ValueError, match="cap: expected a number > 0"):
        optimizer.step()


def test_a_learning_rate_of_another_type_is_checked() -> None:
    optimizer = with_depth(
        torch.optim.SGD([matrix_with_gradient()]), 2, step_scale="unit", on="gradient"
    )
    optimizer.step()
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(ValueError, match="without a learning rate"):
        optimizer.step()


def test_a_matrix_without_a_gradient_is_checked_too() -> None:
    half = nn.Parameter(torch.eye(2, dtype=torch.bfloat16))
    moving = matrix_with_gradient()
    optimizer = EndToEndSGD([half, moving], lr=0.1)
    optimizer.step()
    before = moving.detach().clone()
    optimizer.param_groups[0]["origin"] = "init"
    with pytest.raises(TypeError, match="origin"):
        optimizer.step()
    assert torch.equal(moving.detach(), before)


def test_a_subclass_may_have_defaults_of_its_own() -> None:
    optimizer = EndToEndSGD([matrix_with_gradient()])
    optimizer.defaults["momenta"] = 1
    optimizer.add_param_group({"params": [matrix_with_gradient()], "momenta": 2})
    with pytest.raises(TypeError, match=r"^momentun: .* almost 'momentum'"):
        optimizer.add_param_group({"params": [matrix_with_gradient()], "momentun": 1})


def test_groups_with_depth_can_be_shown_before_their_optimizer_has_it() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(param_groups(model, 3), lr=0.1)
    optimizer._session = 1  # type: ignore[attr-defined] # of some other library
    assert [route.solver for route in routing(optimizer)] == ["svd", "plain"]


def test_a_late_warning_of_another_optimizer_names_the_users_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FiniteCheck, "is_async", staticmethod(lambda _: True))
    weight = nn.Parameter(torch.zeros(3, 3))
    weight.grad = torch.ones(3, 3)
    optimizer = with_depth(torch.optim.SGD([weight]), 2, step_scale="raw", on="gradient")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
    assert [each.filename for each in caught] == [__file__]
