"""Cells over two devices: two processes on the CPU, as Lightning's strategies start them."""

import math
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.lab.ablate.parallel import INPUTS

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.lightning_cell import objective_check
from virtualdepth_lab.ablate.multi_device import run
from virtualdepth_lab.ablate.problems import check_cells
from virtualdepth_lab.ablate.study import StudyConfig

TWO = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 3}


@pytest.fixture(autouse=True)
def _found_by_its_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(Path(__file__).parents[3])
    path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


def study(**more: Any) -> StudyConfig:
    given = {"problem": "tests.lab.ablate.parallel:factory", "objective": "loss", "trainer": TWO}
    return StudyConfig(name="a", **{**given, **more})


@pytest.mark.slow
def test_two_devices_train_as_one_on_all_samples() -> None:
    found = run(study(), {"lr": 0.05}, 0)
    weight, square = 0.0, float(INPUTS.square().mean())
    for _ in range(2):  # the loss logged last is the one before the third step
        weight -= 0.05 * 2 * (weight - 2) * square
    assert found["loss"] == pytest.approx((weight - 2) ** 2 * square, rel=1e-5)
    assert found["devices"] == 2
    assert "LOCAL_RANK" not in os.environ  # or the next cell would take itself for another device


def test_the_callback_reaches_the_processes_of_ddp_spawn() -> None:
    sent = objective_check("pytorch_lightning", "loss", None)
    arrived = pickle.loads(pickle.dumps(sent))
    trainer = SimpleNamespace(callback_metrics={"loss": math.inf}, current_epoch=7)
    with pytest.raises(FloatingPointError, match="loss is inf after epoch 7"):
        arrived.on_train_epoch_end(trainer, None)


@pytest.mark.slow
def test_divergence_is_told() -> None:
    many = study(trainer={**TWO, "devices": 1, "max_epochs": 200})
    with pytest.raises(FloatingPointError, match=r"loss is (inf|nan) after epoch \d+"):
        run(many, {"lr": 10}, 0)


@pytest.mark.slow
def test_an_error_of_the_second_device_is_told_and_the_first_does_not_wait_for_ever() -> None:
    with pytest.raises(RuntimeError, match="on its devices: ValueError: not on this one"):
        run(study(), {"ends": "error"}, 0)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            {"trainer": {"num_nodes": 2}},
            r"trainer\.num_nodes: expected 1, since a cell runs on one",
        ),
        (
            {"trainer": {"accelerator": "hpu9"}},
            "trainer: expected options that a Trainer takes on ",
        ),
        ({"trainer": {"accelerator": "cpu", "devices": "x"}}, "trainer: expected .* got TypeError"),
        ({"trainer": {"max_epochs": -5}}, "trainer: expected .* got MisconfigurationException: `m"),
        ({"trainer": TWO, "pruner": "MedianPruner"}, "pruner: expected none with trainer.devices"),
    ],
)
def test_what_no_trainer_takes_is_told_before_anything_runs(
    more: dict[str, Any], error: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnusableError, match=error):
        check_cells(study(**more), [])
    assert capfd.readouterr() == ("", "")
