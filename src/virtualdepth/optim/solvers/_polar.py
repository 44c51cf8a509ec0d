"""``solver="polar"``: depth 2 by matrix products alone, from the polar factor of W."""

from collections.abc import Mapping
from typing import Any, ClassVar

from virtualdepth.maths import polar_gradient
from virtualdepth.optim.solvers._protocol import DEFAULT, Knows
from virtualdepth.optim.solvers._stacked import StackedSolver


class PolarSolver(StackedSolver):
    """P_W(G) of depth 2 without singular values."""

    gradient = staticmethod(polar_gradient)
    knows: ClassVar[Knows] = Knows.DIRECTION
    cannot: ClassVar[Mapping[str, str]] = {
        "structure": "acts on whole matrices",
        "imbalance": "finds U V^T of W, and not the root of W W^T + imbalance^2 / 4",
        "precondition_frequency": "decomposes nothing",
    }

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Refuse other depths, and a cut-off of singular values."""
        super().check_options(group)
        if group["depth"] not in {1, 2}:
            raise ValueError(
                f"depth: expected 2 with solver='polar' but got {group['depth']!r}; for other "
                f"depths use solver={DEFAULT!r}"
            )
        if group.get("rtol") is not None:
            raise ValueError(
                "rtol: expected None with solver='polar', which knows no singular values, but got "
                f"{group['rtol']!r}; use solver={DEFAULT!r}"
            )
