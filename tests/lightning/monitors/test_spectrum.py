"""SpectrumMonitor against numpy on the weights that a run went through."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import Flavour
from tests.lightning.monitors.models import F64, around, deep, product, sequential, spy
from torch import Tensor, nn
from torch.optim import SGD

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
DEEP = [f"net.layers.{layer}.weight" for layer in range(3)]


def run(
    flavour: Flavour, trainer: Make, data: Data, module: Any, steps: int, *monitors: Any
) -> Any:
    watcher = spy(flavour)
    trainer(max_epochs=steps, callbacks=[watcher, *monitors]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    return watcher


@pytest.mark.parametrize(
    ("network", "names", "layers"),
    [
        (deep, DEEP, "net"),
        (lambda: sequential(5, 4, 3), ["net.0.weight", "net.1.weight"], "*"),
        (lambda: sequential(5, 4, 3, bias=True), ["net.0.weight", "net.1.weight"], "*"),
        (deep, DEEP[:1], "net.layers.0"),
    ],
)
def test_records_against_numpy(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    network: Callable[[], nn.Module],
    names: list[str],
    layers: str,
) -> None:
    monitor = flavour.vd.SpectrumMonitor(layers, interval=3)
    seen = run(flavour, trainer, data, around(flavour, network()), 7, monitor).weights
    ((_, series),) = monitor.series.items()
    assert series["step"] == [0, 3, 6, 7]
    for record, step in enumerate(series["step"]):
        sigma = np.linalg.svd(product(seen[step], *names).numpy(), compute_uv=False)
        share = sigma / sigma.sum()
        assert sorted(series["sigma"][record], reverse=True) == pytest.approx(sigma, rel=1e-12)
        assert series["nuclear_norm"][record] == pytest.approx(sigma.sum(), rel=1e-12)
        assert series["effective_rank"][record] == pytest.approx(
            np.exp(-(share * np.log(share)).sum()), rel=1e-12
        )


def test_several_layers_and_top_k(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor = flavour.vd.SpectrumMonitor(["net.layers.0", "net.layers.2"], interval=2, top_k=2)
    seen = run(flavour, trainer, data, around(flavour, deep()), 4, monitor).weights
    assert list(monitor.series) == ["net.layers.0", "net.layers.2"]
    for name, series in monitor.series.items():
        for record, step in enumerate([0, 2, 4]):
            sigma = torch.linalg.svdvals(seen[step][f"{name}.weight"]).tolist()
            assert series["sigma"][record] == pytest.approx(sigma[:2], rel=1e-12)


def crossing(flavour: Flavour, interval: int) -> tuple[Any, Any]:
    """Two singular values that a run exchanges: 2 -> 1 and 1 -> 2, in one fixed basis."""
    u = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=F64)).Q
    v = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=F64)).Q
    layer = nn.Linear(5, 3, bias=False, dtype=F64)
    start, end = torch.tensor([2.0, 1.0, 0.3], dtype=F64), torch.tensor([1.0, 2.0, 0.3], dtype=F64)
    with torch.no_grad():
        layer.weight.copy_(u * start @ v[:, :3].T)

    def loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net.weight - u * end @ v[:, :3].T).square().sum() / 2

    module = around(flavour, layer, lambda params: SGD(params, lr=0.1), loss)
    return module, flavour.vd.SpectrumMonitor(interval=interval)


def test_names_do_not_depend_on_the_interval(flavour: Flavour, trainer: Make, data: Data) -> None:
    found = {}
    for interval in (1, 7):
        module, monitor = crossing(flavour, interval)
        run(flavour, trainer, data, module, 28, monitor)
        found[interval] = monitor.series["net"]
    often, seldom = found[1], found[7]
    assert seldom["step"] == [0, 7, 14, 21, 28]
    for record, step in enumerate(seldom["step"]):
        assert seldom["names"][record] == often["names"][step] == [1, 2, 3]
        # d/dt (s - end) = -(s - end): the two meet at .9^t = 1/2, between steps 6 and 7
        pair = sorted([1 + 0.9**step, 2 - 0.9**step], reverse=True)
        for sigma in (seldom["sigma"][record], often["sigma"][step]):
            assert sigma == pytest.approx([*pair, 0.3], rel=1e-12)


def test_convolution_as_a_matrix(flavour: Flavour, trainer: Make) -> None:
    monitor = flavour.vd.SpectrumMonitor("net.conv", interval=1)
    conv = nn.Conv2d(2, 3, 3, dtype=F64)
    network = nn.ModuleDict({"conv": conv, "frozen": nn.Linear(2, 2, dtype=F64)})
    data = torch.randn(4, 2, 5, 5, dtype=F64), torch.randn(4, 3, 3, 3, dtype=F64)

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        return (net["conv"](inputs) - targets).square().mean()

    module = around(flavour, network, lambda _: SGD(conv.parameters(), lr=0.1), loss)
    trainer(max_epochs=1, callbacks=[monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    expected = torch.linalg.svdvals(conv.weight.detach().reshape(3, 18)).tolist()
    assert monitor.series["net.conv"]["sigma"][-1] == pytest.approx(expected, rel=1e-12)


def test_measuring_leaves_the_run_alone(flavour: Flavour, trainer: Make, data: Data) -> None:
    ends = []
    for monitors in ([], [flavour.vd.SpectrumMonitor(interval=1), flavour.vd.AlignmentMonitor()]):
        module = around(flavour, deep())
        state = torch.random.get_rng_state()
        run(flavour, trainer, data, module, 3, *monitors)
        assert torch.equal(torch.random.get_rng_state(), state)
        ends.append(module.net.end_to_end())
    assert torch.equal(*ends)


@pytest.mark.parametrize(
    "bad",
    [{option: value} for option in ("interval", "top_k") for value in (0, 1.5, True, "5", None)],
)
def test_bad_options(flavour: Flavour, bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: expected an integer >= 1"):
        flavour.vd.SpectrumMonitor(**bad)


def test_unmatched_pattern_ends_the_run_before_it_begins(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    module = around(flavour, deep())
    watcher = spy(flavour)
    run_ = trainer(max_epochs=1, callbacks=[flavour.vd.SpectrumMonitor("head"), watcher])
    with pytest.raises(ValueError, match=r"'head' to match .* matches none of \['net'"):
        run_.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert watcher.weights == []
