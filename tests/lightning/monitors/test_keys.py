"""Under which key a checkpoint keeps the state of a monitor."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from tests.lightning.monitors.models import around, deep
from tests.lightning.monitors.unusual import Data, Make


def test_two_monitors_of_one_class_have_keys_of_their_own(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path
) -> None:
    kinds = flavour.vd

    def monitors() -> list[Any]:
        return [
            *(
                kind(**options)
                for kind in (kinds.SpectrumMonitor, kinds.DynamicsMonitor)
                for options in ({"interval": 1}, {"interval": 2}, {"top_k": 1}, {"figure": False})
            ),
            *(kinds.GapMonitor(interval=interval) for interval in (1, 2)),
            *(kinds.LossDescentMonitor("deep", loss=loss) for loss in ("loss", "loss_deep")),
            *(kinds.AlignmentMonitor(interval=interval) for interval in (1, 2)),
            *(kinds.BalancednessMonitor(interval=interval) for interval in (1, 2)),
        ]

    first, second = monitors(), monitors()
    assert len({monitor.state_key for monitor in first}) == len(first)
    module = kinds.EquivalenceModule(IN_FEATURES, OUT_FEATURES, 3, 0.1).double()
    run = trainer(max_epochs=3, callbacks=first)
    run.fit(module, datamodule=kinds.TensorDataModule(*data))
    run.save_checkpoint(tmp_path / "end.ckpt")
    trainer(max_epochs=3, callbacks=second).fit(
        module, datamodule=kinds.TensorDataModule(*data), ckpt_path=tmp_path / "end.ckpt"
    )
    for before, after in zip(first, second, strict=True):
        assert str(before.series) == str(after.series)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
def test_a_checkpoint_with_keys_of_the_layers_alone_is_read(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path
) -> None:
    monitor = flavour.vd.SpectrumMonitor("net", interval=2)
    run = trainer(max_epochs=2, callbacks=[monitor])
    run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
    run.save_checkpoint(tmp_path / "end.ckpt")
    stored = torch.load(tmp_path / "end.ckpt", weights_only=True)
    stored["callbacks"]["SpectrumMonitor{'layers': 'net'}"] = stored["callbacks"].pop(
        monitor.state_key
    )
    torch.save(stored, tmp_path / "old.ckpt")
    again = flavour.vd.SpectrumMonitor("net", interval=2)
    trainer(max_epochs=4, callbacks=[again]).fit(
        around(flavour, deep()),
        datamodule=flavour.vd.TensorDataModule(*data),
        ckpt_path=tmp_path / "old.ckpt",
    )
    assert again.series["net"]["step"] == [0, 2, 4]


def test_a_callback_shows_the_call_that_makes_it(flavour: Flavour) -> None:
    kinds = flavour.vd
    made = [
        kinds.SpectrumMonitor(["body.*", "head"], interval=5, top_k=3),
        kinds.DynamicsMonitor("deep", figure=False),
        kinds.BalancednessMonitor(),
        kinds.AlignmentMonitor("head", interval=1),
        kinds.GapMonitor(interval=7),
        kinds.LossDescentMonitor("deep", loss="loss_deep"),
        kinds.VirtualDepth(3, include="head*", step_scale="unit", on="gradient"),
    ]
    shown = [repr(each) for each in made]
    assert shown[0] == (
        "SpectrumMonitor(layers=['body.*', 'head'], interval=5, top_k=3, figure=True)"
    )
    assert shown[4] == "GapMonitor(interval=7, figure=True)"
    assert "depth=3.0, include='head*', exclude=None, on='gradient'" in shown[-1]
    again = [eval(text, vars(kinds)) for text in shown]
    assert [repr(each) for each in again] == shown
    assert [each.state_key for each in again] == [each.state_key for each in made]
