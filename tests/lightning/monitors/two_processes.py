"""A script that trains under ddp, as a launcher starts it; `test_ddp.py` runs it twice."""

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from virtualdepth import DeepLinear

STEPS = 4


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(8, 5, dtype=torch.float64, generator=generator)
    return inputs, torch.randn(8, 3, dtype=torch.float64, generator=generator)


def monitors(vd: Any) -> list[Any]:
    return [
        vd.SpectrumMonitor(interval=2),
        vd.BalancednessMonitor(interval=2, figure=False),
        vd.AlignmentMonitor(interval=2, figure=False),
        vd.DynamicsMonitor(interval=2, figure=False),
        vd.GapMonitor(interval=2),
        vd.LossDescentMonitor("deep", loss="loss_deep"),
    ]


def trainer_of(pl: Any, **options: Any) -> Any:
    return pl.Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        **options,
    )


def fit(package: str, ours: str, folder: Path, devices: int) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    pl, vd = importlib.import_module(package), importlib.import_module(ours)
    logger = importlib.import_module(f"{package}.loggers").CSVLogger(folder, name="", version="")
    found = monitors(vd)
    trainer = trainer_of(
        pl,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        max_epochs=STEPS,
        callbacks=found,
        logger=logger,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    module = vd.EquivalenceModule(5, 3, 3, 0.1).double()
    # the distributed sampler deals samples 0, 2, ... and 1, 3, ...: each process sees half of them
    loader = DataLoader(TensorDataset(*problem()), batch_size=8 // devices)
    trainer.fit(module, loader)
    state = {
        "rank": trainer.global_rank,
        "series": [monitor.series for monitor in found],
        "violations": found[-1].violations,
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(state))


def fit_unevenly(package: str, ours: str, folder: Path) -> None:
    """Train a product that the second process never uses."""
    pl, vd = importlib.import_module(package), importlib.import_module(ours)

    class Uneven(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.always = torch.nn.Linear(5, 3, dtype=torch.float64)
            self.first = DeepLinear.from_weight(torch.eye(3, 5, dtype=torch.float64), 2)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            found = self.always(batch[0])
            if self.global_rank == 0:
                found = found + self.first(batch[0])
            return (found - batch[1]).square().sum(-1).mean() / 2

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    monitor = vd.AlignmentMonitor("first", interval=1)
    trainer = trainer_of(
        pl,
        devices=2,
        strategy="ddp_find_unused_parameters_true",
        max_epochs=2,
        callbacks=[monitor],
        logger=False,
    )
    trainer.fit(Uneven(), DataLoader(TensorDataset(*problem()), batch_size=4))
    if trainer.is_global_zero:
        (folder / "uneven.json").write_text(json.dumps(monitor.series["first"]["step"]))


def fail_on_one(package: str, ours: str, folder: Path) -> None:
    """Let the second process alone meet an error in a hook, and return no loss in one step."""
    pl, vd = importlib.import_module(package), importlib.import_module(ours)

    class Manual(pl.LightningModule):
        automatic_optimization = False

        def __init__(self) -> None:
            super().__init__()
            self.deep = DeepLinear.from_weight(torch.eye(3, 5, dtype=torch.float64), 2)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = (self.deep(batch[0]) - batch[1]).square().sum(-1).mean() / 2
            self.manual_backward(loss)
            optimizer.step()
            skips = self.global_rank == 1 and self.current_epoch == 3
            return None if skips else {"loss": loss}

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    class Spoil(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
            if trainer.global_rank == 1 and trainer.global_step == 1:
                for collector in dynamics._collectors:
                    collector._error = ValueError("spoiled")

    dynamics, descent = vd.DynamicsMonitor("deep", interval=1), vd.LossDescentMonitor("deep")
    trainer = trainer_of(
        pl,
        devices=2,
        strategy="ddp",
        max_epochs=7,
        callbacks=[Spoil(), dynamics, descent],
        logger=False,
    )
    trainer.fit(Manual(), DataLoader(TensorDataset(*problem()), batch_size=4))
    if trainer.is_global_zero:
        errors = dynamics.series["deep"]["relative_error"]
        found = {"descent": descent.series["deep"]["step"], "errors": errors}
        (folder / "fail_on_one.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for package, ours in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
        fit(package, ours, Path(sys.argv[1]) / package, 2)
    fit_unevenly(sys.argv[2], sys.argv[3], Path(sys.argv[1]))
    fail_on_one(sys.argv[2], sys.argv[3], Path(sys.argv[1]))
