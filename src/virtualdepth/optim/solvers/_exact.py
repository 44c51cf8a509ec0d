"""``solver="svd"``: P_W(G) by one thin SVD of W."""

from collections.abc import Sequence
from typing import ClassVar

from virtualdepth.optim.solvers._protocol import Knows
from virtualdepth.optim.solvers._stacked import StackedSolver


class ExactSolver(StackedSolver):
    """The solver that everything else is measured by; it is "auto" too.

    On one CPU thread nothing costs less than a third of it, as docs/benchmarks.md shows: from
    torch's default start, in float32, "tracked" takes 1.8 to 2.6 times less at 256 to 1024 square
    where steps move W by a third of a percent, and 0.9 to 1.6 times where by a percent or more;
    "polar" takes as long as the SVD, or longer. Nothing was measured on other devices.
    """

    knows: ClassVar[Knows] = Knows.DECOMPOSITION
    options: ClassVar[Sequence[str]] = ("rtol", "imbalance")
    sharded: ClassVar[bool] = True
