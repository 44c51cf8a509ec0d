"""A program of a user's that `mypy --strict` has to accept; nothing runs it."""

from argparse import ArgumentParser
from typing import Any, assert_type

import lightning.pytorch as unified
import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth import verify


def mathematics(weight: Tensor, grad: Tensor) -> None:
    assert_type(vd.precondition(weight, grad, 3), Tensor)
    assert_type(vd.depth_kernel(weight, grad, 2.5), Tensor)
    assert_type(vd.balanced_factors(weight, 3, hidden_features=[4, 5]), list[Tensor])
    assert_type(vd.end_to_end_product([weight, grad]), Tensor)
    assert_type(vd.effective_rank(weight), Tensor)


def optimizers(model: nn.Sequential) -> None:
    groups = vd.param_groups(model, depth=3, exclude=["head*", nn.Embedding], solver="svd")
    optimizer = vd.EndToEndSGD(
        groups, lr=0.1, momentum=0.9, step_scale="unit", solver="svd", origin="init"
    )
    assert_type(optimizer, vd.EndToEndSGD)
    optimizer.step()
    print(vd.routing(optimizer))
    adam = vd.with_depth(torch.optim.AdamW(model.parameters()), 2.5, on="update", model=model)
    assert_type(adam, torch.optim.AdamW)


def networks(weight: Tensor) -> None:
    deep = vd.DeepLinear.from_weight(weight, 3)
    vd.init.balanced_(deep, 0.1)
    assert_type(deep.end_to_end(), Tensor)
    assert_type(deep.to_linear(), nn.Linear)


def with_pytorch_lightning(inputs: Tensor, targets: Tensor) -> None:
    module = vd.lightning.EquivalenceModule(8, 3, depth=3, lr=0.1, loss="lp", p=4)
    data = vd.lightning.TensorDataModule(inputs, targets, batch_size=16)
    spectrum = vd.lightning.SpectrumMonitor(["single", "deep"], interval=10, top_k=3)
    descent = vd.lightning.LossDescentMonitor("deep", loss="loss_deep")
    callbacks: list[pl.Callback] = [
        vd.lightning.VirtualDepth(3, include="head*", on="update", step_scale="unit"),
        vd.lightning.BalancednessMonitor(),
        vd.lightning.AlignmentMonitor(figure=False),
        vd.lightning.DynamicsMonitor("deep"),
        vd.lightning.GapMonitor(),
    ]
    trainer = pl.Trainer(max_epochs=5, callbacks=[spectrum, descent, *callbacks])
    trainer.fit(module, datamodule=data)
    assert_type(module.largest_gap, Tensor)
    assert_type(module.single, nn.Linear)
    assert_type(module.deep, vd.DeepLinear)
    assert_type(module.measure(), dict[str, Tensor])
    assert_type(spectrum.series, dict[str, dict[str, list[Any]]])
    assert_type(descent.violations, int)
    for name, figure in spectrum.figures().items():
        vd.lightning.log_figure(trainer, name, figure)


def with_lightning(inputs: Tensor, targets: Tensor) -> None:
    module = vd.lightning_unified.EquivalenceModule(8, 3, depth=3, lr=0.1)
    data = vd.lightning_unified.TensorDataModule(inputs, targets)
    spectrum = vd.lightning_unified.SpectrumMonitor(interval=10)
    depth = vd.lightning_unified.VirtualDepth(3, on="gradient", solver="svd")
    trainer = unified.Trainer(max_epochs=5, callbacks=[spectrum, depth])
    trainer.fit(module, datamodule=data)
    assert_type(module.largest_gap, Tensor)
    assert_type(spectrum.series, dict[str, dict[str, list[Any]]])


def estimator(known: Any) -> None:
    model = vd.estimators.MatrixCompletion("flow", depth=3, random_state=0)
    assert_type(model.fit(known), vd.estimators.MatrixCompletion)
    filled: np.ndarray[Any, Any] = model.fit_transform(known)
    print(filled, model.transform(known), model.rank_, model.predict([0], [1], return_std=True))


def others(weight: Tensor, axes: Any) -> None:
    rank = vd.metrics.EffectiveRank()
    rank.update(weight)
    vd.plotting.plot_losses(axes, [0.0, 1.0], [2.0, 1.0], [2.0, 1.1])
    vd.theory.tangent_kernel(weight, weight, weight, depth=3)


def command() -> None:
    parser = ArgumentParser()
    verify.add_arguments(parser)
    assert_type(verify.run(parser.parse_args()), int)
