"""Train a layer as if it were N layers deep, without adding a parameter.

``import virtualdepth as vd`` loads torch and nothing heavier; ``vd.lightning`` and the other
subpackages with dependencies of their own load on first use.
"""

from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING

from virtualdepth.maths import (
    balanced_factors,
    balancedness,
    depth_kernel,
    effective_rank,
    end_to_end_product,
    nuclear_norm,
    precondition,
    schatten_norm,
    stable_rank,
)
from virtualdepth.networks import DeepLinear, init
from virtualdepth.optim import EndToEndSGD, param_groups, routing, with_depth

__version__ = version("virtualdepth")

__all__ = [
    "DeepLinear",
    "EndToEndSGD",
    "balanced_factors",
    "balancedness",
    "depth_kernel",
    "effective_rank",
    "end_to_end_product",
    "init",
    "nuclear_norm",
    "param_groups",
    "precondition",
    "routing",
    "schatten_norm",
    "stable_rank",
    "with_depth",
]

_ON_FIRST_USE = frozenset(
    {"estimators", "lightning", "lightning_unified", "metrics", "plotting", "theory"}
)


if TYPE_CHECKING:
    from virtualdepth import estimators as estimators
    from virtualdepth import lightning as lightning
    from virtualdepth import lightning_unified as lightning_unified
    from virtualdepth import metrics as metrics
    from virtualdepth import plotting as plotting
    from virtualdepth import theory as theory
else:  # a __getattr__ would hide misspelled names from type checkers

    def __getattr__(name: str) -> ModuleType:
        if name in _ON_FIRST_USE:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ON_FIRST_USE})
