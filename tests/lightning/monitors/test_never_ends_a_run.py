"""What monitors cannot record they tell and leave out: a run goes on as it would without them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import around, deep, sequential, single
from tests.lightning.monitors.unusual import STEPS, Data, Make, all_monitors, fit, of_used, two
from torch import Tensor, nn
from torch.optim import SGD, Optimizer


def multiplied_by_hand(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
    weight = net["beside"][1].weight @ net["beside"][0].weight
    return of_used(net, inputs, targets) + weight.square().mean()


@pytest.mark.parametrize("beside", [single, deep, lambda: sequential(5, 4, 3)])
@pytest.mark.parametrize("why", ["not used", "frozen", "frozen and not in an optimizer"])
def test_a_layer_without_gradients_is_told(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    caplog: pytest.LogCaptureFixture,
    beside: Any,
    why: str,
) -> None:
    network = two(beside())
    network["beside"].requires_grad_(why == "not used")
    part = network["used"] if why.endswith("optimizer") else network
    module = around(flavour, network, lambda _: SGD(part.parameters(), lr=0.05), of_used)
    monitors = all_monitors(flavour)
    fit(flavour, trainer, data, module, monitors.values())
    for name, monitor in monitors.items():
        assert monitor.series["net.used"]["step"] == STEPS[name], name
    assert set(monitors["alignment"].series) == {"net.used"}
    assert "AlignmentMonitor: no record of 'net.beside': no gradient reached an" in caplog.text


def test_a_product_that_the_model_multiplies_itself_is_told(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    module = around(flavour, two(sequential(5, 4, 3)), loss=multiplied_by_hand)
    monitor = flavour.vd.AlignmentMonitor("net.beside", interval=1)
    fit(flavour, trainer, data, module, [monitor])
    assert monitor.series == {}
    assert "'net.beside': no gradient reached an optimizer step" in caplog.text


def test_a_layer_that_thaws_is_recorded_from_then_on(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    class Thaw(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                module.net["beside"].requires_grad_(True)
                late = {"params": list(module.net["beside"].parameters())}
                trainer.optimizers[0].add_param_group(late)

    def both(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        residual = net["used"](inputs) + net["beside"](inputs) - targets
        return residual.square().sum(-1).mean() / 2

    network = two(deep(seed=1).requires_grad_(False))
    optimizer = lambda _: SGD(network["used"].parameters(), lr=0.02)  # noqa: E731
    monitors = all_monitors(flavour)
    trainer(max_epochs=4, callbacks=[*monitors.values(), Thaw()]).fit(
        around(flavour, network, optimizer, both), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert monitors["alignment"].series["net.beside"]["step"] == [2, 3]
    dynamics = monitors["dynamics"].series["net.beside"]
    assert dynamics["step"] == [3, 4]
    assert dynamics["relative_error"][1] < 0.1


@pytest.mark.parametrize("skip", ["None", "accumulated", "no data"])
@pytest.mark.parametrize("loss", ["loss", "mine"])
@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`:UserWarning")
@pytest.mark.filterwarnings("ignore:train_dataloader yielded None:UserWarning")
def test_a_skipped_batch(flavour: Flavour, trainer: Make, data: Data, skip: str, loss: str) -> None:
    module = around(flavour, single())
    step = module.training_step

    def skipping(batch: Data, batch_idx: int) -> Tensor | None:
        if batch is None or (module.trainer.current_epoch == 1 and batch_idx == 0):
            return None
        found = step(batch, batch_idx)
        module.log("mine", found.detach())
        return found

    module.training_step = skipping
    monitors = all_monitors(flavour, "net")
    monitors["descent"] = flavour.vd.LossDescentMonitor("net", loss=loss)
    del monitors["balance"]
    if skip == "no data":

        class Batches:
            def __iter__(self) -> Iterator[Data | None]:
                yield from (data, None, data, data)

        run = trainer(max_epochs=1, callbacks=list(monitors.values()))
        run.fit(module, Batches())
    else:
        parts = 1 if skip == "None" else 2
        run = trainer(
            max_epochs=4, callbacks=list(monitors.values()), accumulate_grad_batches=parts
        )
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data, batch_size=24 // parts))
    assert monitors["descent"].violations == 0
    assert monitors["alignment"].series["net"]["step"][0] == 0
    assert max(monitors["dynamics"].series["net"]["relative_error"][1:]) < 0.2 or skip == "None"


def test_a_gradient_that_is_not_finite(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    """One batch overflows, and the model throws its gradients away."""
    for network in (single(), deep()):
        module = around(flavour, network, lambda params: SGD(params, lr=0.01))
        step = module.training_step

        def overflowing(batch: Data, batch_idx: int) -> Tensor:
            loss = step(batch, batch_idx)  # noqa: B023 - called within the turn
            return loss * (math.inf if module.global_step == 2 else 1)  # noqa: B023

        def throw_away(optimizer: Optimizer) -> None:
            for p in module.parameters():  # noqa: B023
                if not torch.isfinite(p.grad).all():
                    p.grad = None

        module.training_step = overflowing
        module.on_before_optimizer_step = throw_away
        monitors = all_monitors(flavour, "net")
        monitors["descent"] = flavour.vd.LossDescentMonitor("net")
        monitors.pop("balance")
        run = trainer(max_epochs=6, callbacks=list(monitors.values()))
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
        assert monitors["alignment"].series["net"]["step"] == [0, 1, 3, 4, 5]
        dynamics = monitors["dynamics"].series["net"]
        assert np.isfinite(dynamics["theory"]).all()
        assert [error for error in dynamics["relative_error"] if error > 0.1] == []
        assert monitors["descent"].series["net"]["step"] == [0, 1, 3, 4]
        assert "AlignmentMonitor: no record of net at step 2: gradient: expected fin" in caplog.text
        assert "gradient of 'net' before step 3 is not finite; the prediction tak" in caplog.text
        caplog.clear()


def test_weights_that_are_not_finite(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = two(single())

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        return of_used(net, inputs, targets) + net["beside"](inputs).square().mean()

    class Poison(flavour.pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                nn.init.constant_(module.net["beside"].weight, math.nan)

    def of_beside(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        total = loss(net, inputs, targets)
        return total.nan_to_num() if total.isnan() else total

    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    monitors = all_monitors(flavour)
    run = trainer(
        max_epochs=4, callbacks=[Poison(), *monitors.values()], logger=logger, log_every_n_steps=1
    )
    module = around(flavour, network, loss=of_beside)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert monitors["spectrum"].series["net.used"]["step"] == [0, 1, 2, 3, 4]
    assert monitors["spectrum"].series["net.beside"]["step"] == [0, 1, 2]
    assert "SpectrumMonitor: no record of net.beside at step 3: net.beside: expected" in caplog.text
    pictures = {file.stem for file in tmp_path.rglob("*.png")}
    assert pictures == {"net", "effective_rank"} or len(pictures) > 2
