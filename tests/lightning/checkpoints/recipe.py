"""A run of the equivalence check whose middle is stored.

`python -m tests.lightning.checkpoints.recipe` writes it beside this. The files were written before
the package was rearranged; later code has to read them and go on.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from tests.maths.matrices import gaussian

MIDDLE = Path(__file__).with_name("equivalence.ckpt")
END = Path(__file__).with_name("equivalence_end.pt")
MIDDLE_EPOCHS, END_EPOCHS = 3, 7


def run(pl: ModuleType, vd: ModuleType, epochs: int, **fit: Any) -> tuple[Any, Any]:
    """Train from the start, or from a checkpoint, up to an epoch."""
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=epochs,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )
    with trainer.init_module():
        module = vd.EquivalenceModule(3, 2, 3, 0.05, init_scale=0.8)
    data = vd.TensorDataModule(gaussian(8, 3), gaussian(8, 2))
    trainer.fit(module, datamodule=data, **fit)
    return trainer, module


if __name__ == "__main__":
    import pytorch_lightning

    import virtualdepth.lightning

    flavour = pytorch_lightning, virtualdepth.lightning
    run(*flavour, MIDDLE_EPOCHS)[0].save_checkpoint(MIDDLE)
    torch.save(run(*flavour, END_EPOCHS)[1].state_dict(), END)
