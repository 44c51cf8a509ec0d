"""Complete a matrix at depth 3, and record the run with three callbacks.

Usage: python monitor_depth.py [folder for the figures]
"""

import sys

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

import virtualdepth as vd

SIZE, RANK, OBSERVED = 30, 3, 450
STEPS, LR = 1000, 0.02


def problem() -> tuple[Tensor, Tensor]:
    """Return a matrix of rank 3 with singular values 6, 4 and 2, and a mask of the known half."""
    generator = torch.Generator().manual_seed(1)
    left, right = torch.randn(2, SIZE, RANK, generator=generator)
    basis = torch.linalg.qr(left).Q, torch.linalg.qr(right).Q
    truth = basis[0] * torch.tensor([6.0, 4.0, 2.0]) @ basis[1].T
    observed = torch.zeros(SIZE * SIZE, dtype=torch.bool)
    observed[torch.randperm(SIZE * SIZE, generator=generator)[:OBSERVED]] = True
    return truth, observed.reshape(SIZE, SIZE)


class Completion(pl.LightningModule):
    """One 30 x 30 matrix, trained as if it were the product of three."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Linear(SIZE, SIZE, bias=False)
        vd.init.balanced_(self.matrix, 1e-2, generator=torch.Generator().manual_seed(0))
        self.error = vd.metrics.ReconstructionError()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        truth, observed = batch
        weight = self.matrix.weight
        loss = (weight - truth)[observed].square().sum() / 2
        self.log("loss", loss)
        errors = self.error(weight.detach(), truth, observed)
        self.log("error_unobserved", errors["unobserved"])
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return vd.EndToEndSGD(self.parameters(), lr=LR, depth=3)


def main(folder: str) -> None:
    torch.set_num_threads(1)  # more threads are slower for such small matrices
    trainer = pl.Trainer(
        max_epochs=STEPS,
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[
            vd.lightning.SpectrumMonitor("matrix", interval=5, top_k=5),
            vd.lightning.AlignmentMonitor("matrix", interval=5),
            vd.lightning.DynamicsMonitor("matrix", interval=5, top_k=5),
        ],
    )
    trainer.fit(Completion(), DataLoader([problem()], batch_size=None))
    logged = trainer.callback_metrics
    print(f"error on unobserved entries {logged['error_unobserved'].item():.2g}")
    print(f"loss {logged['loss'].item():.2g}, figures in {folder}/figures")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "runs/monitor_depth")
