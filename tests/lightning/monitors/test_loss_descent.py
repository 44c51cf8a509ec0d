"""LossDescentMonitor counts what Lemma 1 of arXiv 1810.02281 rules out, and nothing else."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour, Repeated
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


@pytest.fixture
def near() -> tuple[Data, Tensor]:
    """x = I, so that the loss is half a distance, and a target with a deficiency margin."""
    target = torch.eye(3, dtype=F64)
    start = target + 0.1 * torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    return (torch.eye(3, dtype=F64), target.T), start


def distance(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return (net(inputs) - targets).square().sum() / 2


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("explicit", [True, False])
def test_no_violation_where_the_lemma_holds(
    flavour: Flavour,
    trainer: Make,
    near: tuple[Data, Tensor],
    depth: int,
    explicit: bool,
) -> None:
    data, start = near
    network: nn.Module = vd.DeepLinear.from_weight(start, depth)
    if not explicit:
        network = network.to_linear()
    monitor, watcher = flavour.vd.LossDescentMonitor(), spy(flavour)
    optimizer = rule(1 if explicit else depth, lr=0.01)
    trainer(max_epochs=1, callbacks=[watcher, monitor]).fit(
        around(flavour, network, optimizer, distance), Repeated(data, 60)
    )
    assert monitor.violations == 0
    series = monitor.series["net"]
    assert series["step"] == list(range(59))  # the last step's outcome is not known
    for step in (0, 30, 58):
        names = [f"net.layers.{layer}.weight" for layer in range(depth)]
        weight = product(watcher.weights[step], *(names if explicit else ["net.weight"]))
        grad = weight - data[1].T
        smallest = np.linalg.svd(weight.numpy(), compute_uv=False)[-1]
        bound = 0.005 * smallest ** (2 * (depth - 1) / depth) * grad.square().sum().item()
        assert series["guaranteed"][step] == pytest.approx(bound, rel=1e-10)
        decrease = (watcher.losses[step] - watcher.losses[step + 1]).item()
        assert series["decrease"][step] == pytest.approx(decrease, rel=1e-12)
        assert decrease >= bound


def test_violations_are_counted(
    flavour: Flavour, trainer: Make, near: tuple[Data, Tensor], tmp_path: Path
) -> None:
    """A step too large goes up: every such step counts, and is logged."""
    data, start = near
    monitor = flavour.vd.LossDescentMonitor()
    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    trainer(max_epochs=20, callbacks=[monitor], logger=logger, log_every_n_steps=1).fit(
        around(flavour, nn_linear(start), lambda p: SGD(p, lr=2.5), distance),
        datamodule=flavour.vd.TensorDataModule(*data),
    )
    # W - Phi is multiplied by 1 - 2.5 = -1.5 at each step: the loss rises by the factor 2.25
    assert monitor.violations == 19
    with open(Path(logger.log_dir) / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["descent/net/violations"]) for row in rows] == list(range(1, 20))
    assert [int(row["step"]) for row in rows] == list(range(19))  # the steps that went up


def nn_linear(weight: Tensor) -> nn.Linear:
    return vd.DeepLinear.from_weight(weight, 1).to_linear()


def test_rounding_is_no_violation(flavour: Flavour, trainer: Make, data: Data) -> None:
    """At the minimum of a loss that is not zero, steps change it by its last bit, up or down."""
    monitor = flavour.vd.LossDescentMonitor()
    trainer(max_epochs=1, callbacks=[monitor]).fit(
        around(flavour, single(), lambda p: SGD(p, lr=0.7)), Repeated(data, 150)
    )
    assert min(monitor.series["net"]["decrease"]) < 0
    assert monitor.violations == 0


def test_interval(flavour: Flavour, trainer: Make, data: Data) -> None:
    found = []
    for interval in (1, 4):
        monitor = flavour.vd.LossDescentMonitor(interval=interval)
        trainer(max_epochs=10, callbacks=[monitor]).fit(
            around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data)
        )
        found.append(monitor.series["net"])
    assert found[1] == {key: values[::4] for key, values in found[0].items()}
    assert found[1]["step"] == [0, 4, 8]


@pytest.mark.parametrize("loss", ["loss", "mine"])
def test_accumulated_batches_are_one_loss(
    flavour: Flavour, trainer: Make, data: Data, loss: str
) -> None:
    def module() -> Any:
        made = around(flavour, deep())
        step = made.training_step

        def logging(batch: Data, batch_idx: int) -> Tensor:
            made.log("mine", step(batch, batch_idx).detach())
            return step(batch, batch_idx)

        made.training_step = logging
        return made

    found = []
    for batch_size, accumulate in ((None, 1), (8, 3)):
        monitor = flavour.vd.LossDescentMonitor(loss=loss)
        trainer(max_epochs=5, callbacks=[monitor], accumulate_grad_batches=accumulate).fit(
            module(), datamodule=flavour.vd.TensorDataModule(*data, batch_size=batch_size)
        )
        found.append(monitor.series["net"])
    for key, values in found[0].items():
        assert found[1][key] == pytest.approx(values, rel=1e-9), key
    assert found[0]["step"] == [0, 1, 2, 3]


def test_loss_of_one_of_two_models(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor, watcher = flavour.vd.LossDescentMonitor("deep", loss="loss_deep"), spy(flavour)
    module = flavour.vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()
    trainer(max_epochs=5, callbacks=[watcher, monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    names = [f"deep.layers.{layer}.weight" for layer in range(3)]
    losses = [loss_of(product(weights, *names), data) for weights in watcher.weights]
    decreases = [losses[step] - losses[step + 1] for step in range(4)]
    assert monitor.series["deep"]["decrease"] == pytest.approx(decreases, rel=1e-9)


def loss_of(weight: Tensor, data: Data) -> float:
    return ((data[0] @ weight.T - data[1]).square().sum(-1).mean() / 2).item()


def test_gradient_of_the_bound(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor, watcher = flavour.vd.LossDescentMonitor(), spy(flavour)
    trainer(max_epochs=3, callbacks=[watcher, monitor]).fit(
        around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data)
    )
    for step in range(2):
        weight = product(watcher.weights[step], *DEEP)
        smallest = np.linalg.svd(weight.numpy(), compute_uv=False)[-1]
        bound = 0.025 * smallest ** (4 / 3) * gradient(weight, data).square().sum().item()
        assert monitor.series["net"]["guaranteed"][step] == pytest.approx(bound, rel=1e-10)


def test_one_matrix_without_bias(flavour: Flavour, trainer: Make, data: Data) -> None:
    two = nn.ModuleDict({"a": single(), "b": single()})
    run = trainer(max_epochs=1, callbacks=[flavour.vd.LossDescentMonitor()])
    with pytest.raises(ValueError, match=r"to match one matrix.*\['net.a', 'net.b']"):
        run.fit(around(flavour, two), datamodule=flavour.vd.TensorDataModule(*data))
    for network in (single(bias=True), sequential(5, 3, 3, bias=True)):
        with pytest.raises(ValueError, match="layer: expected 'net' without a bias"):
            run.fit(around(flavour, network), datamodule=flavour.vd.TensorDataModule(*data))


def test_loss_that_is_not_there_is_told(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be logged at the end of epochs only: training is not ended for it."""
    monitor = flavour.vd.LossDescentMonitor(loss="los")
    trainer(max_epochs=2, callbacks=[monitor]).fit(
        around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert monitor.series == {}
    assert caplog.text.count("loss: expected 'loss' or the name of a metric logged at each") == 1
    assert "one of [], but got 'los'; steps without it are not checked" in caplog.text
