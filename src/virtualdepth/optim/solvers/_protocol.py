"""What every solver has: checks, state, and the two halves of a step."""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, ClassVar, Final

from torch import Tensor

from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix, State

# the solver that goes with every depth and option
DEFAULT: Final = "auto"


class Knows(IntEnum):
    """What a solver finds out about a matrix; each includes those before."""

    NOTHING = 0  # it does not compute P_W(G)
    SPECTRUM = 1  # P_W(G), the singular values of W, and the slopes of G along them
    DECOMPOSITION = 2  # singular vectors too, to the precision of the dtype


class Solver:
    """How P_W(G) is computed. A subclass without state only has to fill in :meth:`solve`."""

    knows: ClassVar[Knows] = Knows.SPECTRUM
    # whether a single row or column goes to the closed form of the exact solver instead
    closed_form: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = False
    # whether a flag on a device can undo its writes
    maskable: ClassVar[bool] = True
    # whether it moves the parameter itself, in its commit, and gives no direction
    moves_parameter: ClassVar[bool] = False
    # options that it cannot have, and why
    cannot: ClassVar[Mapping[str, str]] = {}
    # whether it can act on a parameter of which several processes hold parts
    sharded: ClassVar[bool] = False

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Refuse options, each valid by itself, that it cannot follow."""
        if group.get("hidden_features") is not None:
            raise ValueError(
                f"hidden_features: expected None with solver={group['solver']!r}, which has no "
                f"hidden layers, but got {group['hidden_features']!r}"
            )

    def check(self, matrix: Matrix) -> None:
        """Refuse a parameter that it cannot serve."""

    def check_state(self, matrix: Matrix) -> None:
        """Refuse a loaded state that it could not go on from."""

    def init(self, matrix: Matrix) -> None:
        """Make the state that a step will need, unless it is there already."""

    def init_other(self, state: State) -> None:
        """Mark the state of a parameter in the group that it does not serve."""

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in what is found about each matrix; neither weights nor states change."""
        raise NotImplementedError

    def commit(self, matrix: Matrix) -> None:
        """Move the parameter, if the solver does that itself."""
        raise NotImplementedError

    def moved(self, matrix: Matrix) -> None:
        """Note what it must know of the parameter after the step, if it keeps state."""

    def note(self, state: State) -> str:
        """Say what a user should know of one parameter: a line for the routing table, or none."""
        return ""

    def cached_tensors(self, matrix: Matrix) -> list[Tensor]:
        """List the tensors that it holds of a parameter beside the state."""
        return []


def computable(weight: Tensor) -> Tensor:
    """Replace what is not finite in W, while a device has not told yet whether anything is."""
    # an SVD throws on NaN; the writes of such a step are masked, so the value does not matter
    return weight.nan_to_num(0, 0, 0)
