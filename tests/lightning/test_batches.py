"""Batches from memory, by themselves and as a trainer sees them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.lightning.conftest import SAMPLES, Flavour
from torch import Tensor

from virtualdepth._lightning import ShuffledBatches, TensorBatches


def deal(samples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    batches = ShuffledBatches(samples, batch_size, seed)
    batches.set_epoch(epoch)
    return [rows.tolist() for rows in batches]


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [(1, 1, [1]), (6, 2, [2, 2, 2]), (7, 3, [3, 3, 1]), (5, 9, [5])],
)
def test_every_sample_once(samples: int, batch_size: int, sizes: list[int]) -> None:
    batches = deal(samples, batch_size, seed=3, epoch=5)
    assert [len(rows) for rows in batches] == sizes
    assert len(ShuffledBatches(samples, batch_size)) == len(sizes)
    assert sorted(row for rows in batches for row in rows) == list(range(samples))


def test_seed_and_epoch_both_matter() -> None:
    seen = [str(deal(50, 50, seed, epoch)) for seed in range(6) for epoch in range(6)]
    assert len(set(seen)) == 36  # (0, 1) and (1, 0) differ too


def test_nothing_else_matters() -> None:
    first = deal(50, 8, seed=1, epoch=2)
    torch.manual_seed(0)
    batches = ShuffledBatches(50, 8, seed=1)
    list(batches)  # an epoch before, as in a run that was not resumed
    batches.set_epoch(2)
    state = torch.get_rng_state()
    with torch.device("meta"):  # as under torch.set_default_device
        dealt = [rows.tolist() for rows in batches]
    assert dealt == first
    assert torch.equal(torch.get_rng_state(), state)


def test_rows_stay_together() -> None:
    inputs = torch.arange(10.0).unsqueeze(1)
    batches = TensorBatches((inputs, -inputs), ShuffledBatches(10, 4))
    for x, y in batches:
        assert torch.equal(x, -y)
    assert len(batches) == len(list(batches)) == 3


@pytest.mark.parametrize(
    ("samples", "batch_size", "name"), [(0, 1, "samples"), (5, 0, "batch_size")]
)
def test_refuses_no_batch(samples: int, batch_size: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected an integer >= 1 but got 0"):
        ShuffledBatches(samples, batch_size)


@pytest.mark.parametrize(("x", "y"), [(3, 4), (0, 0)])
def test_refuses_unequal_rows(flavour: Flavour, x: int, y: int) -> None:
    with pytest.raises(ValueError, match="inputs, targets: expected the same number of rows"):
        flavour.vd.TensorDataModule(torch.ones(x, 2), torch.ones(y, 1))


def batches_of_epochs(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor], **options: Any
) -> list[list[Tensor]]:
    """Inputs of each batch, by epoch, as they reach the training step."""
    epochs: list[list[Tensor]] = []

    class Spy(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            epochs.append([])

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            epochs[-1].append(batch[0])

    module = flavour.vd.EquivalenceModule(5, 3, 2, 0.01).double()
    trainer(max_epochs=3, callbacks=[Spy()]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data, **options)
    )
    return epochs


def test_trainer_sees_the_full_batch(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor]
) -> None:
    epochs = batches_of_epochs(flavour, trainer, data)
    assert [len(batches) for batches in epochs] == [1, 1, 1]
    assert all(torch.equal(batches[0], data[0]) for batches in epochs)


def test_no_call_for_workers_on_many_cores(
    flavour: Flavour,
    trainer: Callable[..., Any],
    data: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning's warning, an error here, has nothing to say about tensors in memory."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64))
    dataset = torch.utils.data.TensorDataset(*data)
    loader = torch.utils.data.DataLoader(dataset, batch_size=24)
    module = flavour.vd.EquivalenceModule(5, 3, 2, 0.01).double()
    with pytest.warns(UserWarning, match="does not have many workers"):
        trainer(max_epochs=1).fit(module, loader)
    trainer(max_epochs=1).fit(module, datamodule=flavour.vd.TensorDataModule(*data))


def test_trainer_sets_the_epoch(
    flavour: Flavour, trainer: Callable[..., Any], data: tuple[Tensor, Tensor]
) -> None:
    epochs = batches_of_epochs(flavour, trainer, data, batch_size=10, seed=4)
    for epoch, batches in enumerate(epochs):
        dealt = deal(SAMPLES, 10, seed=4, epoch=epoch)
        assert len(batches) == len(dealt) == 3
        for seen, rows in zip(batches, dealt, strict=True):
            assert torch.equal(seen, data[0][rows])
