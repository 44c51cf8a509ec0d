"""Train a LightningModule whose weights ModelParallelStrategy splits over two processes.

It prints the loss of SGD and of depth 2. Depth is no help on this task; the example shows that
sharded weights move as whole ones would.
"""

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

import virtualdepth as vd


class Classifier(pl.LightningModule):
    def __init__(self, depth: float) -> None:
        super().__init__()
        self.depth = depth
        self.model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))

    def configure_model(self) -> None:
        fully_shard(self.model, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.model(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = vd.param_groups(self, self.depth)
        return vd.EndToEndSGD(groups, lr=0.1, momentum=0.9, step_scale="unit")


def main() -> None:
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    for depth in (1, 2):  # depth 1 is torch.optim.SGD
        pl.seed_everything(0, verbose=False)
        trainer = pl.Trainer(
            max_epochs=4,
            accelerator="cpu",
            devices=2,
            strategy=ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1),
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        # each process gets half of the batches of an epoch
        trainer.fit(Classifier(depth), DataLoader(data, batch_size=50, shuffle=True))
        if trainer.is_global_zero:
            print(vd.routing(trainer.optimizers[0]))
            print(f"depth {depth}: loss {trainer.callback_metrics['loss'].item():.3f}")


if __name__ == "__main__":
    main()
