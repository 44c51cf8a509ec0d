"""Which way of computing a step serves which matrix."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from virtualdepth.maths import Preconditioned, polar_gradient, preconditioned_gradient

SOLVERS = ("auto", "svd", "polar", "tracked", "layers")

# the protocol of a solver without state: (W, G, depth, rtol) -> P_W(G)
GradientSolver = Callable[[Tensor, Tensor, float, float | None], Preconditioned]

GRADIENT_SOLVERS: Mapping[str, GradientSolver] = {
    "svd": preconditioned_gradient,
    "polar": polar_gradient,
}


def solver_of(group: Mapping[str, Any], matrices: Tensor) -> str:
    """Choose the solver of one parameter.

    "auto" leaves the exact path only for what costs less than a third of it. On one CPU thread
    nothing does (docs/benchmarks.md): runs of "tracked" from torch's default start, in float32,
    take 1.8 to 2.6 times less at 256 to 1024 square where steps move W by a third of a percent, and
    0.9 to 1.6 where by a percent or more; "polar" takes as long as the SVD, or longer. On other
    devices nothing was measured. So "auto" is exact everywhere.

    Args:
        group: options.
        matrices: the parameter as (..., m, n).

    Returns:
        "layers", "tracked", or a key of ``GRADIENT_SOLVERS``.
    """
    solver = str(group.get("solver", "auto"))
    # a single row or column has a closed form, which none of the others beats
    if solver == "auto" or (solver != "layers" and 1 in matrices.shape[-2:]):
        return "svd"
    return solver


def check_solver(group: Mapping[str, Any]) -> None:
    """Refuse options that a group's solver cannot follow.

    Args:
        group: option -> value, each valid by itself.

    Raises:
        ValueError: if two of them do not go together.
    """
    solver = group["solver"]
    if group.get("hidden_features") is not None and solver != "layers":
        raise ValueError(
            "hidden_features: expected None, since only solver='layers' has hidden layers, but got "
            f"{group['hidden_features']!r} with solver={solver!r}"
        )
    if solver == "layers":
        _check_layers(group)
    if solver == "polar":
        _check_polar(group)
    if solver in {"polar", "tracked"} and group.get("step_scale") == "auto":
        raise ValueError(
            "step_scale: expected 'raw', 'unit' or 'rms' but got 'auto', which needs every W "
            f"decomposed, with solver={solver!r}; use solver='svd'"
        )


def _check_layers(group: Mapping[str, Any]) -> None:
    depth = group["depth"]
    if math.isinf(depth) or depth % 1 != 0:
        raise ValueError(
            "depth: expected an integer with solver='layers', the explicit network, but got "
            f"{depth!r}; other depths need solver='svd'"
        )
    for name, expected in (("step_scale", "raw"), ("origin", None), ("rtol", None)):
        if group.get(name) != expected:
            raise ValueError(
                f"{name}: expected {expected!r} with solver='layers', which has no P_W(G) that it "
                f"could act on, but got {group[name]!r}; use solver='svd'"
            )


def _check_polar(group: Mapping[str, Any]) -> None:
    if group["depth"] not in {1, 2}:
        raise ValueError(
            f"depth: expected 2 with solver='polar' but got {group['depth']!r}; other depths need "
            "solver='svd' or 'tracked'"
        )
    if group.get("step_scale") == "unit" or group.get("rtol") is not None:
        raise ValueError(
            "step_scale, rtol: expected 'raw' or 'rms', and None, with solver='polar', which knows "
            f"no singular values, but got {group['step_scale']!r} and {group['rtol']!r}; use "
            "solver='svd' or 'tracked'"
        )
