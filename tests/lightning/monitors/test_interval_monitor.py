"""Intervals, and series that go on after a resume as if the run had never stopped."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from tests.lightning.monitors.models import around, deep
from torch import Tensor
from torch.utils.data import DataLoader

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]


def monitors(flavour: Flavour, interval: int) -> list[Any]:
    vd = flavour.vd
    return [
        vd.SpectrumMonitor(interval=interval),
        vd.SpectrumMonitor("deep.layers.*", interval=interval),
        vd.BalancednessMonitor(interval=interval),
        vd.AlignmentMonitor(interval=interval),
        vd.DynamicsMonitor(interval=interval),
        vd.GapMonitor(interval=interval),
        vd.LossDescentMonitor("deep", loss="loss_deep", interval=interval),
    ]


def saving(flavour: Flavour, file: Path, step: int) -> Any:
    class Save(flavour.pl.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(file)

    return Save()


def equal(left: Any, right: Any) -> bool:
    """Equality in which NaN is NaN."""
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    if isinstance(left, list | dict):
        keys = left if isinstance(left, dict) else range(len(left))
        return len(left) == len(right) and all(equal(left[key], right[key]) for key in keys)
    return left == right


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("stop", [4, 6])
def test_resume_continues_every_series(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path, interval: int, stop: int
) -> None:
    """Stopped in the middle of an interval, or at its end."""

    def module() -> Any:
        return flavour.vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()

    def batches() -> Any:
        return flavour.vd.TensorDataModule(*data)

    straight, resumed = monitors(flavour, interval), monitors(flavour, interval)
    file = tmp_path / "stop.ckpt"
    saver = saving(flavour, file, stop)
    trainer(max_epochs=9, callbacks=[*straight, saver]).fit(module(), datamodule=batches())
    torch.load(file, weights_only=True)
    trainer(max_epochs=9, callbacks=resumed).fit(module(), datamodule=batches(), ckpt_path=file)
    for before, after in zip(straight, resumed, strict=True):
        assert before.series
        assert equal(before.series, after.series), type(before).__name__
    assert straight[-1].violations == resumed[-1].violations


def test_next_run_begins_anew(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor = flavour.vd.DynamicsMonitor(interval=2)
    series = []
    for _ in range(2):
        trainer(max_epochs=4, callbacks=[monitor]).fit(
            around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data)
        )
        series.append(monitor.series["net"])
    assert series[0]["step"] == series[1]["step"] == [0, 2, 4]
    assert equal(series[0], series[1])


def test_same_trainer_fits_on(flavour: Flavour, trainer: Make, data: Data) -> None:
    monitor = flavour.vd.SpectrumMonitor(interval=2)
    module, batches = around(flavour, deep()), flavour.vd.TensorDataModule(*data)
    run = trainer(max_epochs=3, callbacks=[monitor])
    run.fit(module, datamodule=batches)
    run.fit_loop.max_epochs = 6
    run.fit(module, datamodule=batches)
    assert monitor.series["net"]["step"] == [0, 2, 3, 4, 6]


def test_steps_are_those_of_the_optimizer(flavour: Flavour, trainer: Make, data: Data) -> None:
    """Three batches a step: none of them is recorded twice."""
    found = flavour.vd.SpectrumMonitor(interval=2), flavour.vd.AlignmentMonitor(interval=2)
    trainer(max_epochs=4, callbacks=list(found), accumulate_grad_batches=3).fit(
        around(flavour, deep()),
        datamodule=flavour.vd.TensorDataModule(*data, batch_size=8),
    )
    assert [monitor.series["net"]["step"] for monitor in found] == [[0, 2, 4], [0, 2]]


def test_validation_and_prediction_are_not_watched(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    monitor = flavour.vd.SpectrumMonitor("not there")
    module = around(flavour, deep())
    module.predict_step = lambda batch, batch_idx: module.net(batch[0])
    trainer(callbacks=[monitor]).predict(module, DataLoader([data], batch_size=None))
    assert monitor.series == {}
