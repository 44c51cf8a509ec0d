"""The check itself: trajectories against numpy, slopes, and what it refuses."""

import csv
import math
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning import equivalence_in_numpy
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour, Repeated
from torch import Tensor

import virtualdepth

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
SIZES = (IN_FEATURES, OUT_FEATURES)


def widths_of(module: Any) -> list[int]:
    return [factor.shape[0] for factor in module.deep.factors[:-1]]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("depth", "options"),
    [
        (2, {}),
        (3, {"loss": "lp", "p": 4}),
        (4, {"hidden_features": [3, 6, 4]}),
        (3, {"optimizer_depth": 2}),
    ],
    ids=str,
)
def test_run_as_written_out(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    depth: int,
    options: dict[str, Any],
) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, depth, 0.05, init_scale=0.8, **options)
    weight, log = equivalence_in_numpy.run(
        module.single.weight.detach().numpy(),
        widths_of(module),
        *(tensor.numpy() for tensor in data),
        lr=0.05,
        steps=20,
        p=options.get("p", 2),
        optimizer_depth=options.get("optimizer_depth", depth),
    )
    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    trainer(max_epochs=20, logger=logger, log_every_n_steps=1).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    np.testing.assert_allclose(module.single.weight.detach().numpy(), weight, rtol=1e-10)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(log)
    for row, step in zip(rows, log, strict=True):
        for name, value in vars(step).items():
            assert float(row[name]) == pytest.approx(value, rel=1e-8, abs=1e-13)
    assert module.largest_gap.item() == pytest.approx(max(step.gap for step in log), rel=1e-8)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("clip", [None, 0.3])
def test_trainer_adds_nothing(
    flavour: Flavour, trainer: Make, data: Data, clip: float | None
) -> None:
    """Lightning's run is, bit for bit, a training loop of four lines."""
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 0.05)
    single, deep = torch.nn.Linear(*SIZES, bias=False), virtualdepth.DeepLinear(*SIZES, 3)
    single.load_state_dict(module.single.state_dict())
    deep.load_state_dict(module.deep.state_dict())
    trainer(max_epochs=15, gradient_clip_val=clip).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    inputs, targets = data
    parameters = [*single.parameters(), *deep.parameters()]
    optimizers = [
        virtualdepth.EndToEndSGD(single.parameters(), lr=0.05, depth=3),
        torch.optim.SGD(deep.parameters(), lr=0.05),
    ]
    for _ in range(15):
        sum(
            (model(inputs) - targets).square().sum(-1).mean() / 2 for model in (single, deep)
        ).backward()
        if clip is not None:
            norm = torch.nn.utils.clip_grad_norm_(parameters, clip)
            assert norm > clip  # else the clipping would show nothing
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    assert torch.equal(module.single.weight, single.weight)
    assert all(map(torch.equal, module.deep.factors, deep.factors))


def slope(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    lr: float,
    clip: float | None = None,
    **options: Any,
) -> float:
    """Of log gap over log learning rate, for lr, lr / 2 and lr / 4 over the time of 25 lr."""
    gaps = []
    for halvings in range(3):
        module = flavour.vd.EquivalenceModule(*SIZES, 3, lr / 2**halvings, **options)
        trainer(max_epochs=1, gradient_clip_val=clip).fit(module, Repeated(data, 25 * 2**halvings))
        gaps.append(module.largest_gap.item())
    return float(np.polyfit([0, -math.log(2), -math.log(4)], np.log(gaps), 1)[0])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("lr", "clip", "options"),
    [(0.1, None, {}), (0.01, None, {"loss": "lp", "p": 4}), (0.1, 0.5, {})],
    ids=["mse", "lp", "mse-clipped"],
)
def test_gap_falls_with_the_learning_rate(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    lr: float,
    clip: float | None,
    options: dict[str, Any],
) -> None:
    assert 0.9 < slope(flavour, trainer, data, lr, clip, **options) < 1.15


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("optimizer_depth", [2, 4])
def test_wrong_depth_is_caught(
    flavour: Flavour, trainer: Make, data: Data, optimizer_depth: float
) -> None:
    assert abs(slope(flavour, trainer, data, 0.1, optimizer_depth=optimizer_depth)) < 0.2


@pytest.mark.usefixtures("float64")
def test_accumulation_is_the_full_batch(flavour: Flavour, trainer: Make, data: Data) -> None:
    modules = [flavour.vd.EquivalenceModule(*SIZES, 3, 0.1) for _ in range(2)]
    full, parts = modules
    trainer(max_epochs=10).fit(full, datamodule=flavour.vd.TensorDataModule(*data))
    run = trainer(max_epochs=10, accumulate_grad_batches=3)
    run.fit(parts, datamodule=flavour.vd.TensorDataModule(*data, batch_size=8))
    assert run.global_step == 10
    for name, value in full.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=0, atol=1e-14)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("scale", [1e-3, 0.3, 2.0])
