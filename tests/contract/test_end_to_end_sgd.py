from typing import Any, ClassVar

import torch
from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd


class TestEndToEndSGD(OptimizerContract):
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "plain": {"lr": 0.05, "depth": 1},
        "depth 3": {"lr": 0.05, "depth": 3},
        "momentum": {"lr": 0.05, "depth": 2, "momentum": 0.9, "dampening": 0.5},
        "nesterov": {
            "lr": 0.05,
            "depth": 2.5,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
            "maximize": True,
        },
        "plain nesterov": {
            "lr": 0.05,
            "depth": 1,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
            "maximize": True,
        },
        "infinite depth": {"lr": 0.05, "depth": float("inf"), "weight_decay": 0.1, "rtol": 1e-9},
    }
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    torch_variants: ClassVar[dict[str, dict[str, Any]]] = {
        "plain": {"lr": 0.05},
        "decay": {"lr": 0.05, "weight_decay": 0.1, "maximize": True},
        "momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
        "nesterov": {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    }
    own_option: ClassVar[tuple[str, Any]] = ("depth", 3)
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **options)
