"""One step: gradients, closures, hooks, and what it must leave alone."""

from typing import Any

import pytest
import torch
from tests.contract.base import Contract
from tests.contract.tools import (
    assert_bitwise,
    copy_of,
    everything,
    loss_of,
    small_network,
    train,
)
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)


class SteppingContract(Contract):
    def test_without_a_gradient_a_parameter_is_untouched(self, variant: Any) -> None:
        """By weight decay and by momentum too."""
        model, twin = small_network(), small_network()
        options = {**variant, "weight_decay": self.weight_decay}
        optimizer = self.make(model.parameters(), **options)
        without = self.make(
            [p for name, p in twin.named_parameters() if not name.startswith("2.")], **options
        )
        train(model, optimizer)
        train(twin, without)
        before = copy_of([*model[2].parameters()])
        state = copy_of([optimizer.state.get(p, {}) for p in model[2].parameters()])
        for batch in (3, 4):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            model[2].weight.grad = model[2].bias.grad = None
            optimizer.step()
        assert_bitwise([*model[2].parameters()], before)
        assert_bitwise([optimizer.state.get(p, {}) for p in model[2].parameters()], state)

    def test_without_any_gradient_nothing_happens(self, variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        before = everything(model, optimizer)
        optimizer.zero_grad()
        optimizer.step()
        assert_bitwise(everything(model, optimizer), before)

    def test_frozen_parameters_stay_and_the_others_move_as_ever(self, variant: Any) -> None:
        model, twin = small_network(), small_network()
        for frozen in (model, twin):
            frozen[2].requires_grad_(False)
        optimizer = self.make(model.parameters(), **variant)
        without = self.make([p for p in twin.parameters() if p.requires_grad], **variant)
        train(model, optimizer)
        train(twin, without)
        assert_bitwise([*model.parameters()], [*twin.parameters()])
        assert_bitwise([*model[2].parameters()], [*small_network()[2].parameters()])
        assert not torch.equal(model[0].weight, small_network()[0].weight)

    @pytest.mark.parametrize("clipped", [False, True])
    def test_gradients_are_left_untouched(self, clipped: bool, variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        for batch in range(3):
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            if clipped:
                nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            gradients = [p.grad for p in model.parameters()]
            before = copy_of(gradients)
            optimizer.step()
            assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
            assert_bitwise(gradients, before)

    @pytest.mark.parametrize("set_to_none", [True, False])
    def test_zero_grad(self, set_to_none: bool) -> None:
        model = small_network()
        optimizer = self.make(model.parameters())
        loss_of(model, 0).backward()
        optimizer.zero_grad(set_to_none=set_to_none)
        for p in model.parameters():
            assert p.grad is None if set_to_none else not p.grad.any()

    @pytest.mark.parametrize("grad_mode", [True, False])
    def test_a_closure_is_called_once_with_gradients(self, grad_mode: bool, variant: Any) -> None:
        model, twin = small_network(), small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(twin, self.make(twin.parameters(), **variant))
        losses: list[Tensor] = []

        def closure() -> Tensor:
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            losses.append(loss_of(model, len(losses)))
            losses[-1].backward()
            return losses[-1]

        with torch.set_grad_enabled(grad_mode):
            for batch in range(3):
                assert optimizer.step(closure) is losses[batch]
                assert torch.is_grad_enabled() == grad_mode
        assert len(losses) == 3
        assert_bitwise([*model.parameters()], [*twin.parameters()])
        assert optimizer.step() is None

    def test_a_closure_that_fails_changes_nothing(self, variant: Any) -> None:
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        before = everything(model, optimizer)

        def closure() -> float:
            raise RuntimeError("out of data")

        with pytest.raises(RuntimeError, match="out of data"):
            optimizer.step(closure)
        assert torch.is_grad_enabled()
        assert_bitwise(everything(model, optimizer), before)

    def test_hooks_run_once_round_each_step(self) -> None:
        model = small_network()
        optimizer = self.make(model.parameters())
        seen: list[tuple[str, bool]] = []
        start = copy_of(model[2].weight)

        def note(what: str) -> Any:
            def hook(caller: Any, args: Any, kwargs: Any) -> None:
                assert caller is optimizer
                seen.append((what, torch.equal(model[2].weight, start)))

            return hook

        handles = [
            optimizer.register_step_pre_hook(note("before")),
            optimizer.register_step_post_hook(note("after")),
            register_optimizer_step_pre_hook(note("before any")),
            register_optimizer_step_post_hook(note("after any")),
        ]
        train(model, optimizer, steps=1)
        for handle in handles:
            handle.remove()
        train(model, optimizer, steps=1)
        assert seen == [
            ("before any", True),
            ("before", True),
            ("after", False),
            ("after any", False),
        ]

    def test_a_hook_may_clip_the_gradients(self, variant: Any) -> None:
        model, twin = small_network(), small_network()
        optimizer, other = (
            self.make(model.parameters(), **variant),
            self.make(twin.parameters(), **variant),
        )
        optimizer.register_step_pre_hook(
            lambda *_: nn.utils.clip_grad_norm_(model.parameters(), 0.01) and None
        )
        train(model, optimizer, steps=1)
        loss_of(twin, 0).backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
        other.step()
        assert_bitwise([*model.parameters()], [*twin.parameters()])

    def test_a_scaler_of_gradients_skips_what_overflows(self, variant: Any) -> None:
        model, twin = small_network(dtype=torch.float32), small_network(dtype=torch.float32)
        optimizer = self.make(model.parameters(), **variant)
        train(twin, self.make(twin.parameters(), **variant), steps=1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for factor, batch in ((torch.inf, 1), (1.0, 0)):
            optimizer.zero_grad()
            before = everything(model, optimizer)
            scaler.scale(loss_of(model, batch) * factor).backward()
            scaler.step(optimizer)
            scaler.update()
            if factor != 1:
                assert_bitwise(everything(model, optimizer), before)
        assert_bitwise([*model.parameters()], [*twin.parameters()])

    def test_a_dry_step_changes_nothing(self, variant: Any) -> None:
        """torch.distributed.checkpoint takes one to make state: lr = 0, gradients of zeros."""
        model = small_network()
        optimizer = self.make(model.parameters(), **variant)
        before = copy_of([*model.parameters()])
        saved = get_optimizer_state_dict(model, optimizer)
        assert_bitwise([*model.parameters()], before)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert_bitwise([*model.parameters()], before)
        assert saved["param_groups"][0]["lr"] == variant["lr"]

    def test_a_distributed_checkpoint_goes_on_to_the_last_bit(self, variant: Any) -> None:
        model, twin = small_network(), small_network(seed=7)
        optimizer = self.make(model.parameters(), **variant)
        train(model, optimizer)
        twin.load_state_dict(model.state_dict())
        resumed = self.make(twin.parameters())
        set_optimizer_state_dict(twin, resumed, copy_of(get_optimizer_state_dict(model, optimizer)))
        train(model, optimizer, start=3)
        train(twin, resumed, start=3)
        assert_bitwise(everything(twin, resumed), everything(model, optimizer))
