"""Both flavours of Lightning, and a small regression problem to run them on."""

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Flavour:
    """One package of Lightning, and ours over it."""

    package: str
    ours: str

    @property
    def pl(self) -> ModuleType:
        return importlib.import_module(self.package)

    @property
    def vd(self) -> ModuleType:
        return importlib.import_module(self.ours)

    def submodule(self, name: str) -> ModuleType:
        return importlib.import_module(f"{self.package}.{name}")


FLAVOURS = [
    Flavour("pytorch_lightning", "virtualdepth.lightning"),
    Flavour("lightning.pytorch", "virtualdepth.lightning_unified"),
]


@pytest.fixture(params=FLAVOURS, ids=lambda flavour: flavour.package)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    return request.param


@pytest.fixture
def trainer(flavour: Flavour, tmp_path: Path) -> Callable[..., Any]:
    """Make a trainer that is silent and leaves nothing but what the test asks for."""

    def make(**options: Any) -> Any:
        quiet = {
            "accelerator": "cpu",
            "default_root_dir": tmp_path,
            "enable_checkpointing": False,
            "enable_model_summary": False,
            "enable_progress_bar": False,
            "logger": False,
        }
        return flavour.pl.Trainer(**{**quiet, **options})

    return make


@pytest.fixture
def float64():
    """What ``Trainer(precision="64-true").init_module()`` does, for tests that build by hand."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@dataclass(frozen=True)
class Repeated:
    """The full batch, so many times in one epoch: an epoch costs Lightning more than a step."""

    batch: tuple[Tensor, Tensor]
    steps: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return repeat(self.batch, self.steps)

    def __len__(self) -> int:
        return self.steps


SAMPLES, IN_FEATURES, OUT_FEATURES = 24, 5, 3


@pytest.fixture(scope="session")
def data() -> tuple[Tensor, Tensor]:
    """Whitened inputs and noisy linear targets, in float64."""
    generator = torch.Generator().manual_seed(7)
    draw = torch.randn(SAMPLES, IN_FEATURES, generator=generator, dtype=torch.float64)
    inputs = torch.linalg.qr(draw).Q * math.sqrt(SAMPLES)
    truth = torch.randn(IN_FEATURES, OUT_FEATURES, generator=generator, dtype=torch.float64)
    noise = torch.randn(SAMPLES, OUT_FEATURES, generator=generator, dtype=torch.float64)
    return inputs, inputs @ truth / 2 + noise / 10
