"""Train a layer as if it were N layers deep, without adding a parameter.

``import virtualdepth as vd`` loads nothing; every name loads what it needs on first use: torch, and
for ``vd.lightning`` and the other subpackages of an extra what that extra installs.
"""

from importlib import import_module

TYPE_CHECKING = False  # as in typing, whose import would keep Ctrl-C without an answer for longer

__all__ = [
    "CPTensor",
    "DeepLinear",
    "EndToEndSGD",
    "HierarchicalTensor",
    "balanced_factors",
    "balancedness",
    "decay_penalty",
    "depth_kernel",
    "effective_rank",
    "end_to_end_product",
    "factorize",
    "init",
    "nuclear_norm",
    "param_groups",
    "precondition",
    "routing",
    "schatten_norm",
    "stable_rank",
    "with_depth",
]

_HOME = {
    "maths": (
        "balanced_factors",
        "balancedness",
        "decay_penalty",
        "depth_kernel",
        "effective_rank",
        "end_to_end_product",
        "nuclear_norm",
        "precondition",
        "schatten_norm",
        "stable_rank",
    ),
    "networks": ("CPTensor", "DeepLinear", "HierarchicalTensor", "factorize", "init"),
    "optim": ("EndToEndSGD", "param_groups", "routing", "with_depth"),
}
_PACKAGE_OF = {name: package for package, names in _HOME.items() for name in names}

_SUBPACKAGES = frozenset(
    {
        "distributed",
        "estimators",
        "lightning",
        "lightning_unified",
        "maths",
        "metrics",
        "networks",
        "optim",
        "plotting",
        "theory",
    }
)

if TYPE_CHECKING:
    from virtualdepth import distributed as distributed
    from virtualdepth import estimators as estimators
    from virtualdepth import lightning as lightning
    from virtualdepth import lightning_unified as lightning_unified
    from virtualdepth import metrics as metrics
    from virtualdepth import plotting as plotting
    from virtualdepth import theory as theory
    from virtualdepth.maths import (
        balanced_factors,
        balancedness,
        decay_penalty,
        depth_kernel,
        effective_rank,
        end_to_end_product,
        nuclear_norm,
        precondition,
        schatten_norm,
        stable_rank,
    )
    from virtualdepth.networks import CPTensor, DeepLinear, HierarchicalTensor, factorize, init
    from virtualdepth.optim import EndToEndSGD, param_groups, routing, with_depth

    __version__: str
else:  # a __getattr__ would hide misspelled names from type checkers

    def __getattr__(name: str) -> object:
        if name in _PACKAGE_OF:
            found = getattr(import_module(f"{__name__}.{_PACKAGE_OF[name]}"), name)
        elif name in _SUBPACKAGES:
            found = import_module(f"{__name__}.{name}")
        elif name == "__version__":
            from importlib.metadata import version

            found = version(__name__)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_SUBPACKAGES, "__version__"})
