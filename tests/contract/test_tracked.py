"""The suite over singular vectors that follow the weight."""

from typing import Any, ClassVar

import torch
from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd


class TestTracked(OptimizerContract):
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "tracked": {"lr": 0.05, "depth": 3, "solver": "tracked"},
        "momentum": {
            "lr": 0.05,
            "depth": 2.5,
            "solver": "tracked",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
            "maximize": True,
            "step_scale": "unit",
        },
    }
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    torch_variants: ClassVar[dict[str, dict[str, Any]]] = {
        "momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    }
    own_option: ClassVar[tuple[str, Any]] = ("depth", 3)
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)
    refused_options: ClassVar[list[tuple[str, Any]]] = [
        ("no_option", 1),
        ("step_scale", "auto"),
        ("hidden_features", 1),
    ]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    # its state is shaped as singular vectors, not as the parameter: tests/optim/test_tracked.py
    test_every_shape_in_every_precision: ClassVar[None] = None

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **{"solver": "tracked", **options})
