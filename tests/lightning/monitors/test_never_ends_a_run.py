"""What monitors cannot record they tell and leave out: a run goes on as it would without them."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lightning.conftest import IN_FEATURES, OUT_FEATURES, Flavour
from tests.lightning.monitors.models import F64, around, deep, rule, sequential, single
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.optim import SGD, Optimizer

import virtualdepth as vd

Make = Callable[..., Any]
Data = tuple[Tensor, Tensor]


def all_monitors(flavour: Flavour, layers: str = "*") -> dict[str, Any]:
    """Each monitor that works on any model, recording at every step."""
    kinds = flavour.vd
    return {
        "spectrum": kinds.SpectrumMonitor(layers, interval=1),
        "balance": kinds.BalancednessMonitor(interval=1),
        "alignment": kinds.AlignmentMonitor(layers, interval=1),
        "dynamics": kinds.DynamicsMonitor(layers, interval=1),
        "descent": kinds.LossDescentMonitor("net.used"),
    }


def fit(
    flavour: Flavour, trainer: Make, data: Data, module: Any, monitors: Any, **options: Any
) -> Any:
    """Train for four steps with the monitors, and without: to the same end."""
    start = {name: value.clone() for name, value in module.state_dict().items()}
    options = {"max_epochs": 4, **options}
    batches = {"datamodule": flavour.vd.TensorDataModule(*data)}
    run = trainer(callbacks=list(monitors), **options)
    run.fit(module, **batches)
    end = {name: value.clone() for name, value in module.state_dict().items()}
    assert run.global_step == 4
    if start.keys() == end.keys():
        module.load_state_dict(start)
        trainer(**{**options, "logger": False}).fit(module, **batches)
        for name, value in module.state_dict().items():
            torch.testing.assert_close(value, end[name], rtol=0, atol=0, equal_nan=True)
    return run


def two(beside: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"used": deep(), "beside": beside})


def of_used(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
    return (net["used"](inputs) - targets).square().sum(-1).mean() / 2


STEPS = {
    "spectrum": [0, 1, 2, 3, 4],
    "balance": [0, 1, 2, 3, 4],
    "alignment": [0, 1, 2, 3],
    "dynamics": [0, 1, 2, 3, 4],
    "descent": [0, 1, 2],
}


def multiplied_by_hand(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
    weight = net["beside"][1].weight @ net["beside"][0].weight
    return of_used(net, inputs, targets) + weight.square().mean()


@pytest.mark.parametrize("beside", [single, deep, lambda: sequential(5, 4, 3)])
@pytest.mark.parametrize("why", ["not used", "frozen", "frozen and not in an optimizer"])
def test_a_layer_without_gradients_is_told(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    caplog: pytest.LogCaptureFixture,
    beside: Any,
    why: str,
) -> None:
    network = two(beside())
    network["beside"].requires_grad_(why == "not used")
    part = network["used"] if why.endswith("optimizer") else network
    module = around(flavour, network, lambda _: SGD(part.parameters(), lr=0.05), of_used)
    monitors = all_monitors(flavour)
    fit(flavour, trainer, data, module, monitors.values())
    for name, monitor in monitors.items():
        assert monitor.series["net.used"]["step"] == STEPS[name], name
    assert set(monitors["alignment"].series) == {"net.used"}
    assert "AlignmentMonitor: no record of 'net.beside': no gradient reached an" in caplog.text


def test_a_product_that_the_model_multiplies_itself_is_told(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    module = around(flavour, two(sequential(5, 4, 3)), loss=multiplied_by_hand)
    monitor = flavour.vd.AlignmentMonitor("net.beside", interval=1)
    fit(flavour, trainer, data, module, [monitor])
    assert monitor.series == {}
    assert "'net.beside': no gradient reached an optimizer step" in caplog.text


def test_a_layer_that_thaws_is_recorded_from_then_on(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    class Thaw(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                module.net["beside"].requires_grad_(True)
                late = {"params": list(module.net["beside"].parameters())}
                trainer.optimizers[0].add_param_group(late)

    def both(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        residual = net["used"](inputs) + net["beside"](inputs) - targets
        return residual.square().sum(-1).mean() / 2

    network = two(deep(seed=1).requires_grad_(False))
    optimizer = lambda _: SGD(network["used"].parameters(), lr=0.02)  # noqa: E731
    monitors = all_monitors(flavour)
    trainer(max_epochs=4, callbacks=[*monitors.values(), Thaw()]).fit(
        around(flavour, network, optimizer, both), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert monitors["alignment"].series["net.beside"]["step"] == [2, 3]
    dynamics = monitors["dynamics"].series["net.beside"]
    assert dynamics["step"] == [3, 4]
    assert dynamics["relative_error"][1] < 0.1


@pytest.mark.parametrize("skip", ["None", "accumulated", "no data"])
@pytest.mark.parametrize("loss", ["loss", "mine"])
@pytest.mark.filterwarnings("ignore:.*`training_step` returned `None`:UserWarning")
@pytest.mark.filterwarnings("ignore:train_dataloader yielded None:UserWarning")
def test_a_skipped_batch(flavour: Flavour, trainer: Make, data: Data, skip: str, loss: str) -> None:
    module = around(flavour, single())
    step = module.training_step

    def skipping(batch: Data, batch_idx: int) -> Tensor | None:
        if batch is None or (module.trainer.current_epoch == 1 and batch_idx == 0):
            return None
        found = step(batch, batch_idx)
        module.log("mine", found.detach())
        return found

    module.training_step = skipping
    monitors = all_monitors(flavour, "net")
    monitors["descent"] = flavour.vd.LossDescentMonitor("net", loss=loss)
    del monitors["balance"]
    if skip == "no data":

        class Batches:
            def __iter__(self) -> Iterator[Data | None]:
                yield from (data, None, data, data)

        run = trainer(max_epochs=1, callbacks=list(monitors.values()))
        run.fit(module, Batches())
    else:
        parts = 1 if skip == "None" else 2
        run = trainer(
            max_epochs=4, callbacks=list(monitors.values()), accumulate_grad_batches=parts
        )
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data, batch_size=24 // parts))
    assert monitors["descent"].violations == 0
    assert monitors["alignment"].series["net"]["step"][0] == 0
    assert max(monitors["dynamics"].series["net"]["relative_error"][1:]) < 0.2 or skip == "None"


def test_a_gradient_that_is_not_finite(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    """One batch overflows, and the model throws its gradients away."""
    for network in (single(), deep()):
        module = around(flavour, network, lambda params: SGD(params, lr=0.01))
        step = module.training_step

        def overflowing(batch: Data, batch_idx: int) -> Tensor:
            loss = step(batch, batch_idx)  # noqa: B023 - called within the turn
            return loss * (math.inf if module.global_step == 2 else 1)  # noqa: B023

        def throw_away(optimizer: Optimizer) -> None:
            for p in module.parameters():  # noqa: B023
                if not torch.isfinite(p.grad).all():
                    p.grad = None

        module.training_step = overflowing
        module.on_before_optimizer_step = throw_away
        monitors = all_monitors(flavour, "net")
        monitors["descent"] = flavour.vd.LossDescentMonitor("net")
        monitors.pop("balance")
        run = trainer(max_epochs=6, callbacks=list(monitors.values()))
        run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
        assert monitors["alignment"].series["net"]["step"] == [0, 1, 3, 4, 5]
        dynamics = monitors["dynamics"].series["net"]
        assert np.isfinite(dynamics["theory"]).all()
        assert [error for error in dynamics["relative_error"] if error > 0.1] == []
        assert monitors["descent"].series["net"]["step"] == [0, 1, 3, 4]
        assert "AlignmentMonitor: no record of net at step 2: gradient: expected fin" in caplog.text
        assert "gradient of 'net' before step 3 is not finite; the prediction tak" in caplog.text
        caplog.clear()


def test_weights_that_are_not_finite(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = two(single())

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        return of_used(net, inputs, targets) + net["beside"](inputs).square().mean()

    class Poison(flavour.pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                nn.init.constant_(module.net["beside"].weight, math.nan)

    def of_beside(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        total = loss(net, inputs, targets)
        return total.nan_to_num() if total.isnan() else total

    logger = flavour.submodule("loggers").CSVLogger(tmp_path)
    monitors = all_monitors(flavour)
    run = trainer(
        max_epochs=4, callbacks=[Poison(), *monitors.values()], logger=logger, log_every_n_steps=1
    )
    module = around(flavour, network, loss=of_beside)
    run.fit(module, datamodule=flavour.vd.TensorDataModule(*data))
    assert monitors["spectrum"].series["net.used"]["step"] == [0, 1, 2, 3, 4]
    assert monitors["spectrum"].series["net.beside"]["step"] == [0, 1, 2]
    assert "SpectrumMonitor: no record of net.beside at step 3: net.beside: expected" in caplog.text
    pictures = {file.stem for file in tmp_path.rglob("*.png")}
    assert pictures == {"net", "effective_rank"} or len(pictures) > 2


def minimal_logger(flavour: Flavour, **extra: Any) -> Any:
    base = flavour.submodule("loggers").Logger
    body = {
        "name": "minimal",
        "version": "0",
        "log_metrics": lambda self, metrics, step=None: None,
        "log_hyperparams": lambda self, *args, **kwargs: None,
    }
    return type("Minimal", (base,), {**body, **extra})()


def failing(*args: Any, **kwargs: Any) -> None:
    raise OSError("the server is gone")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"experiment": None},
        {"save_dir": None, "log_dir": None},
        {"log_image": failing},
        {"experiment": property(failing)},
        {"log_metrics": failing},
    ],
    ids=lambda extra: ", ".join(extra) or "no more than is needed",
)
@pytest.mark.filterwarnings("ignore:.*You called `self.log:UserWarning")
def test_a_minimal_logger_gets_its_figures_as_files(
    flavour: Flavour, trainer: Make, data: Data, tmp_path: Path, extra: dict[str, Any]
) -> None:
    monitor = flavour.vd.SpectrumMonitor(interval=2)
    logger = minimal_logger(flavour, **extra)
    run = trainer(max_epochs=2, callbacks=[monitor], logger=logger, log_every_n_steps=1)
    if isinstance(extra.get("experiment"), property):  # Lightning itself asks for it at setup
        run._loggers = [logger]
        type(logger).experiment = None
    run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
    names = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.png")}
    assert names == {"figures/spectrum/net.png", "figures/effective_rank.png"}
    assert monitor.series["net"]["step"] == [0, 2]


def pruned(layer: nn.Linear) -> nn.Linear:
    return prune.l1_unstructured(layer, "weight", amount=0.5)


REPARAMETRISED = {
    "pruned": pruned,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("make", REPARAMETRISED.values(), ids=REPARAMETRISED)
@pytest.mark.parametrize("layers", ["*", "net"])
def test_a_reparametrised_layer_is_left_out(
    flavour: Flavour, trainer: Make, data: Data, make: Any, layers: str
) -> None:
    monitors = all_monitors(flavour, layers)
    del monitors["balance"]
    monitors["descent"] = flavour.vd.LossDescentMonitor(layers)
    fit(flavour, trainer, data, around(flavour, make(single())), monitors.values())
    assert not any(monitor.series for monitor in monitors.values())


@pytest.mark.parametrize("network", [single, deep, lambda: sequential(5, 4, 3)])
def test_a_layer_that_is_pruned_during_the_run_is_left_out_from_then_on(
    flavour: Flavour,
    trainer: Make,
    data: Data,
    caplog: pytest.LogCaptureFixture,
    network: Callable[[], nn.Module],
) -> None:
    class Prune(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                pruned(next(part for part in module.net.modules() if isinstance(part, nn.Linear)))

    monitors = all_monitors(flavour, "net")
    if not isinstance(network(), nn.Linear):
        monitors["balance"] = flavour.vd.BalancednessMonitor(interval=1)
    else:
        del monitors["balance"]
    monitors["descent"] = flavour.vd.LossDescentMonitor("net")
    run = trainer(max_epochs=4, callbacks=[Prune(), *monitors.values()])
    run.fit(around(flavour, network()), datamodule=flavour.vd.TensorDataModule(*data))
    for name, monitor in monitors.items():
        last = 1 if name in ("alignment", "descent") else 2
        assert monitor.series["net"]["step"] == STEPS[name][: last + 1], name
    assert "net at step 3: its weight is no longer a parameter" in caplog.text


def test_a_weight_that_is_lazy_or_not_real_is_left_out(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    network = nn.ModuleDict(
        {"used": deep(), "lazy": nn.LazyLinear(3, bias=False, dtype=F64), "whole": single()}
    )
    network["whole"].weight = nn.Parameter(torch.ones(3, 5, dtype=torch.int8), requires_grad=False)

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        residual = net["used"](inputs) + net["lazy"](inputs) - targets
        return residual.square().sum(-1).mean() / 2

    monitors = all_monitors(flavour)
    optimizer = lambda _: SGD([*network["used"].parameters(), *network["lazy"].parameters()], 0.05)  # noqa: E731
    run = trainer(max_epochs=4, callbacks=list(monitors.values()))
    run.fit(
        around(flavour, network, optimizer, loss), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert set(monitors["spectrum"].series) == {"net.used", "net.lazy"}
    assert monitors["spectrum"].series["net.lazy"]["step"] == [1, 2, 3, 4]
    assert monitors["alignment"].series["net.lazy"]["step"] == [0, 1, 2, 3]


# the compiler asks a traced tensor for its .grad
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("what", ["layer", "model", "in place"])
def test_a_compiled_module(
    flavour: Flavour, trainer: Make, data: Data, fullgraph: bool, what: str
) -> None:
    """The compiler breaks its graph at the hooks of a product; where it may not, they are not."""
    torch.compiler.reset()
    options = {"backend": "eager", "fullgraph": fullgraph}
    network = deep()
    module = around(flavour, network)
    if what == "layer":
        module.net = torch.compile(network, **options)
    elif what == "in place":
        network.compile(**options)
    monitors = all_monitors(flavour, "net")
    monitors["descent"] = flavour.vd.LossDescentMonitor("net")
    run = trainer(max_epochs=4, callbacks=list(monitors.values()))
    target = torch.compile(module, **options) if what == "model" else module
    run.fit(target, datamodule=flavour.vd.TensorDataModule(*data))
    without_hooks = {"alignment", "descent"} if fullgraph and what != "in place" else set()
    for name, monitor in monitors.items():
        found = monitor.series["net"]["step"] if monitor.series else []
        assert found == ([] if name in without_hooks else STEPS[name]), name


def test_a_compiled_layer_is_found_by_its_own_name(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    torch.compiler.reset()
    module = around(flavour, nn.Sequential(torch.compile(single(), backend="eager")))
    monitor = flavour.vd.AlignmentMonitor("net.0", interval=1)
    trainer(max_epochs=2, callbacks=[monitor]).fit(
        module, datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert monitor.series["net.0"]["step"] == [0, 1]


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


@pytest.mark.parametrize("monitor", ["DynamicsMonitor", "LossDescentMonitor"])
@pytest.mark.parametrize(
    ("by", "step_scale"),
    [
        *(("EndToEndSGD", name) for name in ("unit", "rms", "auto")),
        *(("VirtualDepth", name) for name in ("unit", "rms")),
    ],
)
def test_a_step_scale_that_theory_does_not_know_is_named(
    flavour: Flavour, trainer: Make, data: Data, monitor: str, step_scale: str, by: str
) -> None:
    callbacks = [getattr(flavour.vd, monitor)()]
    if by == "VirtualDepth":
        callbacks.append(flavour.vd.VirtualDepth(3, step_scale=step_scale))
        optimizer = lambda params: SGD(params, lr=0.01)  # noqa: E731
    else:
        optimizer = rule(3, step_scale=step_scale)
    run = trainer(max_epochs=1, callbacks=callbacks)
    with pytest.raises(ValueError, match=rf"^step_scale: expected 'raw' but got '{step_scale}'"):
        run.fit(around(flavour, single(), optimizer), datamodule=flavour.vd.TensorDataModule(*data))


def test_layers_that_theory_knows_are_kept_beside_others(
    flavour: Flavour, trainer: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    network = nn.ModuleDict({"used": single(), "scaled": single(), "late": single()})

    def optimizer(_: Any) -> vd.EndToEndSGD:
        groups = [{"params": [layer.weight]} for layer in network.values()]
        groups[1]["step_scale"] = "unit"
        return vd.EndToEndSGD(groups, lr=0.01, depth=3)

    def loss(net: nn.ModuleDict, inputs: Tensor, targets: Tensor) -> Tensor:
        return sum((layer(inputs) - targets).square().sum(-1).mean() / 2 for layer in net.values())

    class Change(flavour.pl.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 2:
                trainer.optimizers[0].param_groups[2]["step_scale"] = "unit"

    monitor = flavour.vd.DynamicsMonitor(interval=1)
    trainer(max_epochs=4, callbacks=[monitor, Change()]).fit(
        around(flavour, network, optimizer, loss), datamodule=flavour.vd.TensorDataModule(*data)
    )
    assert {name: each["step"] for name, each in monitor.series.items()} == {
        "net.used": [0, 1, 2, 3, 4],
        "net.late": [0, 1, 2],
    }
    assert "one layer is left out: step_scale: expected 'raw' but got 'unit'" in caplog.text
    assert "no record of net.late at step 2: step_scale: expected 'raw'" in caplog.text


def test_averaging_callbacks_copy_a_watched_model(
    flavour: Flavour, trainer: Make, data: Data
) -> None:
    averaging = flavour.submodule("callbacks").StochasticWeightAveraging(0.01, swa_epoch_start=2)
    monitors = all_monitors(flavour, "net")
    del monitors["descent"]
    for callbacks in ([*monitors.values(), averaging], [averaging, *monitors.values()]):
        run = trainer(max_epochs=4, callbacks=callbacks)
        run.fit(around(flavour, deep()), datamodule=flavour.vd.TensorDataModule(*data))
        assert monitors["spectrum"].series["net"]["step"] == [0, 1, 2, 3, 4]
