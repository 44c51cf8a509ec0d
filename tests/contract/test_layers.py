"""The suite over the explicit network kept in the state."""

from typing import Any, ClassVar

import torch
from tests.contract.end_to_end import EndToEndContract


class TestLayers(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"solver": "layers"}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "layers": {"lr": 0.05, "depth": 3, "solver": "layers"},
        "momentum of layers": {
            "lr": 0.05,
            "depth": 2,
            "solver": "layers",
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 0.1,
            "maximize": True,
        },
    }
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 2.5)
    refused_options: ClassVar[list[tuple[str, Any]]] = [
        ("weigth_decay", 1),
        ("step_scale", "unit"),
        ("origin", "init"),
        ("rtol", 1e-9),
        ("hidden_features", 1),
    ]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)
    # its state is shaped as the layers, not as the parameter: tests/optim/test_layers.py
    test_every_shape_in_every_precision: ClassVar[None] = None
