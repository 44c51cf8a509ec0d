"""BalancednessMonitor against numpy on the weights that a run went through."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import around, deep, sequential, single, spy
from torch import Tensor, nn

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (deep, [f"net.layers.{layer}.weight" for layer in range(3)]),
        (lambda: sequential(5, 4, 6, 3), [f"net.{layer}.weight" for layer in range(3)]),
    ],
)
def test_balancedness(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    network: Callable[[], nn.Module],
    names: list[str],
) -> None:
    monitor, watcher = flavour.vd.BalancednessMonitor(interval=4), spy(flavour)
    trainer(max_epochs=6, callbacks=[watcher, monitor]).fit(
        around(flavour, network()), datamodule=flavour.vd.TensorDataModule(*data)
    )
    series = monitor.series["net"]
    assert series["step"] == [0, 4, 6]
    for record, step in enumerate(series["step"]):
        layers = [watcher.weights[step][name].numpy() for name in names]
        defects = [np.linalg.norm(b.T @ b - a @ a.T) for a, b in pairwise(layers)]
        norms = [(a**2).sum() + (b**2).sum() for a, b in pairwise(layers)]
        assert series["absolute"][record] == pytest.approx(defects, rel=1e-10, abs=1e-14)
        relative = [defect / norm for defect, norm in zip(defects, norms, strict=True)]
        assert series["relative"][record] == pytest.approx(relative, rel=1e-10, abs=1e-14)
    assert max(series["absolute"][-1]) > 1e-4  # a step of descent does move it


def test_balancedness_needs_a_product(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=1, callbacks=[flavour.vd.BalancednessMonitor()])
    with pytest.raises(ValueError, match=r"a Sequential of Linear layers but .*none of \[]"):
        run.fit(around(flavour, single()), datamodule=flavour.vd.TensorDataModule(*data))
