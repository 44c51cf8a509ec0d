"""Cells that are LightningModules, in both import styles, and the example of one."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lab.ablate.process import table

import virtualdepth as vd
from virtualdepth.cli import main
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.cells import cells_of
from virtualdepth_lab.ablate.problems import check_cells, run_cell
from virtualdepth_lab.ablate.study import StudyConfig

EXAMPLES = Path(__file__).parents[3] / "examples"
OPTIONS = {"accelerator": "cpu", "max_epochs": 4}


def factory_in(style: str) -> Callable[..., Any]:
    """A factory of a module that learns w * x = 2 x, in one of Lightning's import styles."""
    package = importlib.import_module(style)
    ours = {"pytorch_lightning": vd.lightning, "lightning.pytorch": vd.lightning_unified}[style]

    class Module(package.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, depth: float, lr: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(1, 1))
            self.depth, self.lr = depth, lr

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
            loss = (batch[0] @ self.weight - batch[1]).square().mean()
            self.log("loss", loss, on_epoch=True, on_step=False)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return vd.EndToEndSGD([self.weight], lr=self.lr, depth=self.depth)

    def factory(depth: float = 1, lr: float = 0.1, seed: int = 0) -> tuple[Any, Any]:
        x = torch.ones(4, 1)
        return Module(depth, lr), ours.TensorDataModule(x, 2 * x)

    return factory


@pytest.fixture(params=["pytorch_lightning", "lightning.pytorch"])
def problem(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("tests.lab.ablate.own.made", factory_in(request.param), raising=False)
    return "tests.lab.ablate.own:made"


def study(problem: str, **more: Any) -> StudyConfig:
    given = {"name": "a", "objective": "loss", "trainer": OPTIONS, "settings": {}, **more}
    return StudyConfig(problem=problem, **given)


def test_a_module_is_fitted_and_what_it_logged_is_the_result(problem: str) -> None:
    found = run_cell(study(problem), {"lr": 0.25}, seed=3)
    torch.manual_seed(3)
    weight = torch.rand(1, 1).item()
    for _ in range(3):  # the loss logged last is the one before the fourth step
        weight -= 0.25 * 2 * (weight - 2)
    assert found["loss"] == pytest.approx((weight - 2) ** 2, rel=1e-4)
    assert run_cell(study(problem), {"lr": 0.25}, seed=3) == found
    assert run_cell(study(problem), {"lr": 0.25}, seed=4) != found


def test_the_budget_limits_the_steps(problem: str) -> None:
    one = run_cell(study(problem, budget={"steps": 1}), {}, seed=3)
    four = run_cell(study(problem), {}, seed=3)
    assert four["loss"] < one["loss"]


def test_reports_after_each_epoch(problem: str) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    found = run_cell(study(problem), {}, 0, lambda step, metrics: told.append((step, metrics)))
    assert [step for step, _ in told] == [0, 1, 2, 3]
    assert told[-1][1]["loss"] == found["loss"]


def test_divergence_is_told_with_the_epoch(problem: str) -> None:
    many = study(problem, trainer={**OPTIONS, "max_epochs": 400})
    with pytest.raises(FloatingPointError, match=r"loss is (inf|nan) after epoch \d+"):
        run_cell(many, {"lr": 1e3}, 0)


def test_an_unknown_option_of_the_trainer_is_told(problem: str) -> None:
    with pytest.raises(UnusableError, match=r"trainer\.epochs: expected arguments of Trainer"):
        run_cell(study(problem, trainer={"epochs": 3}), {}, 0)
    # and before anything runs, since the factory's module has loaded Lightning
    with pytest.raises(UnusableError, match=r"trainer\.epochs: .* but got 'epochs'"):
        check_cells(study(problem, trainer={"epochs": 3}), [])
    check_cells(study(problem), [])


def test_anything_else_is_refused() -> None:
    with pytest.raises(UnusableError, match="expected a LightningModule and a LightningDataModule"):
        run_cell(study("tests.lab.ablate.own:nothing"), {}, 0)
    assert len(cells_of(study("tests.lab.ablate.own:nothing"))) == 1


@pytest.mark.slow
def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), os.getenv("PYTHONPATH", "")]))
    words = ["own_study.yaml", "--grid.depth", "1,2", "--grid.samples", "500", "--seeds", "0"]
    words += ["--trainer.max_epochs", "2", "--output", str(tmp_path / "run")]
    assert main(["ablate", *words]) == 0
    rows = table(tmp_path / "run")
    assert [(row["depth"], row["samples"], row["status"]) for row in rows] == [
        (1, 500, "complete"), (2, 500, "complete")
    ]  # fmt: skip
    assert all(0.1 < row["val_accuracy"] < 1 for row in rows)
