"""Optimizers of torch, and of another package, with depth."""

from typing import Any, ClassVar

import pytorch_optimizer
import torch
from tests.contract.with_depth import WithDepthContract, WithoutSchedules
from torch.optim import Optimizer

Variants = dict[str, dict[str, Any]]


class SGDContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    variants: ClassVar[Variants] = {
        "momentum": {"lr": 0.05, "depth": 3, "momentum": 0.9},
        "rows": {"lr": 0.05, "depth": 3, "structure": "rows", "imbalance": 0.1},
    }
    torch_variants: ClassVar[Variants] = {
        "momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}
    }


class TestSGDOnGradient(SGDContract):
    on = "gradient"


class TestSGDOnUpdate(WithoutSchedules, SGDContract):
    on = "update"


class AdamContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.Adam
    variants: ClassVar[Variants] = {"depth 3": {"lr": 0.01, "depth": 3}}
    torch_variants: ClassVar[Variants] = {"amsgrad": {"lr": 0.01, "amsgrad": True}}


class TestAdamOnGradient(WithoutSchedules, AdamContract):
    on = "gradient"


class TestAdamOnUpdate(WithoutSchedules, AdamContract):
    on = "update"


class KeptBasisContract(AdamContract):
    variants: ClassVar[Variants] = {
        "kept basis": {"lr": 0.01, "depth": 3, "precondition_frequency": 3}
    }
    # its state is shaped as singular vectors, not as the parameter
    test_every_shape_in_every_precision: ClassVar[None] = None
    # which step decomposes a matrix depends on how many there are
    test_an_added_group_trains_from_then_on: ClassVar[None] = None


class TestKeptBasisOnGradient(WithoutSchedules, KeptBasisContract):
    on = "gradient"


class TestKeptBasisOnUpdate(WithoutSchedules, KeptBasisContract):
    on = "update"


class AdamWContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.AdamW
    variants: ClassVar[Variants] = {"unit": {"lr": 0.01, "depth": 2.5, "step_scale": "unit"}}
    torch_variants: ClassVar[Variants] = {"plain": {"lr": 0.01, "weight_decay": 0.1}}


class TestAdamWOnGradient(AdamWContract):
    on = "gradient"


class TestAdamWOnUpdate(AdamWContract):
    on = "update"


class RMSpropContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.RMSprop
    variants: ClassVar[Variants] = {"depth 3": {"lr": 0.01, "depth": 3, "momentum": 0.5}}
    torch_variants: ClassVar[Variants] = {"centered": {"lr": 0.01, "centered": True}}


class TestRMSpropOnGradient(RMSpropContract):
    on = "gradient"


class TestRMSpropOnUpdate(WithoutSchedules, RMSpropContract):
    on = "update"


class AdagradContract(WithDepthContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.Adagrad
    variants: ClassVar[Variants] = {"depth 3": {"lr": 0.05, "depth": 3}}
    torch_variants: ClassVar[Variants] = {"decay": {"lr": 0.05, "lr_decay": 0.1}}


class TestAdagradOnGradient(AdagradContract):
    on = "gradient"


class TestAdagradOnUpdate(WithoutSchedules, AdagradContract):
    on = "update"


class LionContract(WithDepthContract):
    """Of pytorch_optimizer, whose own copies lose attributes, and whose groups count steps."""

    torch_class: ClassVar[type[Optimizer]] = pytorch_optimizer.Lion
    variants: ClassVar[Variants] = {"depth 3": {"lr": 0.01, "depth": 3}}
    torch_variants: ClassVar[Variants] = {"decay": {"lr": 0.01, "weight_decay": 0.1}}
    test_a_copy_goes_on_to_the_last_bit: ClassVar[None] = None
    test_a_copy_takes_the_same_options: ClassVar[None] = None
    test_torchs_checkpoint_leaves_options_that_it_does_not_have: ClassVar[None] = None
    test_without_any_gradient_nothing_happens: ClassVar[None] = None


class TestLionOnGradient(LionContract):
    on = "gradient"


class TestLionOnUpdate(WithoutSchedules, LionContract):
    on = "update"
