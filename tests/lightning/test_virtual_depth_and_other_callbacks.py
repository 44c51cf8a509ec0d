"""VirtualDepth beside tuners and fine-tuning, and on modules that keep their optimizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Optimizer

import virtualdepth as vd

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]

pytestmark = pytest.mark.usefixtures("float64")


def module_of(flavour: Flavour, configure: Callable[[Any], Any], backbone: Any = None) -> Any:
    """A regression whose optimizers ``configure`` makes of the module."""

    class Module(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.batch_size = 8
            self.backbone = nn.Identity() if backbone is None else backbone()
            self.head = nn.Linear(IN_FEATURES, OUT_FEATURES)
            self.depths: set[float] = set()
            self.automatic_optimization = configure is not two_optimizers

        def training_step(self, batch: Data, batch_idx: int) -> Tensor:
            for optimizer in self.trainer.optimizers:
                self.depths |= {group.get("depth", 1) for group in optimizer.param_groups}
            return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1])

        def configure_optimizers(self) -> Any:
            return configure(self)

        def train_dataloader(self) -> Any:
            inputs, targets = torch.ones(16, IN_FEATURES), torch.ones(16, OUT_FEATURES)
            return flavour.vd.TensorDataModule(
                inputs, targets, batch_size=self.batch_size
            ).train_dataloader()

    return Module()


def sgd(module: Any) -> SGD:
    return SGD(module.parameters(), lr=0.05)


def sgd_with_depth(module: Any) -> SGD:
    return vd.with_depth(sgd(module), 3, model=module, step_scale="raw", on="gradient")


def two_optimizers(module: Any) -> list[Optimizer]:
    return module.kept


@pytest.mark.parametrize("by", ["Tuner", "LearningRateFinder"])
def test_a_learning_rate_is_searched_with_depth(
    flavour: Flavour, trainer: Make, data: Data, by: str
) -> None:
    found = []
    for configure, callbacks in (
        (sgd, [flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")]),
        (sgd_with_depth, []),
    ):
        options = {"min_lr": 1e-3, "max_lr": 1.0, "update_attr": False}
        batches = flavour.vd.TensorDataModule(*data, batch_size=12)
        if by == "Tuner":
            run = trainer(max_epochs=4, callbacks=callbacks)
            tuner = flavour.submodule("tuner").Tuner(run)
            finder = tuner.lr_find(
                module_of(flavour, configure), datamodule=batches, num_training=6, **options
            )
        else:
            kind = flavour.submodule("callbacks").LearningRateFinder
            search = kind(num_training_steps=6, **options)
            run = trainer(max_epochs=4, callbacks=[*callbacks, search])
            run.fit(module_of(flavour, configure), datamodule=batches)
            finder = search.optimal_lr
        found.append(finder.results)
    assert found[0] == found[1]
    assert len(found[0]["loss"]) == 6


def test_a_batch_size_is_searched_with_depth(flavour: Flavour, trainer: Make) -> None:
    module = module_of(flavour, sgd)
    run = trainer(
        max_epochs=1, callbacks=[flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")]
    )
    flavour.submodule("tuner").Tuner(run).scale_batch_size(
        module, max_trials=1, steps_per_trial=1, init_val=4
    )
    assert module.depths == {3}


def keeping(flavour: Flavour) -> Any:
    """A module that makes its optimizer once."""
    module = module_of(flavour, lambda module: module.kept)
    module.kept = SGD(module.parameters(), lr=0.05, momentum=0.9)
    return module


def test_a_module_may_keep_its_optimizer(flavour: Flavour, trainer: Make, data: Data) -> None:
    """Two fits of one epoch are one of two, with the same callback or another like it."""
    callback = flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")
    ends = []
    for callbacks in (
        [callback, callback],
        [callback, flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")],
        [callback],
    ):
        module = keeping(flavour)
        for each in callbacks:
            run = trainer(max_epochs=3 - len(callbacks), callbacks=[each])
            run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
        ends.append(module.head.weight.detach())
    assert torch.equal(ends[0], ends[2])
    assert torch.equal(ends[1], ends[2])


@pytest.mark.parametrize(
    ("option", "value"),
    [("depth", 2), ("on", "update"), ("step_scale", "unit"), ("include", "head.bias*"), ("cap", 1)],
)
def test_an_optimizer_that_is_kept_keeps_its_depth(
    flavour: Flavour, trainer: Make, data: Data, option: str, value: Any
) -> None:
    module = keeping(flavour)
    given: dict[str, Any] = {"depth": 3, "on": "gradient", "step_scale": "raw"}
    first = flavour.vd.VirtualDepth(**given)
    batches = flavour.vd.TensorDataModule(*data)
    trainer(max_epochs=1, callbacks=[first]).fit(module, datamodule=batches)
    before = module.head.weight.detach().clone()
    if option == "include":
        options = {**given, "exclude": "head.weight"}
    else:
        options = {**given, option: value}
    again = trainer(max_epochs=1, callbacks=[flavour.vd.VirtualDepth(**options)])
    with pytest.raises(ValueError, match=f"{option}.*: expected .* got depth before"):
        again.fit(module, datamodule=batches)
    assert torch.equal(module.head.weight, before)


def test_all_optimizers_get_depth_or_none(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = module_of(flavour, two_optimizers)
    module.kept = [SGD([module.head.weight], lr=0.1), LBFGS([module.head.bias])]
    run = trainer(
        max_epochs=1, callbacks=[flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")]
    )
    with pytest.raises(TypeError, match="one gradient per step but got LBFGS"):
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert type(module.kept[0]) is SGD
    assert "depth" not in module.kept[0].param_groups[0]


def test_patterns_hold_for_every_fit_and_through_the_compiler(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    """They may be an iterator, and name the layers of a module that is compiled."""

    def compiled() -> nn.Module:
        return torch.compile(nn.Sequential(nn.Linear(IN_FEATURES, IN_FEATURES)), backend="eager")

    callback = flavour.vd.VirtualDepth(
        3, include=iter(["backbone.0.weight"]), step_scale="raw", on="gradient"
    )
    for _ in range(2):
        run = trainer(max_epochs=1, callbacks=[callback])
        run.fit(module_of(flavour, sgd, compiled), datamodule=flavour.vd.TensorDataModule(*data))
        assert matrices_of(run.optimizers[0]) == ["5 x 5", "-", "-", "-"]


class Backbone(nn.Module):
    """A convolution in two groups, a normalisation and packed weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 2, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm1d(2)
        self.cell = nn.LSTMCell(2 * IN_FEATURES, IN_FEATURES)

    def forward(self, inputs: Tensor) -> Tensor:
        seen = self.norm(self.conv(torch.stack([inputs, -inputs], 1)))
        return self.cell(seen.flatten(1))[0]


