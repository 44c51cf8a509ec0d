"""What the loggers of Lightning write, read back from their files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from torch import Tensor

METRICS = {"gap", "balancedness", "loss_single", "loss_deep"}


def fit(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor], logger: Any
) -> list[dict[str, Tensor]]:
    """Train for six steps; return the metrics as a callback sees them after each."""
    seen = []

    class Spy(flavour.pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            seen.append({name: trainer.callback_metrics[name].clone() for name in METRICS})

    module = flavour.vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.05).double()
    trainer(max_epochs=6, logger=logger, log_every_n_steps=1, callbacks=[Spy()]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    return seen


def test_csv(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    seen = fit(flavour, trainer, data, logger)
    header, *lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    rows = [
        dict(zip(header.split(","), map(float, line.split(",")), strict=True)) for line in lines
    ]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert [{name: row[name] for name in METRICS} for row in rows] == [
        {name: value.item() for name, value in step.items()} for step in seen
    ]
    saved = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert (saved["depth"], saved["lr"], saved["loss"]) == (3, 0.05, "mse")


def test_tensorboard(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    logger = flavour.submodule("loggers").TensorBoardLogger(tmp_path)
    seen = fit(flavour, trainer, data, logger)
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert set(events.Tags()["scalars"]) >= METRICS
    for name in METRICS:
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [0, 1, 2, 3, 4, 5]
        # event files hold float32
        expected = [step[name].to(torch.float32).item() for step in seen]
        assert [scalar.value for scalar in scalars] == pytest.approx(expected, rel=1e-6)
