"""Made from parameters, generators, named parameters and groups; grown by groups."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.base import Contract
from tests.contract.tools import (
    assert_bitwise,
    copy_of,
    everything,
    loss_of,
    random_tensor,
    small_network,
    train,
)
from torch import nn

WAYS: dict[str, Callable[[nn.Module], Any]] = {
    "list": lambda model: list(model.parameters()),
    "generator": lambda model: model.parameters(),
    "named": lambda model: model.named_parameters(),
    "list of named": lambda model: list(model.named_parameters()),
    "one group": lambda model: [{"params": model.parameters()}],
    "named group": lambda model: [{"params": list(model.named_parameters())}],
    "groups": lambda model: [
        {"params": model[0].parameters()},
        {"params": model[2].weight},
        {"params": [model[2].bias, *model[4].parameters()]},
    ],
    "generator of groups": lambda model: ({"params": [p]} for p in model.parameters()),
}


class ConstructionContract(Contract):
    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
    def test_every_way_of_passing_parameters_trains_the_same(self, way: Any, variant: Any) -> None:
        model, other = small_network(), small_network()
        train(model, self.make(model.parameters(), **variant))
        train(other, self.make(way(other), **variant))
        assert_bitwise(list(other.parameters()), list(model.parameters()))

    def test_names_are_kept(self) -> None:
        model = small_network()
        optimizer = self.make(model.named_parameters())
        assert optimizer.param_groups[0]["param_names"] == [n for n, _ in model.named_parameters()]

    def test_a_group_has_options_of_its_own(self, variant: Any) -> None:
        model, alone = small_network(), small_network()
        groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}]
        optimizer = self.make(groups, **variant)
        train(model, optimizer)
        assert_bitwise(list(model[0].parameters()), list(alone[0].parameters()))
        train(alone, self.make(alone[2].parameters(), **variant))
        assert_bitwise(list(model[2].parameters()), list(alone[2].parameters()))
        assert [group["lr"] for group in optimizer.param_groups] == [0.0, variant["lr"]]

    def test_the_option_of_its_own_reaches_the_group(self) -> None:
        key, value = self.own_option
        by_default = self.make(small_network().parameters())
        assert by_default.param_groups[0][key] != value
        by_argument = self.make(small_network().parameters(), **{key: value})
        assert by_argument.param_groups[0][key] == value
        by_group = self.make([{"params": small_network().parameters(), key: value}])
        assert by_group.param_groups[0][key] == value

    @pytest.mark.parametrize(
        "params",
        [
            pytest.param(lambda: [], id="none"),
            pytest.param(lambda: torch.ones(2, 2, requires_grad=True), id="a bare tensor"),
            pytest.param(lambda: [torch.ones(2, 2, requires_grad=True) * 2], id="a non-leaf"),
            pytest.param(lambda: ["weight"], id="a string"),
            pytest.param(lambda: [{"params": {torch.ones(2, 2)}}], id="a set"),
            pytest.param(lambda: [nn.Linear(2, 2)], id="a module"),
            pytest.param(lambda: [{"params": [torch.ones(2)]}, [torch.ones(2)]], id="mixed"),
        ],
    )
    def test_what_is_no_parameter_is_refused(self, params: Callable[[], Any]) -> None:
        with pytest.raises((TypeError, ValueError)):
            self.make(params())

    def test_a_bad_option_is_refused_for_all_and_for_a_group(self) -> None:
        key, value = self.bad_option
        with pytest.raises((TypeError, ValueError), match=key):
            self.make(small_network().parameters(), **{key: value})
        with pytest.raises((TypeError, ValueError), match=key):
            self.make([{"params": small_network().parameters(), key: value}])

    def test_an_added_group_trains_from_then_on(self, variant: Any) -> None:
        model = small_network()
        late = nn.Parameter(random_tensor((4, 3), seed=1))
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        optimizer.add_param_group({"params": [late]})
        group = optimizer.param_groups[-1]
        assert {key: group[key] for key in variant} == variant

        alone = nn.Parameter(late.detach().clone())
        other = self.make([alone], **variant)
        for step in range(3):
            late.grad = random_tensor((4, 3), seed=10 + step)
            alone.grad = late.grad.clone()
            optimizer.step()
            other.step()
        assert_bitwise(late, alone)

    @pytest.mark.parametrize(
        "group",
        [
            pytest.param(lambda model: {"params": model[0].parameters()}, id="there already"),
            pytest.param(lambda model: {"params": [model[0].weight * 2]}, id="a non-leaf"),
            pytest.param(lambda model: {"params": [("late", torch.ones(2))]}, id="named"),
            pytest.param(lambda model: {"params": {torch.ones(2)}}, id="a set"),
            pytest.param(lambda model: {"params": ["weight"]}, id="a string"),
            pytest.param(lambda model: [torch.ones(2)], id="no group"),
        ],
    )
    def test_a_refused_group_leaves_the_optimizer_as_it_was(self, group: Any, variant: Any) -> None:
        model, twin = small_network(), small_network()
        optimizer, undisturbed = (
            self.make(model.parameters(), **variant),
            self.make(twin.parameters(), **variant),
        )
        train(model, optimizer)
        train(twin, undisturbed)
        before = everything(model, optimizer)
        with pytest.raises((TypeError, ValueError)):
            optimizer.add_param_group(group(model))
        assert_bitwise(everything(model, optimizer), before)
        train(model, optimizer, start=3)
        train(twin, undisturbed, start=3)
        assert_bitwise(everything(model, optimizer), everything(twin, undisturbed))

    def test_a_group_refused_for_its_own_option_leaves_the_optimizer_as_it_was(self) -> None:
        model = small_network()
        optimizer = self.make(model.parameters())
        before = copy_of(optimizer.state_dict())
        for key, value in (self.bad_option, *self.refused_options):
            with pytest.raises((TypeError, ValueError), match=key):
                optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2, 2))], key: value})
            assert_bitwise(optimizer.state_dict(), before)

    def test_it_can_be_printed(self) -> None:
        model = small_network()
        text = repr(self.make(model.parameters()))
        assert type(self.make(model.parameters())).__name__ in text
        assert self.own_option[0] in text

    def test_parameters_of_two_modules_are_one_parameter(self, variant: Any) -> None:
        """Tied weights appear once, and get the sum of both gradients."""
        model = small_network()
        tied = nn.Sequential(
            *model[:3], nn.Linear(5, 12, bias=False).double(), model[2], *model[3:]
        )
        optimizer = self.make(tied.parameters(), **variant)
        params = [p for group in optimizer.param_groups for p in group["params"]]
        assert sum(p is model[2].weight for p in params) == 1

        loss_of(tied, 0).backward()
        lone = nn.Parameter(model[2].weight.detach().clone())
        lone.grad = model[2].weight.grad.clone()
        optimizer.step()
        self.make([lone], **variant).step()
        assert_bitwise(model[2].weight, lone)