@pytest.mark.parametrize("hidden", [None, 7, [3, 4]])
def test_start_is_one_balanced_product(
    flavour: Flavour, scale: float, hidden: int | Sequence[int] | None
) -> None:
    module = flavour.vd.EquivalenceModule(
        *SIZES, 3, 0.1, init_scale=scale, hidden_features=hidden, seed=5
    )
    weight = module.single.weight.detach()
    assert (module.deep.end_to_end() - weight).norm() < 1e-14 * weight.norm()
    for before, after in pairwise(module.deep.factors):
        assert (after.T @ after - before @ before.T).norm() < 1e-14 * before.norm() ** 2
    generator = torch.Generator().manual_seed(5)
    draw = torch.empty(weight.shape).normal_(generator=generator)
    torch.testing.assert_close(weight, draw * scale / math.sqrt(IN_FEATURES))


def test_start_is_the_same_on_every_device(flavour: Flavour) -> None:
    with torch.device("meta"):  # as under init_module() of a trainer on a GPU
        elsewhere = flavour.vd.EquivalenceModule(*SIZES, 3, 0.1)
    here = flavour.vd.EquivalenceModule(*SIZES, 3, 0.1)
    for name, value in here.state_dict().items():
        assert torch.equal(elsewhere.state_dict()[name], value), name


def test_float64_from_the_trainer(flavour: Flavour, trainer: Make, data: Data) -> None:
    run = trainer(max_epochs=3, precision="64-true")
    with run.init_module():
        module = flavour.vd.EquivalenceModule(*SIZES, 3, 1e-9)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*(t.float() for t in data)))
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float64}
    assert module.largest_gap < 1e-14  # in float32 the start alone would make 1e-8


def test_float32(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 0.05)
    data_module = flavour.vd.TensorDataModule(*(tensor.float() for tensor in data))
    trainer(max_epochs=20).fit(module, datamodule=data_module)
    assert {tensor.dtype for tensor in module.state_dict().values()} == {torch.float32}
    assert 1e-4 < module.largest_gap < 0.1


def test_metrics_without_a_logger(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 0.05).double()
    run = trainer(max_epochs=2)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert set(run.callback_metrics) == {"gap", "balancedness", "loss_single", "loss_deep"}
    product = module.deep.end_to_end()
    gap = (module.single.weight - product).norm() / product.norm()
    torch.testing.assert_close(run.callback_metrics["gap"], gap.detach(), rtol=1e-12, atol=0)


def test_clipping_by_value_is_refused(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 0.05).double()
    before = module.single.weight.detach().clone()
    run = trainer(max_epochs=2, gradient_clip_val=0.5, gradient_clip_algorithm="value")
    with pytest.raises(ValueError, match="gradient_clip_algorithm: expected 'norm' but got"):
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert torch.equal(module.single.weight, before)


def test_divergence_names_the_layer(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = flavour.vd.EquivalenceModule(*SIZES, 3, 100.0).double()
    named = r"(single|deep\.layers\.0)\.weight: .*lower the learning rate"
    with pytest.raises(FloatingPointError, match=named):
        trainer(max_epochs=50).fit(module, datamodule=flavour.vd.TensorDataModule(*data))


def test_targets_that_would_broadcast(flavour: Flavour) -> None:
    module = flavour.vd.EquivalenceModule(5, 1, 2, 0.1)
    with pytest.raises(ValueError, match=r"targets: expected shape \(4, 1\) but got \(4,\)"):
        module.losses(torch.ones(4, 5), torch.ones(4))


@pytest.mark.parametrize("depth", [1, 0, -2, 2.5, math.inf, math.nan, True, "3"])
def test_depth_without_a_network(flavour: Flavour, depth: float) -> None:
    with pytest.raises(ValueError, match=r"depth: expected an integer >= 2 .* no explicit network"):
        flavour.vd.EquivalenceModule(*SIZES, depth, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "mae"}, "loss: expected one of"),
        ({"loss": "lp", "p": 0.5}, "p: expected a finite number >= 1"),
        ({"optimizer_depth": 0.5}, "optimizer_depth: expected"),
        ({"init_scale": 0}, "init_scale: expected a finite number > 0"),
        ({"hidden_features": 2}, "hidden_features: expected widths >="),
    ],
    ids=str,
)
def test_options_out_of_range(flavour: Flavour, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flavour.vd.EquivalenceModule(*SIZES, 3, 0.1, **options)


@pytest.mark.parametrize("value", [2.5, "4", None])
@pytest.mark.parametrize("name", ["in_features", "seed", "precondition_frequency"])
def test_what_is_no_integer(flavour: Flavour, name: str, value: object) -> None:
    options = {"in_features": 4, "out_features": 3, "depth": 3, "lr": 0.1, name: value}
    with pytest.raises(TypeError, match=f"^{name}: expected an integer but got {value!r}"):
        flavour.vd.EquivalenceModule(**options)


def test_missing_package_is_named(flavour: Flavour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, flavour.ours, raising=False)
    monkeypatch.setitem(sys.modules, flavour.package, None)
    with pytest.raises(ImportError, match=r"pip install 'virtualdepth\[lightning\]'"):
        flavour.vd  # noqa: B018 - the attribute imports it
