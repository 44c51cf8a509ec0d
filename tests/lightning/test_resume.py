"""Whatever keeps state goes on to the last bit through Lightning's own checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.contract.tools import assert_bitwise, everything, loss_of
from tests.lightning.conftest import Flavour
from tests.optim.test_resume import MAKE, Make, network
from torch import Tensor
from torch.utils.data import DataLoader

# each takes a second; all of them take longer than what else is known of resuming
pytestmark = [pytest.mark.usefixtures("float64"), pytest.mark.slow]

KEEP_STATE = {name: make for name, make in MAKE.items() if not name.startswith("no state")}
BATCHES = 3  # of an epoch


def module_of(flavour: Flavour, make: Make, seed: int = 0) -> Any:
    class Module(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network(seed)

        def training_step(self, batch: Tensor, index: int) -> Tensor:
            return loss_of(self.network, self.global_step)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make(self.network)

        def train_dataloader(self) -> DataLoader[int]:
            return DataLoader(range(BATCHES))  # type: ignore[arg-type]

    return Module()


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.parametrize("make", KEEP_STATE.values(), ids=KEEP_STATE)
def test_it_goes_on_to_the_last_bit(
    flavour: Flavour, trainer: Callable[..., Any], make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "half.ckpt"
    straight, first, second = (module_of(flavour, make, seed) for seed in (0, 0, 7))
    whole = trainer(max_epochs=2)
    whole.fit(straight)
    half = trainer(max_epochs=1)
    half.fit(first)
    half.save_checkpoint(file)
    again = trainer(max_epochs=2)
    again.fit(second, ckpt_path=file)
    assert again.global_step == 2 * BATCHES
    expected = everything(straight.network, whole.optimizers[0])
    assert_bitwise(everything(second.network, again.optimizers[0]), expected)
