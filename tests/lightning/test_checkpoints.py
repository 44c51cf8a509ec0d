"""A run resumed at the end of an epoch goes on as if it had never stopped."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from torch import Tensor

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]

pytestmark = pytest.mark.usefixtures("float64")

RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "full batch": ({}, {}),
    "mini-batches": ({"batch_size": 7, "seed": 3}, {}),
    "norm clipping": ({"batch_size": 7}, {"gradient_clip_val": 0.3}),
    "accumulation": ({"batch_size": 6}, {"accumulate_grad_batches": 2}),
}


def module_of(flavour: Flavour, lr: float = 0.05, **options: Any) -> Any:
    return flavour.vd.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, lr, **options)


def save_each_epoch(flavour: Flavour, path: Path) -> Any:
    """ModelCheckpoint at its default moment, but without its warnings on resuming in one folder."""

    class Save(flavour.pl.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.save_checkpoint(path / f"{trainer.current_epoch}.ckpt")

    return Save()


@pytest.mark.parametrize(("batching", "training"), RUNS.values(), ids=RUNS)
def test_resumes_bitwise(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    batching: dict[str, Any],
    training: dict[str, Any],
) -> None:
    straight = module_of(flavour)
    run = trainer(
        max_epochs=8,
        callbacks=[save_each_epoch(flavour, tmp_path)],
        **training,
    )
    run.fit(straight, datamodule=flavour.vd.TensorDataModule(*data, **batching))

    resumed = module_of(flavour, seed=1)  # what a checkpoint does not restore would show
    torch.rand(3)  # neither does the global generator matter
    again = trainer(max_epochs=8, **training)
    again.fit(
        resumed,
        datamodule=flavour.vd.TensorDataModule(*data, **batching),
        ckpt_path=tmp_path / "2.ckpt",
    )
    assert again.global_step == run.global_step
    end = straight.state_dict()
    assert not torch.equal(module_of(flavour).state_dict()["single.weight"], end["single.weight"])
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, end[name]), name


def test_checkpoint_is_plain(flavour: Flavour, trainer: Make, data: Data, tmp_path: Path) -> None:
    module = module_of(flavour, optimizer_depth=2.5, hidden_features=[4, 3], loss="lp", p=4)
    run = trainer(max_epochs=2)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    run.save_checkpoint(tmp_path / "end.ckpt")
    torch.load(tmp_path / "end.ckpt", weights_only=True)
    loaded = flavour.vd.EquivalenceModule.load_from_checkpoint(tmp_path / "end.ckpt")
    assert dict(loaded.hparams) == {
        "in_features": 5,
        "out_features": 3,
        "depth": 3,
        "lr": 0.05,
        "optimizer_depth": 2.5,
        "loss": "lp",
        "p": 4.0,
        "init_scale": 0.3,
        "hidden_features": [4, 3],
        "seed": 0,
        "structure": "matrix",
        "imbalance": 0.0,
        "optimizer_structure": None,
        "optimizer_imbalance": None,
        "precondition_frequency": 1,
    }
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, module.state_dict()[name]), name


def test_hyperparameters_become_plain(flavour: Flavour) -> None:
    """Numbers as they come from numpy or pandas must not end up in a checkpoint."""
    module = flavour.vd.EquivalenceModule(
        np.int64(5),
        np.int32(3),
        np.int64(3),
        np.float64(0.05),
        optimizer_depth=np.float32(2),
        p=np.float64(2),
        init_scale=np.float32(0.5),
        hidden_features=(np.int64(4), np.int64(3)),
        seed=np.int64(1),
        imbalance=np.float64(0),
        optimizer_imbalance=np.float32(0),
        precondition_frequency=np.int64(2),
    )
    plain = {int, float, str, list, type(None)}
    assert {type(value) for value in module.hparams.values()} <= plain
    assert {type(width) for width in module.hparams["hidden_features"]} == {int}


def test_largest_gap_survives(flavour: Flavour, trainer: Make, data: Data, tmp_path: Path) -> None:
    module = module_of(flavour, lr=0.2)
    run = trainer(
        max_epochs=60,
        callbacks=[save_each_epoch(flavour, tmp_path)],
    )
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert run.callback_metrics["gap"] < module.largest_gap / 2  # the largest was long before
    resumed = module_of(flavour, lr=0.2)
    trainer(max_epochs=60).fit(
        resumed,
        datamodule=flavour.vd.TensorDataModule(*data),
        ckpt_path=tmp_path / "58.ckpt",
    )
    assert torch.equal(resumed.largest_gap, module.largest_gap)
