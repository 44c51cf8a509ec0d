"""The monitors on layers of every structure, and of unequal layers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import Flavour, Repeated
from tests.lightning.monitors.models import F64, around, rule, single, spy
from tests.maths.sizes import literal_sizes
from torch import Tensor, nn
from torch.optim import SGD

import virtualdepth as vd

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
STRUCTURES = ["matrix", "rows", "columns", "diagonal", "circulant"]
EACH = pytest.mark.parametrize("structure", STRUCTURES)
FINE = 1e-5


def run(flavour: Flavour, trainer: Make, module: Any, data: Any, steps: int, *monitors: Any) -> Any:
    watcher = spy(flavour)
    trainer(max_epochs=1, callbacks=[watcher, *monitors]).fit(module, Repeated(data, steps))
    return watcher


def ordered(series: Any, column: str) -> np.ndarray:
    """A column with one row for each record, in the order of the names."""
    places = [np.argsort(names) for names in series["names"]]
    return np.array([np.array(row)[p] for row, p in zip(series[column], places, strict=True)])


@EACH
def test_sizes_of_every_structure(
    flavour: Flavour, trainer: Make, data: Data, structure: str
) -> None:
    monitor = flavour.vd.SpectrumMonitor(interval=2, top_k=99)
    module = around(flavour, single(), rule(3, structure=structure, imbalance=0.1))
    weights = run(flavour, trainer, module, data, 4, monitor).weights
    series = monitor.series["net"]
    for record, step in enumerate([0, 2, 4]):
        sizes = literal_sizes(weights[step]["net.weight"], structure)
        found = ordered(series, "sigma")[record]
        expected = np.sort(sizes) if structure == "matrix" else sizes
        found = np.sort(found) if structure == "matrix" else found
        assert found == pytest.approx(expected, rel=1e-12)
        share = sizes / sizes.sum()
        effective = np.exp(-(share * np.log(share)).sum())
        assert series["effective_rank"][record] == pytest.approx(effective, rel=1e-12)
        assert series["nuclear_norm"][record] == pytest.approx(sizes.sum(), rel=1e-12)


@EACH
@pytest.mark.parametrize("imbalance", [0.0, 0.3])
def test_prediction_of_small_steps(
    flavour: Flavour, trainer: Make, data: Data, structure: str, imbalance: float
) -> None:
    """Each step moves the sizes by lr times their velocity, but for the square of lr."""
    monitor = flavour.vd.DynamicsMonitor(interval=1, top_k=99)
    optimizer = rule(2.5, FINE, structure=structure, imbalance=imbalance)
    run(flavour, trainer, around(flavour, single(), optimizer), data, 3, monitor)
    series = monitor.series["net"]
    assert len(series["step"]) == 4
    changes = [np.diff(ordered(series, column), axis=0) for column in ("sigma", "theory")]
    assert changes[1] == pytest.approx(np.array(changes[0]), abs=1e-8)
    assert max(series["relative_error"][1:]) < 100 * FINE
    assert abs(changes[0]).max() > 1e-6


@EACH
def test_prediction_from_zero(flavour: Flavour, trainer: Make, data: Data, structure: str) -> None:
    network = nn.Linear(5, 3, bias=False, dtype=F64)
    nn.init.zeros_(network.weight)
    monitor = flavour.vd.DynamicsMonitor(interval=1)
    optimizer = rule(3, FINE, structure=structure, imbalance=0.4)
    run(flavour, trainer, around(flavour, network, optimizer), data, 2, monitor)
    assert max(monitor.series["net"]["relative_error"][1:]) < 100 * FINE


def test_prediction_of_a_kernel(flavour: Flavour, trainer: Make) -> None:
    """Frequencies of several channels: a block has several singular values."""
    source = torch.Generator().manual_seed(0)
    conv = nn.Conv1d(2, 3, 5, bias=False, dtype=F64)
    nn.init.normal_(conv.weight, std=0.3, generator=source)
    data = [torch.randn(4, c, 9, generator=source, dtype=F64)[..., :k] for c, k in ((2, 9), (3, 5))]
    monitor = flavour.vd.DynamicsMonitor(interval=1, top_k=99)
    spectrum = flavour.vd.SpectrumMonitor(interval=1, top_k=99)
    optimizer = rule(3, FINE, structure="circulant", imbalance=0.2)
    module = around(flavour, conv, optimizer)
    watcher = run(flavour, trainer, module, tuple(data), 3, monitor, spectrum)
    sizes = literal_sizes(watcher.weights[-1]["net.weight"], "circulant")
    found = ordered(spectrum.series["net"], "sigma")[-1]
    assert np.sort(found) == pytest.approx(np.sort(sizes), rel=1e-12)
    assert max(monitor.series["net"]["relative_error"][1:]) < 1000 * FINE


@EACH
def test_explicit_networks(flavour: Flavour, trainer: Make, data: Data, structure: str) -> None:
    """A DeepLinear of a structure and an imbalance, trained by plain gradient descent."""
    weight = single().weight.detach()
    network = vd.DeepLinear.from_weight(weight, 3, structure=structure, imbalance=0.3)
    monitors = [
        flavour.vd.DynamicsMonitor(interval=1),
        flavour.vd.SpectrumMonitor("net", interval=1),
        flavour.vd.LossDescentMonitor("net"),
        flavour.vd.BalancednessMonitor("net", interval=1),
    ]
    module = around(flavour, network, lambda params: SGD(params, lr=FINE))
    run(flavour, trainer, module, data, 3, *monitors)
    assert max(monitors[0].series["net"]["relative_error"][1:]) < 100 * FINE
    assert len(monitors[1].series["net"]["step"]) == 4
    assert monitors[2].violations == 0
    assert ("net" in monitors[3].series) == (structure == "matrix")


@EACH
@pytest.mark.parametrize("imbalance", [0.0, 0.3])
def test_descent(
    flavour: Flavour, trainer: Make, data: Data, structure: str, imbalance: float
) -> None:
    monitor = flavour.vd.LossDescentMonitor()
    module = around(flavour, single(), rule(2, 1e-2, structure=structure, imbalance=imbalance))
    weights = run(flavour, trainer, module, data, 4, monitor).weights
    least = literal_sizes(weights[0]["net.weight"], structure).min()
    # N = 2: sigma^2 = t (t + lambda), and (t + lambda)^(N - 1)
    gain = imbalance / 2 + math.hypot(imbalance / 2, least)
    inputs, targets = data
    grad = (weights[0]["net.weight"] @ inputs.T - targets.T) @ inputs / len(inputs)
    expected = 0.5e-2 * gain * grad.square().sum().item()
    assert monitor.series["net"]["guaranteed"][0] == pytest.approx(expected, rel=1e-10)
    assert monitor.violations == 0


def test_layers_without_a_balance_are_left_out(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    network = vd.DeepLinear.from_weight(single().weight.detach(), 3, structure="rows")
    monitor = flavour.vd.BalancednessMonitor(interval=1)
    run(flavour, trainer, around(flavour, network), data, 3, monitor)
    assert monitor.series == {}
    [told] = [each.getMessage() for each in caplog.records if "virtualdepth" in each.name]
    assert "structure: expected 'matrix' but got 'rows'" in told


@EACH
def test_figures_say_what_the_sizes_are(
    flavour: Flavour, trainer: Make, data: Data, structure: str
) -> None:
    monitors = [flavour.vd.SpectrumMonitor(interval=1), flavour.vd.DynamicsMonitor(interval=1)]
    module = around(flavour, single(), rule(2, FINE, structure=structure))
    run(flavour, trainer, module, data, 2, *monitors)
    label = {"matrix": "singular value", "rows": "norm of a row", "diagonal": "absolute entry"}
    for monitor, name in zip(monitors, ("spectrum", "dynamics"), strict=True):
        again = type(monitor)(interval=1)
        again.load_state_dict(monitor.state_dict())
        for each in (monitor, again):
            shown = each.figures()[f"{name}/net"].axes[0].get_ylabel()
            assert shown == label.get(structure, shown)
            assert (shown == "singular value") == (structure == "matrix")


def test_alignment_names_the_structure(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = around(flavour, single(), rule(2, structure="rows"))
    with pytest.raises(ValueError, match=r"structure: expected 'matrix' but got 'rows' \(layer"):
        run(flavour, trainer, module, data, 1, flavour.vd.AlignmentMonitor())
    monitor = flavour.vd.AlignmentMonitor(interval=1)
    module = around(flavour, single(), rule(2, imbalance=0.3))
    run(flavour, trainer, module, data, 2, monitor)
    assert len(monitor.series["net"]["diagonal"]) == 2


@pytest.mark.parametrize(("option", "value"), [("structure", "rows"), ("imbalance", 0.3)])
def test_products_of_deep_layers_are_refused(
    flavour: Flavour, trainer: Make, data: Data, option: str, value: Any
) -> None:
    network = vd.DeepLinear.from_weight(single().weight.detach(), 2)
    module = around(flavour, network, rule(2, **{option: value}))
    with pytest.raises(ValueError, match=rf"^{option}: .* for the product 'net'.* got {value!r}"):
        run(flavour, trainer, module, data, 1, flavour.vd.DynamicsMonitor())


def test_a_structure_that_changes_during_the_run(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    class Change(flavour.pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                trainer.optimizers[0].param_groups[0]["structure"] = "rows"

    monitors = [flavour.vd.SpectrumMonitor(interval=1), flavour.vd.DynamicsMonitor(interval=1)]
    module = around(flavour, single(), rule(2, FINE))
    weights = run(flavour, trainer, module, data, 4, Change(), *monitors).weights
    norms = literal_sizes(weights[4]["net.weight"], "rows")
    assert np.sort(monitors[0].series["net"]["sigma"][-1]) == pytest.approx(np.sort(norms))
    assert monitors[1].series["net"]["relative_error"][-1] < 100 * FINE


def test_state_survives_a_checkpoint(flavour: Flavour, trainer: Make, data: Data) -> None:
    options = {"structure": "rows", "imbalance": 0.1}
    for kind in (flavour.vd.SpectrumMonitor, flavour.vd.DynamicsMonitor):
        monitor, other = kind(interval=1), kind(interval=1)
        run(flavour, trainer, around(flavour, single(), rule(2, **options)), data, 2, monitor)
        other.load_state_dict(monitor.state_dict())
        assert repr(other.state_dict()) == repr(monitor.state_dict())
