"""Pruned, reparametrised, lazy, compiled or averaged layers: a run goes on without them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import F64, around, deep, sequential, single
from tests.lightning.monitors.unusual import STEPS, Data, Make, all_monitors, fit
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim import SGD


def pruned(layer: nn.Linear) -> nn.Linear:
    return prune.l1_unstructured(layer, "weight", amount=0.5)


REPARAMETRISED = {
    "pruned": pruned,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("make", REPARAMETRISED.values(), ids=REPARAMETRISED)
@pytest.mark.parametrize("layers", ["*", "net"])
def test_a_reparametrised_layer_is_left_out(
    flavour: Flavour, trainer: Make, data: Data, make: Any, layers: str
) -> None:
    monitors = all_monitors(flavour, layers)
    del monitors["balance"]
    monitors["descent"] = flavour.vd.LossDescentMonitor(layers)
    fit(flavour, trainer, data, around(flavour, make(single())), monitors.values())
    assert not any(monitor.series for monitor in monitors.values())


@pytest.mark.parametrize("network", [single, deep, lambda: sequential(5, 4, 3)])
def test_a_layer_that_is_pruned_during_the_run_is_left_out_from_then_on(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    caplog: pytest.LogCaptureFixture,
    network: Callable[[], nn.Module],
) -> None:
    class Prune(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                pruned(next(part for part in module.net.modules() if isinstance(part, nn.Linear)))

    monitors = all_monitors(flavour, "net")
    if not isinstance(network(), nn.Linear):
        monitors["balance"] = flavour.vd.BalancednessMonitor(interval=1)
    else:
        del monitors["balance"]
    monitors["descent"] = flavour.vd.LossDescentMonitor("net")
    run = trainer(max_epochs=4, callbacks=[Prune(), *monitors.values()])
    run.fit(around(flavour, network()), datamodule=flavour.vd.TensorDataModule(*data))
    for name, monitor in monitors.items():
        last = 1 if name in ("alignment", "descent") else 2
        assert monitor.series["net"]["step"] == STEPS[name][: last + 1], name
    assert "net at step 3: its weight is no longer a parameter" in caplog.text


def test_a_weight_that_is_lazy_or_not_real_is_left_out(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    network = nn.ModuleDict(
        {"used": deep(), "lazy": nn.LazyLinear(3, bias=False, dtype=F64), "whole": single()}
    )
    network["whole"].weight = nn.Parameter(torch.ones(3, 5, dtype=torch.int8), requires_grad=False)

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        residual = net["used"](inputs) + net["lazy"](inputs) - targets
        return residual.square().sum(-1).mean() / 2

    monitors = all_monitors(flavour)
    optimizer = lambda _: SGD([*network["used"].parameters(), *network["lazy"].parameters()], 0.05)  # noqa: E731
    run = trainer(max_epochs=4, callbacks=list(monitors.values()))
    run.fit(
        around(flavour, network, optimizer, loss), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert set(monitors["spectrum"].series) == {"net.used", "net.lazy"}
    assert monitors["spectrum"].series["net.lazy"]["step"] == [1, 2, 3, 4]
    assert monitors["alignment"].series["net.lazy"]["step"] == [0, 1, 2, 3]


# the compiler asks a traced tensor for its .grad
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("what", ["layer", "model", "in place"])
def test_a_compiled_module(
    flavour: Flavour, trainer: Make, data: Data, fullgraph: bool, what: str
) -> None:
    """The compiler breaks its graph at the hooks of a product; where it may not, they are not."""
    torch.compiler.reset()
    options = {"backend": "eager", "fullgraph": fullgraph}
    network = deep()
    module = around(flavour, network)
    if what == "layer":
        module.net = torch.compile(network, **options)
    elif what == "in place":
        network.compile(**options)
    monitors = all_monitors(flavour, "net")
    monitors["descent"] = flavour.vd.LossDescentMonitor("net")
    run = trainer(max_epochs=4, callbacks=list(monitors.values()))
    target = torch.compile(module, **options) if what == "model" else module
    run.fit(target, datamodule=flavour.vd.TensorDataModule(*data))
    without_hooks = {"alignment", "descent"} if fullgraph and what != "in place" else set()
    for name, monitor in monitors.items():
        found = monitor.series["net"]["step"] if monitor.series else []
        assert found == ([] if name in without_hooks else STEPS[name]), name


def test_a_compiled_layer_is_found_by_its_own_name(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    torch.compiler.reset()
    module = around(flavour, nn.Sequential(torch.compile(single(), backend="eager")))
    monitor = flavour.vd.AlignmentMonitor("net.0", interval=1)
    trainer(max_epochs=2, callbacks=[monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert monitor.series["net.0"]["step"] == [0, 1]


def test_averaging_callbacks_copy_a_watched_model(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    averaging = flavour.submodule("callbacks").StochasticWeightAveraging(0.01, swa_epoch_start=2)
    monitors = all_monitors(flavour, "net")
    del monitors["descent"]
    for callbacks in ([*monitors.values(), averaging], [averaging, *monitors.values()]):
        run = trainer(max_epochs=4, callbacks=callbacks)
        run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
        assert monitors["spectrum"].series["net"]["step"] == [0, 1, 2, 3, 4]
