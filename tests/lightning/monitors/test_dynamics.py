"""DynamicsMonitor against the theorem summed literally in numpy, and its error in the rate."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import Flavour, Repeated
from tests.lightning.monitors.models import (
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
from torch.optim.lr_scheduler import LambdaLR

import virtualdepth as vd

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
Spectrum = tuple[np.ndarray, np.ndarray, np.ndarray]
DEEP = [f"net.layers.{layer}.weight" for layer in range(3)]
INF = math.inf


def decomposed(weight: Tensor, like: Spectrum | None = None) -> Spectrum:
    """U, sigma, V^T, in the order in which they continue ``like``."""
    u, sigma, vh = np.linalg.svd(weight.numpy(), full_matrices=False)
    if like is not None:
        overlap = abs(like[0].T @ u) * abs(like[2] @ vh.T)
        order = overlap.argmax(axis=1)
        assert sorted(order) == list(range(len(sigma)))  # else the case tests nothing
        u, sigma, vh = u[:, order], sigma[order], vh[order]
    return u, sigma, vh


def velocity(spectrum: Spectrum, grad: Tensor, depth: float, decay: float) -> np.ndarray:
    """-N sigma_r^{2 - 2/N} u_r^T G v_r - N lambda sigma_r; over N at N = inf."""
    u, sigma, vh = spectrum
    layers = 1 if depth == INF else depth
    slopes = np.array([u[:, r] @ grad.numpy() @ vh[r] for r in range(len(sigma))])
    return -layers * (sigma ** (2 - 2 / depth) * slopes + decay * sigma)


def literally(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    records: Sequence[int],
    depth: float,
    rates: Sequence[float],
    decay: float,
) -> tuple[list[np.ndarray], list[np.ndarray], list[float]]:
    """Measured and predicted singular values and relative errors, step by step."""
    begin = decomposed(weights[0])
    sigmas, theories, errors = [begin[1]], [begin[1]], [math.nan]
    for first, last in pairwise(records):
        end = decomposed(weights[last], begin)
        change = np.zeros_like(begin[1])
        for step in range(first, last):
            tau = (step - first) / (last - first)
            early = velocity(begin, grads[step], depth, decay)
            late = velocity(end, grads[step], depth, decay)
            change += rates[step] * ((1 - tau) * early + tau * late)
        measured = end[1] - begin[1]
        errors.append(np.linalg.norm(change - measured) / np.linalg.norm(measured))
        sigmas.append(end[1])
        theories.append(theories[-1] + change)
        begin = end
    return sigmas, theories, errors


CASES: dict[str, tuple[Callable[[], nn.Module], list[str], Any, float, float, float]] = {
    # network, names of its weights, optimizer, depth, learning rate, weight decay
    "three layers": (deep, DEEP, lambda p: SGD(p, lr=0.02), 3, 0.02, 0.0),
    "three layers that decay": (
        deep,
        DEEP,
        lambda p: SGD(p, lr=0.02, weight_decay=0.3),
        3,
        0.02,
        0.3,
    ),
    "one layer, plain": (single, ["net.weight"], lambda p: SGD(p, lr=0.02), 1, 0.02, 0.0),
    "one layer of depth 3": (single, ["net.weight"], rule(3, 0.02), 3, 0.02, 0.0),
    "one layer of depth 2.5 that decays": (
        single,
        ["net.weight"],
        rule(2.5, 0.02, weight_decay=0.3),
        2.5,
        0.02,
        0.3,
    ),
    "one layer of infinite depth": (
        single,
        ["net.weight"],
        rule(INF, 0.04, weight_decay=0.1),
        INF,
        0.04,
        0.1,
    ),
    "one layer given depth, that decays once": (
        single,
        ["net.weight"],
        lambda p: vd.with_depth(
            SGD(p, lr=0.02, weight_decay=0.3), depth=3, step_scale="raw", on="gradient"
        ),
        3,
        0.02,
        0.1,
    ),
    "one layer that ascends": (
        single,
        ["net.weight"],
        rule(3, 0.02, maximize=True),
        3,
        -0.02,
        0.0,
    ),
    "three layers of depth 2 each": (deep, DEEP, rule(2, 0.01), 6, 0.01, 0.0),
    "Sequential": (
        lambda: sequential(5, 3, 3),
        ["net.0.weight", "net.1.weight"],
        lambda p: SGD(p, lr=0.02),
        2,
        0.02,
        0.0,
    ),
}


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize(
    ("network", "names", "optimizer", "depth", "lr", "decay"), CASES.values(), ids=CASES
)
def test_against_the_literal_sum(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    interval: int,
    network: Callable[[], nn.Module],
    names: list[str],
    optimizer: Any,
    depth: float,
    lr: float,
    decay: float,
) -> None:
    monitor, watcher = flavour.vd.DynamicsMonitor(interval=interval), spy(flavour)
    trainer(max_epochs=7, callbacks=[watcher, monitor]).fit(
        around(flavour, network(), optimizer), datamodule=flavour.vd.TensorDataModule(*data)
    )
    weights = [product(step, *names) for step in watcher.weights]
    records = [*range(0, 7, interval), 7]
    grads = [gradient(weight, data) for weight in weights[:-1]]
    sigmas, theories, errors = literally(weights, grads, records, depth, [lr] * 7, decay)
    series = monitor.series["net"]
    assert series["step"] == records
    for record in range(len(records)):
        order = np.argsort(-sigmas[record])
        assert series["names"][record] == [*range(1, len(order) + 1)]
        assert series["sigma"][record] == pytest.approx(sigmas[record][order], rel=1e-10)
        assert series["theory"][record] == pytest.approx(theories[record][order], rel=1e-10)
    # the change itself is a difference, of a thousandth of what it is taken from
    assert series["relative_error"] == pytest.approx(errors, rel=1e-6, nan_ok=True)


def test_rates_and_depths_that_change(flavour: Flavour, trainer: Make, data: Data) -> None:
    """A schedule sets each step's rate; the depth of a group is the one at the interval's end."""
    network = single()
    optimizer = vd.EndToEndSGD(network.parameters(), lr=0.02, depth=3)

    class Scheduled(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def training_step(self, batch: Data, batch_idx: int) -> Tensor:
            return (self.net(batch[0]) - batch[1]).square().sum(-1).mean() / 2

        def configure_optimizers(self) -> dict[str, Any]:
            schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": schedule, "interval": "step"},
            }

    monitor, watcher = flavour.vd.DynamicsMonitor(interval=2), spy(flavour)
    trainer(max_epochs=4, callbacks=[watcher, monitor]).fit(
        Scheduled(), datamodule=flavour.vd.TensorDataModule(*data)
    )
    weights = [step["net.weight"] for step in watcher.weights]
    grads = [gradient(weight, data) for weight in weights[:-1]]
    rates = [0.02 / (1 + step) for step in range(4)]
    sigmas, theories, _ = literally(weights, grads, [0, 2, 4], 3, rates, 0)
    order = np.argsort(-sigmas[-1])
    found = monitor.series["net"]["theory"][-1]
    assert found == pytest.approx(theories[-1][order], rel=1e-10)


@pytest.mark.parametrize("network", [single, deep])
@pytest.mark.parametrize("interval", [1, 4])
def test_error_falls_with_the_learning_rate(
    flavour: Flavour, trainer: Make, data: Data, network: Callable[[], nn.Module], interval: int
) -> None:
    """Half the rate, half the error or less: of first order in a step, of second in the basis."""
    worst = []
    for lr in (0.04, 0.02, 0.01):
        monitor = flavour.vd.DynamicsMonitor(interval=interval)
        optimizer = rule(3, lr) if network is single else rule(1, lr)
        trainer(max_epochs=1, callbacks=[monitor]).fit(
            around(flavour, network(), optimizer), Repeated(data, round(0.8 / lr))
        )
        worst.append(np.nanmedian(monitor.series["net"]["relative_error"]))
    assert worst[0] < 0.2
    for larger, smaller in pairwise(worst):
        assert larger / smaller > 1.8


def test_wrong_depth_shows_as_error(flavour: Flavour, trainer: Make, data: Data) -> None:
    """What the theory is not about, such as momentum, is not explained away."""
    errors = []
    for momentum in (0.0, 0.9):
        monitor = flavour.vd.DynamicsMonitor(interval=1)
        trainer(max_epochs=20, callbacks=[monitor]).fit(
            around(flavour, deep(), lambda p, m=momentum: SGD(p, lr=0.01, momentum=m)),
            datamodule=flavour.vd.TensorDataModule(*data),
        )
        errors.append(monitor.series["net"]["relative_error"][-1])
    assert errors[0] < 0.05
    assert errors[1] > 0.5


def test_what_stands_still_has_no_relative_error(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    monitor = flavour.vd.DynamicsMonitor(interval=1)
    trainer(max_epochs=2, callbacks=[monitor]).fit(
        around(flavour, deep(), lambda p: SGD(p, lr=0.0)),
        datamodule=flavour.vd.TensorDataModule(*data),
    )
    assert all(math.isnan(error) for error in monitor.series["net"]["relative_error"])


def test_clipping_is_refused(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=1, callbacks=[flavour.vd.DynamicsMonitor()], gradient_clip_val=0.5)
    with pytest.raises(ValueError, match=r"gradient_clip_val: expected no clipping but got 0\.5"):
        run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))


def test_biases_inside_a_product_are_refused(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=1, callbacks=[flavour.vd.DynamicsMonitor()])
    module = around(flavour, sequential(5, 4, 3, bias=True))
    with pytest.raises(ValueError, match="expected layers without biases in the product 'net'"):
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    # a single layer's own bias moves no factor
    trainer(max_epochs=1, callbacks=[flavour.vd.DynamicsMonitor()]).fit(
        around(flavour, single(bias=True)), datamodule=flavour.vd.TensorDataModule(*data)
    )


def test_steps_in_float32(flavour: Flavour, trainer: Make, data: Data) -> None:
    float32 = tuple(tensor.float() for tensor in data)
    monitor = flavour.vd.DynamicsMonitor(interval=5)
    trainer(max_epochs=10, callbacks=[monitor]).fit(
        around(flavour, deep().float(), lambda p: SGD(p, lr=0.01)),
        datamodule=flavour.vd.TensorDataModule(*float32),
    )
    assert monitor.series["net"]["relative_error"][-1] < 0.05
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("monitor", ["DynamicsMonitor", "LossDescentMonitor"])
@pytest.mark.parametrize(("option", "value"), [("step_scale", "unit"), ("origin", "init")])
def test_scaled_steps_are_refused(
    flavour: Flavour, trainer: Make, data: Data, monitor: str, option: str, value: str
) -> None:
    run = trainer(max_epochs=1, callbacks=[getattr(flavour.vd, monitor)()])
    with pytest.raises(ValueError, match=rf"^{option}: .* but got {value!r} \(layer 'net'\)"):
        run.fit(
            around(flavour, single(), rule(3, **{option: value})),
            datamodule=flavour.vd.TensorDataModule(*data),
        )
