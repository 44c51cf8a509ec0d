"""What AlignmentMonitor and DynamicsMonitor take for dl/dW, however the model comes by it."""

from collections.abc import Callable
from typing import Any

import pytest
import scipy.linalg
import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import (
    F64,
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

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
DEEP = [f"net.layers.{layer}.weight" for layer in range(3)]
CHAIN = ["net.0.weight", "net.1.weight"]


def by_product(net: vd.DeepLinear, inputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of a model that multiplies its layers first, as matrix completion does."""
    return (inputs @ net.end_to_end().mT - targets).square().sum(-1).mean() / 2


def by_both(net: vd.DeepLinear, inputs: Tensor, targets: Tensor) -> Tensor:
    half = (net(inputs) - targets).square().sum(-1).mean() / 4
    return half + by_product(net, inputs, targets) / 2


def in_two_calls(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    residual = torch.cat([net(part) for part in inputs.split(10)]) - targets
    return residual.square().sum(-1).mean() / 2


def with_leading_dimensions(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    residual = net(inputs.reshape(2, 4, 3, 5)).reshape(24, 3) - targets
    return residual.square().sum(-1).mean() / 2


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], Any]] = {
    "single layer": (single, ["net.weight"], None),
    "single layer with bias": (lambda: single(bias=True), ["net.weight"], None),
    "DeepLinear": (deep, DEEP, None),
    "Sequential": (lambda: sequential(5, 4, 3), CHAIN, None),
    "DeepLinear by its product": (deep, DEEP, by_product),
    "DeepLinear by both": (deep, DEEP, by_both),
    "DeepLinear in two calls": (deep, DEEP, in_two_calls),
    "DeepLinear on more dimensions": (deep, DEEP, with_leading_dimensions),
    "Sequential on more dimensions": (
        lambda: sequential(5, 4, 3),
        CHAIN,
        with_leading_dimensions,
    ),
}


def sizes(weight: Tensor, grad: Tensor) -> tuple[float, float]:
    u, _, vh = scipy.linalg.svd(weight.numpy(), full_matrices=False)
    core = abs(u.T @ grad.numpy() @ vh.T)
    k = len(core)
    return core.trace() / k, (core.sum() - core.trace()) / (k * k - k)


@pytest.mark.parametrize(("network", "names", "loss"), CASES.values(), ids=CASES)
def test_alignment_against_the_formula_of_the_gradient(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    network: Callable[[], nn.Module],
    names: list[str],
    loss: Any,
) -> None:
    monitor, watcher = flavour.vd.AlignmentMonitor(interval=2), spy(flavour)
    module = around(flavour, network(), loss=loss)
    trainer(max_epochs=5, callbacks=[watcher, monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    series = monitor.series["net"]
    assert series["step"] == [0, 2, 4]
    for record, step in enumerate(series["step"]):
        weight = product(watcher.weights[step], *names)
        grad = gradient(weight, data)
        if "net.bias" in watcher.weights[step]:  # W x + b - y
            grad = grad + torch.outer(watcher.weights[step]["net.bias"], data[0].mean(0))
        diagonal, beside = sizes(weight, grad)
        assert series["diagonal"][record] == pytest.approx(diagonal, rel=1e-10)
        assert series["off_diagonal"][record] == pytest.approx(beside, rel=1e-10)


@pytest.mark.parametrize("network", [single, deep])
def test_accumulation_gives_the_gradient_of_the_whole_batch(
    flavour: Flavour, trainer: Make, data: Data, network: Callable[[], nn.Module]
) -> None:
    found = []
    for batches, accumulate in ((None, 1), (8, 3)):
        monitor = flavour.vd.AlignmentMonitor(interval=2)
        trainer(max_epochs=5, callbacks=[monitor], accumulate_grad_batches=accumulate).fit(
            around(flavour, network()),
            datamodule=flavour.vd.TensorDataModule(*data, batch_size=batches),
        )
        found.append(monitor.series["net"])
    for column in ("step", "diagonal", "off_diagonal"):
        assert found[1][column] == pytest.approx(found[0][column], rel=1e-10)


def test_gradients_are_taken_before_clipping(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitors = []
    for clip in (None, 1e-3):
        monitors.append(flavour.vd.AlignmentMonitor(interval=1))
        trainer(max_epochs=1, callbacks=[monitors[-1]], gradient_clip_val=clip).fit(
            around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data)
        )
    assert monitors[0].series == monitors[1].series


def test_two_optimizers_of_a_manual_loop(flavour: Flavour, trainer: Make, data: Data) -> None:
    class Adversaries(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.one, self.two = single(seed=1), deep(seed=2)
            self.seen: dict[str, list[Tensor]] = {"one": [], "two": []}

        def training_step(self, batch: Data, batch_idx: int) -> None:
            for name, optimizer in zip(self.seen, self.optimizers(), strict=True):
                net = getattr(self, name)
                optimizer.zero_grad()
                self.manual_backward((net(batch[0]) - batch[1]).square().sum(-1).mean() / 2)
                weight = net.weight if name == "one" else net.end_to_end()
                self.seen[name].append(weight.detach().clone())
                optimizer.step()

        def configure_optimizers(self) -> list[SGD]:
            return [SGD(net.parameters(), lr=0.1) for net in (self.one, self.two)]

    module, monitor = Adversaries(), flavour.vd.AlignmentMonitor(interval=4)
    trainer(max_epochs=5, callbacks=[monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    # Lightning counts the steps of each optimizer
    assert monitor.series["one"]["step"] == [0, 4, 8]
    assert monitor.series["two"]["step"] == [1, 5, 9]
    for name, batches in (("one", (0, 2, 4)), ("two", (0, 2, 4))):
        for record, batch in enumerate(batches):
            weight = module.seen[name][batch]
            truth = sizes(weight, gradient(weight, data))
            assert monitor.series[name]["diagonal"][record] == pytest.approx(truth[0], rel=1e-10)


def test_hooks_leave_with_the_run(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = around(flavour, deep())
    monitors = [flavour.vd.AlignmentMonitor(), flavour.vd.DynamicsMonitor()]
    for _ in range(2):
        trainer(max_epochs=1, callbacks=monitors).fit(
            module, datamodule=flavour.vd.TensorDataModule(*data)
        )
        assert not module.net._forward_hooks
        assert not module.net._end_to_end_hooks


def test_layers_that_differ_in_learning_rate_are_an_error(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    network = deep()

    def optimizer(_: Any) -> SGD:
        rates = enumerate(network.factors, start=1)
        return SGD([{"params": [weight], "lr": 0.01 * rate} for rate, weight in rates])

    with pytest.raises(ValueError, match=r"^lr: expected one value .* 'net' but got \[0.01"):
        trainer(max_epochs=1, callbacks=[flavour.vd.DynamicsMonitor()]).fit(
            around(flavour, network, optimizer), datamodule=flavour.vd.TensorDataModule(*data)
        )


def test_layers_that_differ_in_the_depth_they_are_given_are_an_error(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    network = deep()

    def optimizer(_: Any) -> SGD:
        made = SGD(network.named_parameters(), lr=0.01)
        return vd.with_depth(made, depth=2, exclude=["layers.0.*"], step_scale="raw", on="gradient")

    with pytest.raises(ValueError, match=r"^depth: expected one value .* 'net' but got \[1"):
        trainer(max_epochs=1, callbacks=[flavour.vd.DynamicsMonitor()]).fit(
            around(flavour, network, optimizer), datamodule=flavour.vd.TensorDataModule(*data)
        )


def test_scaled_gradients_of_a_product_are_refused(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    precision = flavour.submodule("plugins.precision").MixedPrecision(
        "16-mixed", "cpu", torch.amp.GradScaler("cpu")
    )
    run = trainer(max_epochs=1, callbacks=[flavour.vd.AlignmentMonitor()], plugins=[precision])
    with pytest.raises(ValueError, match=r"unscaled gradients of 'net'.*bf16-mixed"):
        run.fit(around(flavour, deep().float()), datamodule=flavour.vd.TensorDataModule(*data))


@pytest.mark.parametrize("network", [single, deep])
def test_bfloat16_autocast(
    flavour: Flavour, trainer: Make, data: Data, network: Callable[[], nn.Module]
) -> None:
    monitor, watcher = flavour.vd.AlignmentMonitor(interval=1), spy(flavour)
    float32 = tuple(tensor.float() for tensor in data)
    trainer(max_epochs=2, callbacks=[monitor, watcher], precision="bf16-mixed").fit(
        around(flavour, network().float()), datamodule=flavour.vd.TensorDataModule(*float32)
    )
    names = ["net.weight"] if network is single else DEEP
    for record in range(2):
        weight = product(watcher.weights[record], *names).to(F64)
        truth = sizes(weight, gradient(weight, data))
        found = [monitor.series["net"][key][record] for key in ("diagonal", "off_diagonal")]
        assert found == pytest.approx(truth, rel=0.1)  # 8 bits


def test_rule_of_depth_three_and_three_layers_see_one_gradient(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    found = []
    for network, optimizer in ((single(), rule(3)), (deep(), rule(1))):
        monitor = flavour.vd.AlignmentMonitor(interval=1)
        trainer(max_epochs=1, callbacks=[monitor]).fit(
            around(flavour, network, optimizer), datamodule=flavour.vd.TensorDataModule(*data)
        )
        found.append(monitor.series["net"])
    assert found[0]["diagonal"] == pytest.approx(found[1]["diagonal"], rel=1e-12)
