"""The suite over step scales and starts, which keep state of their own."""

from typing import Any, ClassVar

import torch
from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd


class ScaledContract(OptimizerContract):
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    torch_variants: ClassVar[dict[str, dict[str, Any]]] = {
        "momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    }
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)


class TestUnit(ScaledContract):
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "unit": {"lr": 0.05, "depth": 3, "step_scale": "unit", "momentum": 0.9},
    }
    own_option: ClassVar[tuple[str, Any]] = ("cap", 0.25)

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **{"step_scale": "unit", **options})


class TestRms(ScaledContract):
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "rms": {"lr": 0.05, "depth": 3, "step_scale": "rms"},
    }
    own_option: ClassVar[tuple[str, Any]] = ("step_scale", "raw")
    # one scale is shared by the matrices of a group: what else is in it matters
    test_parameters_of_two_modules_are_one_parameter: ClassVar[None] = None
    test_every_way_of_passing_parameters_trains_the_same: ClassVar[None] = None

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **{"step_scale": "rms", **options})


class TestOrigin(ScaledContract):
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "origin": {"lr": 0.05, "depth": 3, "origin": "init", "step_scale": "unit"},
    }
    own_option: ClassVar[tuple[str, Any]] = ("depth", 3)
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **{"origin": "init", **options})
