"""GapMonitor against numpy on the weights that a run went through."""

from collections.abc import Callable
from functools import reduce
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


def convolved(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Each row of the one around a circle with that of the other, term by term."""
    size = above.shape[1]
    result = np.zeros_like(above)
    for i in range(size):
        for j in range(size):
            result[:, (i + j) % size] += above[:, i] * below[:, j]
    return result


@pytest.mark.parametrize(
    ("structure", "join"),
    [
        ("matrix", np.matmul),
        ("rows", lambda gates, below: gates[:, None] * below),
        ("columns", np.multiply),
        ("diagonal", np.multiply),
        ("circulant", convolved),
    ],
)
def test_gap_of_every_structure(
    flavour: Flavour, trainer: Make, data: Data, structure: str, join: Any
) -> None:
    """With unequal layers, which start from a product of zero."""
    monitor, watcher = flavour.vd.GapMonitor(interval=2), spy(flavour)
    module = flavour.vd.EquivalenceModule(
        IN_FEATURES, OUT_FEATURES, 3, 0.1, structure=structure, imbalance=0.5, init_scale=0
    ).double()
    trainer(max_epochs=6, callbacks=[watcher, monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    series = monitor.series["gap"]
    assert series["step"] == [0, 2, 4, 6]
    for step, gap in list(zip(series["step"], series["gap"], strict=True))[1:]:
        weights = {name: value.numpy() for name, value in watcher.weights[step].items()}
        layers = [weights[f"deep.layers.{number}.weight"] for number in range(3)]
        product = reduce(lambda below, above: join(above, below), layers)
        truth = np.linalg.norm(weights["single.weight"] - product) / np.linalg.norm(product)
        assert gap == pytest.approx(truth, rel=1e-10, abs=1e-14)
    assert series["gap"][0] == 0
    assert 1e-5 < series["gap"][-1] < 0.1
    [drawn] = monitor.figures()["equivalence/gap"].axes[0].get_lines()
    assert list(drawn.get_ydata()) == series["gap"]


def test_gap_is_of_the_equivalence_module(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=1, callbacks=[flavour.vd.GapMonitor()])
    with pytest.raises(TypeError, match="model: expected an EquivalenceModule but got Around"):
        run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
