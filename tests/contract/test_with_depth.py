"""Optimizers of torch, and of another package, with depth."""

from typing import Any, ClassVar

import pytorch_optimizer
import torch
from tests.contract.with_depth import WithDepthContract
from torch.optim import Optimizer

Variants = ClassVar[dict[str, dict[str, Any]]]


class SGDContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    variants: Variants = {"momentum": {"lr": 0.05, "depth": 3, "momentum": 0.9}}
    torch_variants: Variants = {"momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}}


class TestSGDOnGradient(SGDContract):
    on = "gradient"


class TestSGDOnUpdate(SGDContract):
    on = "update"


class AdamContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.Adam
    variants: Variants = {"depth 3": {"lr": 0.01, "depth": 3}}
    torch_variants: Variants = {"amsgrad": {"lr": 0.01, "amsgrad": True}}


class TestAdamOnGradient(AdamContract):
    on = "gradient"


class TestAdamOnUpdate(AdamContract):
    on = "update"


class AdamWContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.AdamW
    variants: Variants = {"unit": {"lr": 0.01, "depth": 2.5, "step_scale": "unit"}}
    torch_variants: Variants = {"plain": {"lr": 0.01, "weight_decay": 0.1}}


class TestAdamWOnGradient(AdamWContract):
    on = "gradient"


class TestAdamWOnUpdate(AdamWContract):
    on = "update"


class RMSpropContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.RMSprop
    variants: Variants = {"depth 3": {"lr": 0.01, "depth": 3, "momentum": 0.5}}
    torch_variants: Variants = {"centered": {"lr": 0.01, "centered": True}}


class TestRMSpropOnGradient(RMSpropContract):
    on = "gradient"


class TestRMSpropOnUpdate(RMSpropContract):
    on = "update"


class AdagradContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.Adagrad
    variants: Variants = {"depth 3": {"lr": 0.05, "depth": 3}}
    torch_variants: Variants = {"decay": {"lr": 0.05, "lr_decay": 0.1}}


class TestAdagradOnGradient(AdagradContract):
    on = "gradient"


class TestAdagradOnUpdate(AdagradContract):
    on = "update"


class LionContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = pytorch_optimizer.Lion
    variants: Variants = {"depth 3": {"lr": 0.01, "depth": 3}}
    torch_variants: Variants = {"decay": {"lr": 0.01, "weight_decay": 0.1}}


class TestLionOnGradient(LionContract):
    on = "gradient"


class TestLionOnUpdate(LionContract):
    on = "update"
