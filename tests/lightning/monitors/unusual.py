"""Runs of all monitors on models that are not what a monitor expects."""

from collections.abc import Callable
from typing import Any

import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import deep
from torch import Tensor, nn

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]


def all_monitors(flavour: Flavour, layers: str = "*") -> dict[str, Any]:
    """Each monitor that works on any model, recording at every step."""
    kinds = flavour.vd
    return {
        "spectrum": kinds.SpectrumMonitor(layers, interval=1),
        "balance": kinds.BalancednessMonitor(interval=1),
        "alignment": kinds.AlignmentMonitor(layers, interval=1),
        "dynamics": kinds.DynamicsMonitor(layers, interval=1),
        "descent": kinds.LossDescentMonitor("net.used"),
    }


def fit(
    flavour: Flavour, trainer: Make, data: Data, module: Any, monitors: Any, **options: Any
) -> Any:
    """Train for four steps with the monitors, and without: to the same end."""
    start = {name: value.clone() for name, value in module.state_dict().items()}
    options = {"max_epochs": 4, **options}
    batches = {"datamodule": flavour.vd.TensorDataModule(*data)}
    run = trainer(callbacks=list(monitors), **options)
    run.fit(module, **batches)
    end = {name: value.clone() for name, value in module.state_dict().items()}
    assert run.global_step == 4
    if start.keys() == end.keys():
        module.load_state_dict(start)
        trainer(**{**options, "logger": False}).fit(module, **batches)
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, end[name], rtol=0, atol=0, equal_nan=True)
    return run


def two(beside: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"used": deep(), "beside": beside})


def of_used(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
    return (net["used"](inputs) - targets).square().sum(-1).mean() / 2


STEPS = {
    "spectrum": [0, 1, 2, 3, 4],
    "balance": [0, 1, 2, 3, 4],
    "alignment": [0, 1, 2, 3],
    "dynamics": [0, 1, 2, 3, 4],
    "descent": [0, 1, 2],
}
