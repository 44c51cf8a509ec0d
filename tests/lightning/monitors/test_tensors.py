"""DynamicsMonitor on tensors, against the law summed literally, and what it leaves out."""

from collections.abc import Callable
from itertools import product as pairs
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import Flavour, Repeated
from tests.lightning.monitors.models import around, rule, spy
from tests.maths.matrices import gaussian
from torch import Tensor, nn
from torch.optim import SGD

import virtualdepth as vd
from virtualdepth._lightning.monitors._predicted_components import PredictedComponents

Make = Callable[..., Any]
F64 = torch.float64
INDICES = torch.tensor(list(pairs(range(3), repeat=4)))
BATCH = (INDICES, gaussian(len(INDICES)))


def tensor_of(kind: str) -> nn.Module:
    model: Any
    if kind == "cp":
        model = vd.CPTensor((3,) * 4, 5, dtype=F64)
    else:
        model = vd.HierarchicalTensor((3,) * 4, 4, dtype=F64)
    return vd.init.near_zero_(model, 0.6, generator=torch.Generator().manual_seed(1))


def loss(net: nn.Module, indices: Tensor, values: Tensor) -> Tensor:
    return (net(indices) - values).square().mean() / 2


def fit(flavour: Flavour, trainer: Make, model: nn.Module, steps: int, *callbacks: Any, **options):
    options.setdefault("optimizer", lambda params: SGD(params, lr=0.1))
    module = around(flavour, model, loss=loss, **options)
    data = Repeated(BATCH, steps)
    trainer(max_epochs=1, callbacks=list(callbacks)).fit(module, data)


def literally(kind: str, weights: list[dict[str, Tensor]], grads: list[dict[str, Tensor]], depth):
    """The law of the last node's norms: those of the vectors' logarithms, step by step."""

    def vectors(values: dict[str, Tensor]) -> list[np.ndarray]:
        factors = [values[f"net.factors.{place}"].numpy() for place in range(len(values))]
        return factors if kind == "cp" else [factors[-3], factors[-2], factors[-1].T]

    def norms(values: dict[str, Tensor]) -> np.ndarray:
        return np.array([np.sqrt((v**2).sum(1)) for v in vectors(values)])

    theory = [norms(weights[0]).prod(0)]
    for values, slopes in zip(weights, grads, strict=False):
        lengths = norms(values)
        sigma, rate = lengths.prod(0), 0.0
        for place, (v, g) in enumerate(zip(vectors(values), vectors(slopes), strict=True)):
            own = lengths[place]
            # d log ||w|| / dt by the rule of L gates on each row
            gain = depth * own ** (2 - 2 / depth)
            rate = rate - gain * (v * g).sum(1) / own**2
        theory.append(theory[-1] + 0.1 * sigma * rate)
    return np.array(theory)


@pytest.mark.parametrize(("kind", "depth"), [("cp", 1), ("cp", 2), ("tree", 1)])
def test_the_law_summed_literally(flavour: Flavour, trainer: Make, kind: str, depth: int) -> None:
    monitor = flavour.vd.DynamicsMonitor("net*", interval=1, top_k=5)
    seen = spy(flavour)
    optimizer = rule(depth, lr=0.1, structure="rows") if depth > 1 else None
    options = {"optimizer": optimizer} if optimizer else {}
    fit(flavour, trainer, tensor_of(kind), 12, monitor, seen, **options)
    names = {"net"} if kind == "cp" else {"net.0-1", "net.2-3", "net.0-1-2-3"}
    assert set(monitor.series) == names
    top = max(names, key=len)
    series = monitor.series[top]
    expected = literally(kind, seen.weights, seen.grads, depth)
    for row, at, theory in zip(expected, series["names"], series["theory"], strict=True):
        assert theory == pytest.approx(row[np.array(at) - 1], rel=1e-10)
    assert series["step"] == list(range(13))
    assert 0 < max(series["relative_error"][1:]) < 0.2
    [figure] = [each for name, each in monitor.figures().items() if name == f"dynamics/{top}"]
    assert figure.axes[0].get_ylabel() == "norm of a component"


@pytest.mark.parametrize("interval", [1, 5])
def test_the_error_falls_with_the_rate(flavour: Flavour, trainer: Make, interval: int) -> None:
    errors = []
    for lr, steps in ((0.1, 20), (0.05, 40)):
        monitor = flavour.vd.DynamicsMonitor(interval=interval)
        model = tensor_of("cp")
        fit(flavour, trainer, model, steps, monitor, optimizer=lambda p, lr=lr: SGD(p, lr=lr))
        series = monitor.series["net"]
        places = np.argsort(series["names"][-1])
        gap = np.array(series["theory"][-1]) - np.array(series["sigma"][-1])
        errors.append(np.abs(gap[places]).max())
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.1)


def test_a_checkpoint_continues() -> None:
    one, norms, slopes = PredictedComponents(), gaussian(3, 4).abs(), gaussian(4, seed=1)
    one.compare(norms, 2.0)
    one.add_step(slopes, 0.1, 0.0)
    other = PredictedComponents()
    other.load_state_dict(one.state_dict())
    other.to(torch.device("cpu"))
    assert torch.equal(one.compare(norms * 1.1, 2.0).theory, other.compare(norms * 1.1, 2.0).theory)


@pytest.mark.parametrize(
    ("kind", "optimizer", "error"),
    [
        ("cp", rule(2), "net: expected structure 'rows' for the factors of the tensor but got"),
        ("tree", rule(2, structure="rows"), r"net.0-1: expected depth 1 for the factors"),
        ("cp", rule(2, structure="rows", step_scale="unit"), "step_scale: expected 'raw'"),
    ],
)
def test_other_steps_are_refused(
    flavour: Flavour, trainer: Make, kind: str, optimizer: Any, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        fit(
            flavour, trainer, tensor_of(kind), 1, flavour.vd.DynamicsMonitor("net*"),
            optimizer=optimizer,
        )  # fmt: skip


def test_the_other_monitors_know_no_tensors(flavour: Flavour, trainer: Make) -> None:
    for kind in ("SpectrumMonitor", "AlignmentMonitor"):
        monitor = getattr(flavour.vd, kind)("net")
        with pytest.raises(ValueError, match="layers: expected 'net' to match the name of a layer"):
            fit(flavour, trainer, tensor_of("cp"), 2, monitor)
