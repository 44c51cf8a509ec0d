"""Study a model of your own: a LightningModule, its data, and a factory that makes both.

    virtualdepth ablate own_study.yaml --workers 2

Run this command in this folder. It runs every cell of own_study.yaml, whose problem is
own_study:factory. A study can vary any argument of the factory. This file, run alone, trains one
cell.
"""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import virtualdepth as vd


class Digits(pl.LightningDataModule):
    def __init__(self, samples: int, seed: int) -> None:
        super().__init__()
        images, labels = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
        split = [samples, len(data) - samples]
        self.seed = seed
        self.train, self.val = random_split(data, split, torch.Generator().manual_seed(seed))

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(self.train, batch_size=100, shuffle=True, generator=generator)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=500)


class Classifier(pl.LightningModule):
    def __init__(self, depth: float, width: int, lr: float) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        self.depth, self.lr = depth, lr

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        outputs = self.model(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(outputs, batch[1]))
        self.log("val_accuracy", (outputs.argmax(1) == batch[1]).float().mean())
        self.log("effective_rank", vd.effective_rank(self.model[0].weight))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = vd.param_groups(self, self.depth)
        return vd.EndToEndSGD(groups, lr=self.lr, momentum=0.9, step_scale="unit")


def factory(
    *, depth: float = 2, lr: float = 0.1, width: int = 64, samples: int = 500, seed: int = 0
) -> tuple[Classifier, Digits]:
    """Make module and data of one cell. The global random generators are already seeded."""
    return Classifier(depth, width, lr), Digits(samples, seed)


if __name__ == "__main__":
    torch.manual_seed(0)
    module, data = factory(depth=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=20, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(module, datamodule=data)
    print(f"validation loss {trainer.callback_metrics['val_loss']:.3f}")
