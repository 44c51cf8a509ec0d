"""Every scheduler of torch drives it."""

import copy
from collections.abc import Callable
from typing import Any

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
from torch.optim import Optimizer, lr_scheduler, swa_utils

STEPS = 8

Make = Callable[[Optimizer], Any]

PLAIN: dict[str, Make] = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda epoch: 0.9**epoch),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(opt, lambda epoch: 0.8),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, 2),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5]),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, 0.5, total_iters=3),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, total_iters=4),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt,
        [lr_scheduler.LinearLR(opt, total_iters=3), lr_scheduler.ExponentialLR(opt, 0.9)],
        milestones=[3],
    ),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(opt, total_iters=3), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, 5),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, 3),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, 6),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, patience=1),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.05, 3, cycle_momentum=False),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(
        opt, 0.05, total_steps=STEPS + 1, cycle_momentum=False
    ),
    "SWALR": lambda opt: swa_utils.SWALR(opt, 0.02, anneal_epochs=3),
}
# these reach into the momentum too
CYCLING: dict[str, Make] = {
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(opt, 0.01, 0.05, 3),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(opt, 0.05, total_steps=STEPS + 1),
}


def advance(scheduler: Any) -> None:
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(1.0)  # a loss that never improves
    else:
        scheduler.step()


class SchedulerContract(Contract):
    def test_no_scheduler_of_torch_is_left_out(self) -> None:
        assert {*PLAIN, "LRScheduler"} == {*lr_scheduler.__all__, "SWALR"}

    @pytest.mark.parametrize("tensor_lr", [False, True], ids=["float", "tensor"])
    @pytest.mark.parametrize("make_scheduler", PLAIN.values(), ids=PLAIN.keys())
    def test_what_it_schedules_is_what_steps(self, make_scheduler: Make, tensor_lr: bool) -> None:
        lr: Any = torch.tensor(self.lr, dtype=torch.float64) if tensor_lr else self.lr
        self.check(make_scheduler, ("lr",), lr=lr)

    @pytest.mark.parametrize("make_scheduler", CYCLING.values(), ids=CYCLING.keys())
    def test_it_may_cycle_momentum(self, make_scheduler: Make) -> None:
        self.check(make_scheduler, ("lr", self.momentum_option()), lr=self.lr)

    def momentum_option(self) -> str:
        """The option that schedulers cycle as momentum; without one there is nothing to test."""
        defaults = self.make(small_network().parameters()).defaults
        options = [option for option in ("momentum", "betas") if option in defaults]
        if not options:
            pytest.skip("torch's schedulers refuse to cycle the momentum of what has none")
        return options[0]

    def check(self, make_scheduler: Make, scheduled: tuple[str, ...], lr: Any) -> None:
        """The same options, taken from a scheduled optimizer of torch and set by hand."""
        model, twin = small_network(), small_network()
        optimizer, by_hand = self.make(model.parameters(), lr=lr), self.make(twin.parameters())
        theirs = self.torch_class(small_network().parameters(), lr=copy.deepcopy(lr))
        scheduler, their_scheduler = make_scheduler(optimizer), make_scheduler(theirs)
        seen = set()
        for batch in range(STEPS):
            for key in scheduled:
                value = copy.deepcopy(theirs.param_groups[0][key])
                by_hand.param_groups[0][key] = value
                assert_bitwise(optimizer.param_groups[0][key], value)
            seen.add(str([by_hand.param_groups[0][key] for key in scheduled]))
            train(model, optimizer, steps=1, start=batch)
            train(twin, by_hand, steps=1, start=batch)
            assert_bitwise([*model.parameters()], [*twin.parameters()])
            theirs.step()
            advance(scheduler)
            advance(their_scheduler)
        assert len(seen) > 1, "the schedule never changed anything"

    @pytest.mark.parametrize("name", [*PLAIN, *(f"{name} with momentum" for name in CYCLING)])
    def test_a_schedule_resumes_to_the_last_bit(self, name: str) -> None:
        cycles = name.endswith(" with momentum") and bool(self.momentum_option())
        make_scheduler = (CYCLING if cycles else PLAIN)[name.removesuffix(" with momentum")]
        model, twin = small_network(), small_network(seed=7)
        optimizer = self.make(model.parameters(), lr=self.lr)
        scheduler = make_scheduler(optimizer)
        for batch in range(3):
            train(model, optimizer, steps=1, start=batch)
            advance(scheduler)
        resumed = self.make(twin.parameters(), lr=self.lr)
        resumed_scheduler = make_scheduler(resumed)
        resumed_scheduler.load_state_dict(copy.deepcopy(scheduler.state_dict()))
        twin.load_state_dict(model.state_dict())
        resumed.load_state_dict(through_a_file(optimizer.state_dict()))
        for batch in range(3, STEPS):
            for one, its, schedule in (
                (model, optimizer, scheduler),
                (twin, resumed, resumed_scheduler),
            ):
                train(one, its, steps=1, start=batch)
                advance(schedule)
            assert_bitwise(everything(twin, resumed), everything(model, optimizer))
