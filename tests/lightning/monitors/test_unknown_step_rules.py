"""Steps that the theory does not describe are told by the option that makes them so."""

import math
from typing import Any

import numpy as np
import pytest
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import around, rule, single
from tests.lightning.monitors.unusual import Data, Make
from torch import Tensor, nn
from torch.optim import SGD

import virtualdepth as vd


@pytest.mark.parametrize("monitor", ["DynamicsMonitor", "LossDescentMonitor"])
@pytest.mark.parametrize(
    ("by", "step_scale"),
    [
        *(("EndToEndSGD", name) for name in ("unit", "rms", "auto")),
        *(("VirtualDepth", name) for name in ("unit", "rms")),
    ],
)
def test_a_step_scale_that_theory_does_not_know_is_named(
    flavour: Flavour, trainer: Make, data: Data, monitor: str, step_scale: str, by: str
) -> None:
    callbacks = [getattr(flavour.vd, monitor)()]
    if by == "VirtualDepth":
        callbacks.append(flavour.vd.VirtualDepth(3, step_scale=step_scale, on="gradient"))
        optimizer = lambda params: SGD(params, lr=0.01)  # noqa: E731
    else:
        optimizer = rule(3, step_scale=step_scale)
    run = trainer(max_epochs=1, callbacks=callbacks)
    with pytest.raises(ValueError, match=rf"^step_scale: expected 'raw' but got '{step_scale}'"):
        run.fit(around(flavour, single(), optimizer), datamodule=flavour.vd.TensorDataModule(*data))


def test_layers_that_theory_knows_are_kept_beside_others(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    network = nn.ModuleDict({"used": single(), "scaled": single(), "late": single()})

    def optimizer(_: Any) -> vd.EndToEndSGD:
        groups = [{"params": [layer.weight]} for layer in network.values()]
        groups[1]["step_scale"] = "unit"
        return vd.EndToEndSGD(groups, lr=0.01, depth=3)

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        return sum((layer(inputs) - targets).square().sum(-1).mean() / 2 for layer in net.values())

    class Change(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                trainer.optimizers[0].param_groups[2]["step_scale"] = "unit"

    monitor = flavour.vd.DynamicsMonitor(interval=1)
    trainer(max_epochs=4, callbacks=[monitor, Change()]).fit(
        around(flavour, network, optimizer, loss), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert {name: each["step"] for name, each in monitor.series.items()} == {
        "net.used": [0, 1, 2, 3, 4],
        "net.late": [0, 1, 2],
    }
    assert "one layer is left out: step_scale: expected 'raw' but got 'unit'" in caplog.text
    assert "no record of net.late at step 2: step_scale: expected 'raw'" in caplog.text


def test_an_interval_with_a_step_that_theory_does_not_know_has_no_prediction(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    class Change(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            group = trainer.optimizers[0].param_groups[0]
            group["step_scale"] = "unit" if trainer.current_epoch == 2 else "raw"

    monitor = flavour.vd.DynamicsMonitor(interval=2)
    trainer(max_epochs=6, callbacks=[monitor, Change()]).fit(
        around(flavour, single(), rule(3, lr=0.001)), datamodule=flavour.vd.TensorDataModule(*data)
    )
    (series,) = monitor.series.values()
    assert series["step"] == [0, 2, 4, 6]
    first, before, unknown, after = series["relative_error"]
    assert math.isnan(first)
    assert math.isnan(unknown)
    assert 0 < before < 0.1
    assert 0 < after < 0.1
    measured, theory = (np.array(series[key]) for key in ("sigma", "theory"))
    assert theory[2] - theory[1] == pytest.approx(measured[2] - measured[1], rel=1e-12, abs=1e-15)
