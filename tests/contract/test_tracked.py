"""The suite over singular vectors that follow the weight."""

from typing import Any, ClassVar

import torch
from tests.contract.end_to_end import EndToEndContract


class TestTracked(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"solver": "tracked"}
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
    refused_options: ClassVar[list[tuple[str, Any]]] = [
        ("weigth_decay", 1),
        ("step_scale", "auto"),
        ("hidden_features", 1),
    ]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    # its state is shaped as singular vectors, not as the parameter: tests/optim/test_tracked.py
    test_every_shape_in_every_precision: ClassVar[None] = None
