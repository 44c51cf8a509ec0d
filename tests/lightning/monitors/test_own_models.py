"""Models of a user's own: built late, called by keyword, skipping batches, adversarial."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import (
    around,
    deep,
    gradient,
    product,
    rule,
    sequential,
    single,
    spy,
)
from torch import Tensor, nn
from torch.optim import SGD

import virtualdepth as vd
from virtualdepth.maths import gradient_alignment, guaranteed_descent

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
DEEP = [f"net.layers.{layer}.weight" for layer in range(3)]


def fit(flavour: Flavour, run: Any, module: Any, data: Data) -> None:
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))


@pytest.mark.parametrize("hook", ["setup", "configure_model"])
def test_layers_that_the_model_builds_late_are_found(
    flavour: Flavour, trainer: Make, data: Data, hook: str
) -> None:
    """Lightning calls both hooks of the model after the setup of its callbacks."""
    module = around(flavour, nn.Identity())

    def build(self: Any, stage: str = "fit") -> None:
        self.net = deep()

    setattr(type(module), hook, build)  # `around` makes a class for each model
    monitors = [flavour.vd.SpectrumMonitor(interval=2), flavour.vd.AlignmentMonitor(interval=2)]
    fit(flavour, trainer(max_epochs=3, callbacks=monitors), module, data)
    assert monitors[0].series["net"]["step"] == [0, 2, 3]
    assert monitors[1].series["net"]["step"] == [0, 2]
    watcher = spy(flavour)
    run = trainer(max_epochs=1, callbacks=[flavour.vd.SpectrumMonitor("head"), watcher])
    with pytest.raises(ValueError, match=r"'head' to match .* matches none of \['net'"):
        fit(flavour, run, module, data)
    assert watcher.weights == []


@pytest.mark.parametrize(
    ("network", "name"), [(deep, "inputs"), (lambda: sequential(5, 3, 3), "input")]
)
def test_a_call_by_keyword_is_seen(
    flavour: Flavour, trainer: Make, data: Data, network: Callable[[], nn.Module], name: str
) -> None:
    def by_keyword(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net(**{name: inputs}) - targets).square().sum(-1).mean() / 2

    found = []
    for loss in (None, by_keyword):
        found.append(flavour.vd.AlignmentMonitor(interval=1))
        run = trainer(max_epochs=2, callbacks=[found[-1]])
        fit(flavour, run, around(flavour, network(), loss=loss), data)
    assert found[0].series == found[1].series


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`:UserWarning")  # once a process
@pytest.mark.parametrize("network", [single, deep])
def test_a_skipped_batch_is_no_step(
    flavour: Flavour, trainer: Make, data: Data, network: Callable[[], nn.Module]
) -> None:
    """Lightning counts it, and the optimizer moves nothing."""
    module = around(flavour, network())
    step = module.training_step

    def skipping(batch: Data, batch_idx: int) -> Tensor | None:
        return None if module.global_step == 2 else step(batch, batch_idx)

    module.training_step = skipping
    monitors = [flavour.vd.AlignmentMonitor(interval=1), flavour.vd.DynamicsMonitor(interval=1)]
    fit(flavour, trainer(max_epochs=4, callbacks=monitors), module, data)
    assert monitors[0].series["net"]["step"] == [0, 1, 3]
    theory = monitors[1].series["net"]["theory"]
    assert theory[3] == theory[2]
    assert theory[4] != theory[3]


def adversaries(flavour: Flavour, toggled: bool, zeroed_late: bool) -> Any:
    """A generator whose loss flows through the critic, a product, between the critic's steps."""

    class Adversaries(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.generator, self.critic = nn.Linear(3, 5, dtype=torch.float64), deep()
            self.truth: list[float] = []

        def training_step(self, batch: Data, batch_idx: int) -> None:
            first, second = self.optimizers()
            if toggled:
                self.toggle_optimizer(first)
            first.zero_grad()
            self.manual_backward(-self.critic(self.generator(batch[1])).square().mean())
            first.step()
            if toggled:
                self.untoggle_optimizer(first)
            if not zeroed_late:
                second.zero_grad()
            fake = self.generator(batch[1]).detach()
            residual = self.critic(batch[0]) - batch[1]
            loss = (residual.square().sum() + self.critic(fake).square().sum()) / 2
            weight = self.critic.end_to_end().detach()
            grad = (weight @ batch[0].T - batch[1].T) @ batch[0] + weight @ fake.T @ fake
            self.truth.append(gradient_alignment(weight, grad)[0].item())
            if zeroed_late:
                second.zero_grad()
            self.manual_backward(loss)
            second.step()

        def configure_optimizers(self) -> list[SGD]:
            return [SGD(net.parameters(), lr=1e-3) for net in (self.generator, self.critic)]

    return Adversaries()


@pytest.mark.parametrize("toggled", [True, False])
@pytest.mark.parametrize("zeroed_late", [True, False])
def test_the_loss_of_another_model_does_not_count(
    flavour: Flavour, trainer: Make, data: Data, toggled: bool, zeroed_late: bool
) -> None:
    monitor = flavour.vd.AlignmentMonitor("critic", interval=1)
    module = adversaries(flavour, toggled, zeroed_late)
    fit(flavour, trainer(max_epochs=3, callbacks=[monitor]), module, data)
    assert monitor.series["critic"]["diagonal"] == pytest.approx(module.truth, rel=1e-10)


def test_a_manual_loop_under_autocast(flavour: Flavour, trainer: Make, data: Data) -> None:
    """It steps inside the model's autocast; the layers are multiplied in float32 all the same."""

    class Manual(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.net = deep().float()

        def training_step(self, batch: Data, batch_idx: int) -> None:
            # the model is exact: what is rounded is the monitor's
            with torch.autocast("cpu", enabled=False):
                loss = (self.net(batch[0]) - batch[1]).square().sum(-1).mean() / 2
            self.manual_backward(loss)
            self.optimizers().step()

        def configure_optimizers(self) -> SGD:
            return SGD(self.parameters(), lr=0.05)

    monitor, watcher = flavour.vd.AlignmentMonitor(interval=1), spy(flavour)
    watcher.on_train_batch_end = lambda *_: None  # a manual loop has no loss to keep
    float32 = tuple(tensor.float() for tensor in data)
    run = trainer(max_epochs=1, callbacks=[monitor, watcher], precision="bf16-mixed")
    fit(flavour, run, Manual(), float32)
    weight = product(watcher.weights[0], *DEEP).double()
    diagonal, beside = gradient_alignment(weight, gradient(weight, data))
    series = monitor.series["net"]
    assert series["diagonal"] == pytest.approx([diagonal.item()], rel=1e-5)
    assert series["off_diagonal"] == pytest.approx([beside.item()], rel=1e-5)


def test_hooks_leave_with_a_run_that_fails(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = around(flavour, deep())

    def failing(batch: Data, batch_idx: int) -> Tensor:
        raise RuntimeError("of the model")

    module.training_step = failing
    run = trainer(max_epochs=1, callbacks=[flavour.vd.AlignmentMonitor()])
    with pytest.raises(RuntimeError, match="of the model"):
        fit(flavour, run, module, data)
    assert not module.net._forward_hooks
    assert not module.net._end_to_end_hooks
    assert not any(weight._post_accumulate_grad_hooks for weight in module.net.factors)


@pytest.mark.parametrize("monitor", ["DynamicsMonitor", "LossDescentMonitor"])
def test_a_weight_of_several_matrices_is_refused(
    flavour: Flavour, trainer: Make, data: Data, monitor: str
) -> None:
    module = around(flavour, single(), rule(3))
    configure = module.configure_optimizers

    def packed() -> vd.EndToEndSGD:
        optimizer = configure()
        optimizer.param_groups[0]["blocks"] = 3
        return optimizer

    module.configure_optimizers = packed
    run = trainer(max_epochs=1, callbacks=[getattr(flavour.vd, monitor)()])
    with pytest.raises(ValueError, match=r"net: expected a weight that trains as one matrix .* 3"):
        fit(flavour, run, module, data)


def test_a_loss_that_is_not_finite_is_a_violation(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    module = around(flavour, single())
    step = module.training_step

    def overflowing(batch: Data, batch_idx: int) -> Tensor:
        loss = step(batch, batch_idx)
        shown = {1: torch.inf, 2: torch.inf, 3: torch.nan}.get(module.global_step, 0.0)
        return loss + shown  # its gradient is the loss's

    module.training_step = overflowing
    monitor = flavour.vd.LossDescentMonitor()
    fit(flavour, trainer(max_epochs=4, callbacks=[monitor]), module, data)
    assert monitor.violations == 3  # finite to inf, inf to inf, inf to NaN


def test_no_descent_is_guaranteed_at_infinite_depth_but_of_square_matrices() -> None:
    """A single output moves along itself alone: a gradient beside it takes nothing off."""
    weight, grad = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert torch.equal(vd.precondition(weight, grad, torch.inf), torch.zeros(1, 2))
    assert guaranteed_descent(torch.tensor(1.0), grad, torch.inf, 0.1) == 0
    assert guaranteed_descent(torch.tensor(2.0), torch.eye(2), torch.inf, 0.1).item() == (
        pytest.approx(0.05 * 4 * 2)
    )
