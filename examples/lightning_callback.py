"""Give depth to a LightningModule with a callback. The module itself does not change.

The run without the callback is printed beside: on this task depth is slower, as small singular
values have small gains. The example shows the callback, not a gain.
"""

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import virtualdepth as vd


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.head(self.body(images)), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
data = TensorDataset(images, torch.tensor(digits.target))
for name, callbacks in (
    ("Adam", []),
    ("Adam, depth 2 in the head", [vd.lightning.VirtualDepth(depth=2, include=["head*"])]),
):
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        max_epochs=6,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=callbacks,
    )
    trainer.fit(Classifier(), DataLoader(data, batch_size=100, shuffle=True))
    print(f"{name}: loss {trainer.callback_metrics['loss'].item():.3f}")
print(vd.routing(trainer.optimizers[0]))
