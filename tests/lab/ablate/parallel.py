"""A module that learns w x = 2 x over several devices; a test decides how it ends."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

INPUTS = torch.tensor([[1.0], [2.0], [3.0], [4.0]])


class Module(pl.LightningModule):
    def __init__(self, lr: float, ends: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, 1))
        self.lr, self.ends = lr, ends

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.ends == "error" and self.global_rank == 1:
            raise ValueError("not on this one")
        loss = (batch[0] @ self.weight - batch[1]).square().mean()
        self.log("loss", loss, on_epoch=True, on_step=False, sync_dist=True)
        self.log("devices", float(self.trainer.world_size))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS, 2 * INPUTS), batch_size=2)


def factory(lr: float = 0.05, ends: str = "well", seed: int = 0) -> tuple[Module, Data]:
    return Module(lr, ends), Data()
