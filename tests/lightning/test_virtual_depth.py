"""The callback gives what a plain loop with depth gives, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from torch import Tensor, nn
from torch.optim import lr_scheduler

import virtualdepth as vd
from virtualdepth._lightning import ShuffledBatches

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]
EPOCHS = 4

pytestmark = pytest.mark.usefixtures("float64")

OPTIMIZERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "SGD": (lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9), {}),
    "AdamW": (lambda params: torch.optim.AdamW(params, lr=0.01), {"on": "update"}),
    "Adam": (lambda params: torch.optim.Adam(params, lr=0.01), {"step_scale": "unit"}),
}
SCHEDULERS: dict[str, Callable[[Any], Any] | None] = {
    "no schedule": None,
    "schedule": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.8),
}


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(IN_FEATURES, 6), nn.Tanh(), nn.Linear(6, OUT_FEATURES))


def module_of(
    flavour: Flavour, make_optimizer: Any, make_scheduler: Any = None, manual: bool = False
) -> Any:
    """A LightningModule that knows nothing of depth."""

    class Module(flavour.pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.automatic_optimization = not manual

        def configure_optimizers(self) -> Any:
            optimizer = make_optimizer(self.parameters())
            if make_scheduler is None:
                return optimizer
            return [optimizer], [{"scheduler": make_scheduler(optimizer), "interval": "step"}]

        def training_step(self, batch: Data, batch_idx: int) -> Any:
            loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
            if manual:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
                if make_scheduler is not None:
                    self.lr_schedulers().step()
            return loss

    return Module()


class PlainLoop:
    """The same training without Lightning."""

    def __init__(self, data: Data, make_optimizer: Any, make_scheduler: Any = None) -> None:
        self.data = data
        self.model = network()
        self.optimizer = make_optimizer(self.model.parameters())
        self.scheduler = None if make_scheduler is None else make_scheduler(self.optimizer)
        self.batches = ShuffledBatches(len(data[0]), batch_size=7)

    def run(self, epochs: range) -> nn.Module:
        for epoch in epochs:
            self.batches.set_epoch(epoch)
            for rows in self.batches:
                self.optimizer.zero_grad()
                inputs, targets = (tensor[rows] for tensor in self.data)
                nn.functional.mse_loss(self.model(inputs), targets).backward()
                self.optimizer.step()
                if self.scheduler is not None:
                    self.scheduler.step()
        return self.model


def assert_same(module: Any, model: nn.Module) -> None:
    for (name, p), q in zip(module.net.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.parametrize("manual", [False, True], ids=["automatic", "manual"])
@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize(("make_optimizer", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_is_the_plain_loop(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    make_optimizer: Any,
    options: dict[str, Any],
    make_scheduler: Any,
    manual: bool,
) -> None:
    loop = PlainLoop(data, make_optimizer, make_scheduler)
    vd.with_depth(loop.optimizer, 3, **options)
    module = module_of(flavour, make_optimizer, make_scheduler, manual)
    run = trainer(max_epochs=EPOCHS, callbacks=[flavour.vd.VirtualDepth(depth=3, **options)])
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data, batch_size=7))
    assert_same(module, loop.run(range(EPOCHS)))
    assert run.global_step == EPOCHS * len(loop.batches)
    without = PlainLoop(data, make_optimizer, make_scheduler).run(range(EPOCHS))
    assert not torch.equal(module.net[2].weight, without[2].weight)


def test_over_sgd_it_is_our_own_optimizer(flavour: Flavour, trainer: Make, data: Data) -> None:
    """So that the loop above does not only compare depth with itself."""
    loop = PlainLoop(data, lambda params: vd.EndToEndSGD(params, lr=0.05, depth=3))
    module = module_of(flavour, lambda params: torch.optim.SGD(params, lr=0.05))
    run = trainer(
        max_epochs=EPOCHS, callbacks=[flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")]
    )
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data, batch_size=7))
    assert_same(module, loop.run(range(EPOCHS)))


def test_patterns_are_names_in_the_module(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = module_of(flavour, OPTIMIZERS["SGD"][0])
    callback = flavour.vd.VirtualDepth(3, include=["net.2*"], step_scale="raw", on="gradient")
    run = trainer(max_epochs=1, callbacks=[callback])
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert [route.depth for route in vd.routing(run.optimizers[0])] == [1, 1, 3, 1]
    for bad, message in (({"include": "head*"}, "include"), ({"on": "weights"}, "on:")):
        run = trainer(max_epochs=1, callbacks=[flavour.vd.VirtualDepth(3, **bad)])
        with pytest.raises(ValueError, match=message):
            run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    with pytest.raises(ValueError, match="depth"):
        flavour.vd.VirtualDepth(0.5, step_scale="raw", on="gradient")


def test_an_optimizer_with_depth_is_refused(flavour: Flavour, trainer: Make, data: Data) -> None:
    module = module_of(flavour, lambda params: vd.EndToEndSGD(params, lr=0.05))
    run = trainer(
        max_epochs=1, callbacks=[flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")]
    )
    with pytest.raises(TypeError, match="without depth"):
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))


@pytest.mark.parametrize("make_scheduler", SCHEDULERS.values(), ids=SCHEDULERS)
@pytest.mark.parametrize("trained_with_depth", [True, False])
def test_resumes_to_the_last_bit_and_with_depth(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    make_scheduler: Any,
    trained_with_depth: bool,
) -> None:
    """From its own checkpoint, and from that of a run without depth."""
    make_optimizer = OPTIMIZERS["Adam"][0]
    batches = {"datamodule": flavour.vd.TensorDataModule(*data, batch_size=7)}
    path = tmp_path / "half.ckpt"

    def fit(epochs: int, depth: bool, **options: Any) -> Any:
        module = module_of(flavour, make_optimizer, make_scheduler)
        callbacks = [flavour.vd.VirtualDepth(3, step_scale="raw", on="gradient")] if depth else []
        run = trainer(max_epochs=epochs, callbacks=callbacks)
        run.fit(module, **batches, **options)
        return run, module

    fit(2, trained_with_depth)[0].save_checkpoint(path)
    run, module = fit(EPOCHS, True, ckpt_path=path)
    assert run.optimizers[0].param_groups[0]["depth"] == 3

    loop = PlainLoop(data, make_optimizer, make_scheduler)
    if trained_with_depth:
        vd.with_depth(loop.optimizer, 3, step_scale="raw", on="gradient")
    loop.run(range(2))
    if not trained_with_depth:
        vd.with_depth(loop.optimizer, 3, step_scale="raw", on="gradient")
    assert_same(module, loop.run(range(2, EPOCHS)))