def head_alone(module: Any) -> SGD:
    return SGD(module.head.parameters(), lr=0.05)


def matrices_of(optimizer: Optimizer) -> list[str]:
    return [route.matrix for route in vd.routing(optimizer)]


LATE = ["2 of 1 x 3", "-", "-", "-", "4 of 5 x 10", "4 of 5 x 5", "-", "-"]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("include", [None, "head*"])
def test_layers_that_thaw_get_the_depth_of_their_type(
    flavour: Flavour, trainer: Make, data: Data, include: str | None, first: bool
) -> None:
    thaw = flavour.submodule("callbacks").BackboneFinetuning(unfreeze_backbone_at_epoch=1)
    callbacks = [
        flavour.vd.VirtualDepth(3, include=include, step_scale="raw", on="gradient"),
        thaw,
    ][:: 1 if first else -1]
    run = trainer(max_epochs=2, callbacks=callbacks)
    module = module_of(flavour, head_alone, Backbone)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    late = LATE if include is None else ["-"] * 8
    assert matrices_of(run.optimizers[0]) == ["3 x 5", "-", *late]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("trained_with_depth", [True, False])
def test_layers_that_have_thawed_resume_with_depth(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    trained_with_depth: bool,
    first: bool,
) -> None:
    def fit(epochs: int, depth: bool, **options: Any) -> Any:
        thaw = flavour.submodule("callbacks").BackboneFinetuning(unfreeze_backbone_at_epoch=1)
        callbacks = [
            *([flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")] if depth else []),
            thaw,
        ]
        run = trainer(max_epochs=epochs, callbacks=callbacks[:: 1 if first else -1])
        module = module_of(flavour, head_alone, Backbone)
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data), **options)
        return run

    fit(2, trained_with_depth).save_checkpoint(tmp_path / "thawed.ckpt")
    run = fit(3, True, ckpt_path=tmp_path / "thawed.ckpt")
    assert run.global_step == 3
    assert matrices_of(run.optimizers[0]) == ["3 x 5", "-", *LATE]
