"""Train one layer beside the deep network that it stands for, at three learning rates.

Callbacks record the balance of the layers, the descent of the loss, and the gap between the two.

Usage: python monitor_equivalence.py [folder for the figures]
"""

import sys

import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

import virtualdepth as vd

RATES, TIME = (0.1, 0.05, 0.025), 10


def whitened(samples: int = 60) -> tuple[Tensor, Tensor]:
    """Return inputs with covariance I, and noisy outputs of a linear map."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.linalg.qr(torch.randn(samples, 6, generator=generator)).Q * samples**0.5
    weight = torch.randn(6, 4, generator=generator) / 2
    return inputs, inputs @ weight + torch.randn(samples, 4, generator=generator) / 10


def follow(lr: float, folder: str) -> tuple[pl.Trainer, vd.lightning.EquivalenceModule]:
    descent = vd.lightning.LossDescentMonitor("deep", loss="loss_deep")
    trainer = pl.Trainer(
        max_epochs=round(TIME / lr),
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=f"lr_{lr}"),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[
            vd.lightning.BalancednessMonitor(interval=5),
            vd.lightning.GapMonitor(interval=5),
            descent,
        ],
    )
    module = vd.lightning.EquivalenceModule(6, 4, depth=3, lr=lr)
    trainer.fit(module, datamodule=vd.lightning.TensorDataModule(*whitened()))
    steps, gap = trainer.global_step, module.largest_gap.item()
    print(f"rate {lr}: gap {gap:.2g}, {descent.violations} violations in {steps} steps")
    return trainer, module


def main(folder: str) -> None:
    torch.set_num_threads(1)  # more threads are slower for such small matrices
    runs = [follow(lr, folder) for lr in RATES]
    gaps = [module.largest_gap.item() for _, module in runs]
    figure = Figure(figsize=(4.8, 4.4), dpi=120, layout="constrained")
    vd.plotting.plot_gap(figure.subplots(), RATES, gaps)
    last, _ = runs[-1]
    (file,) = vd.lightning.log_figure(last, "gap_against_rate", figure)
    print(f"loss {last.callback_metrics['loss_deep'].item():.2g}, figures beside {file}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/monitor_equivalence")
