"""A checkpoint written before the package was rearranged loads, and goes on as it did then."""

import pytest
import torch
from tests.lightning.checkpoints.recipe import END, END_EPOCHS, MIDDLE, run
from tests.lightning.conftest import Flavour
from torch.testing import assert_close


def test_goes_on_as_then(flavour: Flavour) -> None:
    trainer, module = run(flavour.pl, flavour.vd, END_EPOCHS, ckpt_path=MIDDLE)
    assert trainer.global_step == END_EPOCHS
    # not bitwise: another processor's arithmetic rounds differently
    assert_close(module.state_dict(), torch.load(END), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_loads_alone(flavour: Flavour) -> None:
    stored = torch.load(MIDDLE, weights_only=True)
    module = flavour.vd.EquivalenceModule.load_from_checkpoint(MIDDLE)
    # options that have come since are at their defaults
    assert dict(module.hparams).items() >= stored["hyper_parameters"].items()
    for name, value in module.state_dict().items():
        assert torch.equal(value, stored["state_dict"][name]), name
