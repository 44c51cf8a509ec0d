"""GapMonitor against numpy on the weights that a run went through."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from tests.lightning.monitors.models import around, deep, spy
from torch import Tensor

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]


def test_gap(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor, watcher = flavour.vd.GapMonitor(interval=3), spy(flavour)
    module = flavour.vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()
    trainer(max_epochs=7, callbacks=[watcher, monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    series = monitor.series["gap"]
    assert series["step"] == [0, 3, 6, 7]
    for step, gap in zip(series["step"], series["gap"], strict=True):
        weights = {name: value.numpy() for name, value in watcher.weights[step].items()}
        product = weights["deep.layers.2.weight"] @ weights["deep.layers.1.weight"]
        product = product @ weights["deep.layers.0.weight"]
        truth = np.linalg.norm(weights["single.weight"] - product) / np.linalg.norm(product)
        assert gap == pytest.approx(truth, rel=1e-10, abs=1e-14)
    assert max(series["gap"]) <= module.largest_gap.item()
    assert series["gap"][-1] > 1e-4


def test_gap_is_of_the_equivalence_module(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=1, callbacks=[flavour.vd.GapMonitor()])
    with pytest.raises(TypeError, match="model: expected an EquivalenceModule but got Around"):
        run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
