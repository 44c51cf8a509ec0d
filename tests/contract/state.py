"""Checkpoints, copies and pickles: what goes on from them goes on to the last bit."""

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract.base import Contract
from tests.contract.tools import (
    assert_bitwise,
    everything,
    small_network,
    through_a_file,
    train,
)
from torch import Tensor, nn
from torch.optim import Optimizer

PLAIN_TYPES = {bool, int, float, str, type(None), Tensor, nn.Parameter, list, tuple, dict}


def assert_plain(value: Any, where: str) -> None:
    assert type(value) in PLAIN_TYPES, f"{where} is a {type(value)}"
    if isinstance(value, Mapping):
        for key, item in value.items():
            assert type(key) in {str, int}, where
            assert_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            assert_plain(item, f"{where}[{index}]")


def by_deepcopy(model: nn.Module, optimizer: Optimizer) -> Any:
    return copy.deepcopy((model, optimizer))


def by_pickle(model: nn.Module, optimizer: Optimizer) -> Any:
    return pickle.loads(pickle.dumps((model, optimizer)))


class StateContract(Contract):
    @pytest.mark.parametrize("trained", [0, 3])
    def test_a_checkpoint_goes_on_to_the_last_bit(self, trained: int, variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer, steps=trained)
        checkpoint = through_a_file((model.state_dict(), optimizer.state_dict()))

        other = small_network(seed=7)
        other.load_state_dict(checkpoint[0])
        resumed = self.make(other.parameters())
        resumed.load_state_dict(checkpoint[1])
        assert_bitwise(everything(other, resumed), everything(model, optimizer))
        for start in range(trained, trained + 3):
            train(model, optimizer, steps=1, start=start)
            train(other, resumed, steps=1, start=start)
            assert_bitwise(everything(other, resumed), everything(model, optimizer))

    def test_groups_and_names_survive_a_checkpoint(self) -> None:
        key, value = self.own_option
        model = small_network()
        first = {"params": list(model[0].named_parameters()), "lr": 0.25}
        second = {"params": list(model[2].named_parameters()), key: value}
        optimizer = self.make([first, second])
        resumed = self.make(
            [{"params": list(model[i].named_parameters(prefix="no"))} for i in (0, 2)]
        )
        resumed.load_state_dict(through_a_file(optimizer.state_dict()))
        assert resumed.param_groups[0]["lr"] == 0.25
        assert resumed.param_groups[1][key] == value
        assert resumed.param_groups[0][key] != value
        assert_bitwise(resumed.state_dict(), optimizer.state_dict())

    def test_everything_is_a_plain_value(self, variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.named_parameters(), **variant)
        train(model, optimizer)
        assert_plain(optimizer.state_dict(), "state_dict")
        assert_plain(list(optimizer.state.values()), "state")

    @pytest.mark.parametrize("number", [np.float64(0.05), np.float32(0.05), np.int64(1)])
    def test_another_librarys_number_in_a_group_does_not_spoil_the_checkpoint(
        self, number: Any
    ) -> None:
        """As LambdaLR leaves it, where the function computes with numpy."""
        model = small_network()
        optimizer = self.make(model.parameters())
        optimizer.param_groups[0]["lr"] = number
        train(model, optimizer)
        assert_plain(optimizer.state_dict(), "state_dict")
        loaded = through_a_file(optimizer.state_dict())
        assert loaded["param_groups"][0]["lr"] == number

    @pytest.mark.parametrize(
        "groups", [[[0]], [[0, 2], [4]], [[0, 2]]], ids=["fewer", "other groups", "other sizes"]
    )
    def test_a_checkpoint_of_other_groups_is_refused(
        self, groups: list[list[int]], variant: Any
    ) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        before = everything(model, optimizer)
        strange = self.make(
            [{"params": [p for i in group for p in model[i].parameters()]} for group in groups]
        )
        with pytest.raises(ValueError, match="group"):
            optimizer.load_state_dict(strange.state_dict())
        assert_bitwise(everything(model, optimizer), before)

    @pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
    def test_a_copy_goes_on_to_the_last_bit(self, copied: Callable[..., Any], variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        twin, other = copied(model, optimizer)
        assert type(other) is type(optimizer)
        before = everything(twin, other)
        train(model, optimizer, start=3)
        assert_bitwise(everything(twin, other), before)  # they share no memory
        train(twin, other, start=3)
        assert_bitwise(everything(twin, other), everything(model, optimizer))

    @pytest.mark.parametrize("copied", [by_deepcopy, by_pickle])
    def test_a_copy_takes_the_same_options(self, copied: Callable[..., Any]) -> None:
        model = small_network()
        optimizer = self.make(model.parameters())
        _, other = copied(model, optimizer)
        for one in (optimizer, other):
            one.add_param_group({"params": [torch.ones(2, 2, requires_grad=True)]})
        assert_bitwise(other.state_dict(), optimizer.state_dict())
        assert other.defaults == optimizer.defaults
        key, value = self.refused_options[0]
        with pytest.raises((TypeError, ValueError), match=key):
            other.add_param_group({"params": [torch.ones(2)], key: value})

    @pytest.mark.parametrize("trained", [0, 3])
    def test_torchs_checkpoint_goes_on_to_the_last_bit(
        self, trained: int, torch_variant: Any
    ) -> None:
        model = small_network()
        theirs = self.torch_class(model.parameters(), **torch_variant)
        train(model, theirs, steps=trained)
        twin = copy.deepcopy(model)
        ours = self.make(twin.parameters(), **self.as_torch)
        ours.load_state_dict(through_a_file(theirs.state_dict()))
        for start in range(trained, trained + 4):
            train(model, theirs, steps=1, start=start)
            train(twin, ours, steps=1, start=start)
            assert_bitwise(list(twin.parameters()), list(model.parameters()))
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                for key, value in theirs.state[p].items():
                    assert_bitwise(ours.state[q][key], value, key)

    def test_torchs_checkpoint_leaves_options_that_it_does_not_have(
        self, torch_variant: Any
    ) -> None:
        key, value = self.own_option
        model = small_network()
        theirs = self.torch_class([{"params": [p]} for p in model.parameters()], **torch_variant)
        train(model, theirs)
        ours = self.make([{"params": [p]} for p in model.parameters()])
        ours.param_groups[2][key] = value
        options = set(ours.param_groups[0])
        ours.load_state_dict(through_a_file(theirs.state_dict()))
        assert ours.param_groups[2][key] == value
        assert ours.param_groups[0][key] == ours.defaults[key]
        assert {k: ours.param_groups[0][k] for k in torch_variant} == torch_variant
        assert set(ours.param_groups[0]) == options
        train(model, ours, start=3)
        assert_plain(ours.state_dict(), "state_dict")

    def test_hooks_of_checkpoints_run(self) -> None:
        model = small_network()
        optimizer = self.make(model.parameters())
        seen: list[str] = []
        optimizer.register_state_dict_pre_hook(lambda _: seen.append("before saving"))
        optimizer.register_state_dict_post_hook(
            lambda _, state_dict: {**state_dict, "note": seen.append("after saving") or "kept"}
        )
        optimizer.register_load_state_dict_pre_hook(
            lambda _, state_dict: seen.append(f"before loading {state_dict['note']}")
        )
        optimizer.register_load_state_dict_post_hook(lambda _: seen.append("after loading"))
        saved = optimizer.state_dict()
        assert saved["note"] == "kept"
        optimizer.load_state_dict(saved)
        assert seen == ["before saving", "after saving", "before loading kept", "after loading"]
