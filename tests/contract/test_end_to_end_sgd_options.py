"""The suite over step scales and starts, which keep state of their own."""

from typing import Any, ClassVar

import torch
from tests.contract.end_to_end import EndToEndContract


class TestUnit(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"step_scale": "unit"}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "unit": {"lr": 0.05, "depth": 3, "step_scale": "unit", "momentum": 0.9},
    }
    own_option: ClassVar[tuple[str, Any]] = ("cap", 0.25)


class TestRms(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"step_scale": "rms"}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "rms": {"lr": 0.05, "depth": 3, "step_scale": "rms"},
    }
    own_option: ClassVar[tuple[str, Any]] = ("step_scale", "raw")
    # one scale is shared by the matrices of a group: what else is in it matters
    test_parameters_of_two_modules_are_one_parameter: ClassVar[None] = None
    test_every_way_of_passing_parameters_trains_the_same: ClassVar[None] = None


class TestOrigin(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"origin": "init"}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "origin": {"lr": 0.05, "depth": 3, "origin": "init", "step_scale": "unit"},
    }
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)


class TestStructures(EndToEndContract):
    """Vectors take part too: biases are blocks of a diagonal and of a circulant."""

    options: ClassVar[dict[str, Any]] = {"structure": "diagonal", "imbalance": 0.1}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "diagonal": {"lr": 0.05, "depth": 3, "structure": "diagonal", "momentum": 0.9},
        "circulant": {"lr": 0.05, "depth": 2.5, "structure": "circulant", "weight_decay": 0.1},
        "columns": {"lr": 0.05, "depth": 3, "structure": "columns", "step_scale": "unit"},
    }
    own_option: ClassVar[tuple[str, Any]] = ("structure", "rows")
    bad_option: ClassVar[tuple[str, Any]] = ("imbalance", -0.1)
    refused_options: ClassVar[list[tuple[str, Any]]] = [
        ("structure", "blocks"),
        ("structur", "rows"),
        ("solver", "tracked"),
        ("step_scale", "auto"),
    ]


class TestImbalance(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"imbalance": 0.1}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "imbalance": {"lr": 0.05, "depth": 3, "imbalance": 0.1, "step_scale": "unit"},
        "origin": {"lr": 0.05, "depth": 3, "imbalance": 0.1, "origin": "init"},
    }
    own_option: ClassVar[tuple[str, Any]] = ("imbalance", 0.5)
    bad_option: ClassVar[tuple[str, Any]] = ("imbalance", float("nan"))
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)


class TestPreconditionFrequency(EndToEndContract):
    options: ClassVar[dict[str, Any]] = {"precondition_frequency": 2}
    variants: ClassVar[dict[str, dict[str, Any]]] = {
        "raw": {"lr": 0.05, "depth": 3, "precondition_frequency": 2},
        "unit": {
            "lr": 0.05,
            "depth": 2.5,
            "precondition_frequency": 3,
            "step_scale": "unit",
            "momentum": 0.9,
        },
    }
    own_option: ClassVar[tuple[str, Any]] = ("precondition_frequency", 7)
    bad_option: ClassVar[tuple[str, Any]] = ("precondition_frequency", 0)
    refused_options: ClassVar[list[tuple[str, Any]]] = [
        ("precondition_freqency", 2),
        ("solver", "tracked"),
        ("step_scale", "auto"),
    ]
    # its state is shaped as singular vectors, not as the parameter
    test_every_shape_in_every_precision: ClassVar[None] = None
    # which step decomposes a matrix depends on how many there are
    test_an_added_group_trains_from_then_on: ClassVar[None] = None
