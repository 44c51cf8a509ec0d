"""A program whose mistakes `mypy --strict` has to find; each is marked with the error's code."""

import torch
from torch import nn

import virtualdepth as vd


def optimizers(model: nn.Linear) -> None:
    vd.EndToEndSGD(model.parameters(), step_scale="units")  # error: arg-type
    vd.EndToEndSGD(model.parameters(), solver="svdd")  # error: arg-type
    vd.EndToEndSGD(model.parameters(), origin="start")  # error: arg-type
    plain = torch.optim.SGD(model.parameters())
    vd.with_depth(plain, 3, on="updates")  # error: arg-type
    vd.with_depth(plain, 3, step_scale="units")  # error: arg-type
    vd.with_depth(plain, 3, step_scale="auto")  # error: arg-type
    vd.with_depth(plain, 3, solver="svdd")  # error: arg-type
    vd.with_depth(plain, 3, solver="tracked")  # error: arg-type
    vd.with_depths(plain, 3)  # error: attr-defined


def with_pytorch_lightning() -> None:
    vd.lightning.VirtualDepth(3, on="updates")  # error: arg-type
    vd.lightning.VirtualDepth(3, step_scale="units")  # error: arg-type
    vd.lightning.VirtualDepth(3, step_scale="auto")  # error: arg-type
    vd.lightning.VirtualDepth(3, solver="svdd")  # error: arg-type
    vd.lightning.SpectrumMonitor(top=3)  # error: call-arg
    vd.lightning.EquivalenceModule(8, 3, 3, 0.1, loss="mae")  # error: arg-type
    vd.lightning.VirtualDepths(3)  # error: attr-defined


def with_lightning() -> None:
    vd.lightning_unified.VirtualDepth(3, on="updates")  # error: arg-type
    vd.lightning_unified.VirtualDepth(3, step_scale="units")  # error: arg-type
    vd.lightning_unified.VirtualDepth(3, step_scale="auto")  # error: arg-type
    vd.lightning_unified.VirtualDepth(3, solver="svdd")  # error: arg-type
    vd.lightning_unified.SpectrumMonitor(top=3)  # error: call-arg
    vd.lightning_unified.EquivalenceModule(8, 3, 3, 0.1, loss="mae")  # error: arg-type


def estimator() -> None:
    vd.estimators.MatrixCompletion(method="deep")  # error: arg-type
