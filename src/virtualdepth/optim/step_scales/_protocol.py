"""What every step scale has: checks, state, and a factor on P_W(G)."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from virtualdepth.maths import Preconditioned
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Group, GroupStep, States
from virtualdepth.optim.solvers import Knows, solve


class StepScale:
    """What multiplies P_W(G). A subclass without memory only has to fill in :meth:`factor`."""

    # what the solver has to find out about a matrix
    needs: ClassVar[Knows] = Knows.SPECTRUM
    # what a group remembers, and how it begins
    memory: ClassVar[Mapping[str, Any]] = {}
    # whether a flag on a device can undo its writes
    maskable: ClassVar[bool] = True
    # whether it can act on a parameter of which several processes hold parts
    sharded: ClassVar[bool] = False
    # whether it chooses the whole step, and leaves none to another optimizer
    chooses_step: ClassVar[bool] = False
    # whether it is a rule for gradients, not for the updates of another optimizer
    gradients_only: ClassVar[bool] = False
    # whether another optimizer has to have a learning rate for it
    needs_lr: ClassVar[bool] = False

    def check(self, group: Mapping[str, Any]) -> None:
        """Refuse a group whose options or parameters it has no meaning for."""

    def init(self, group: Group, states: States) -> None:
        """Make the memory and state that a step will need, unless they are there already."""
        for key, value in self.memory.items():
            group.setdefault(key, copy.copy(value))

    def factor(self, found: Preconditioned, group: Mapping[str, Any], lr: Any) -> Tensor | None:
        """Compute what multiplies one P_W(G), broadcast against (..., m, n); None for 1."""
        raise NotImplementedError

    def factors(self, step: GroupStep, lr: Any) -> Sequence[Tensor | None]:
        """Compute the factor of each matrix of a step, and note what to remember."""
        found = [matrix.found for matrix in step.matrices]
        return [None if each is None else self.factor(each, step.group, lr) for each in found]

    def compute(
        self,
        step: GroupStep,
        finite: FiniteCheck,
        *,
        lr: Any,
        rounded: bool,
        loss: float | None = None,
    ) -> None:
        """Fill in the direction of each matrix: scaled P_W(G), in float32 or float64.

        ``lr`` is what it will be multiplied by; ``rounded`` says that it will be kept in the dtype
        of the parameter, as momentum and gradients are, and has to be finite there. ``loss`` is
        what the closure returned.
        """
        solve(step.matrices, finite)
        for matrix, factor in zip(step.matrices, self.factors(step, lr), strict=True):
            if matrix.found is None:
                continue  # its solver moves the parameter itself
            scaled = matrix.found.direction if factor is None else factor * matrix.found.direction
            matrix.found = None  # one update for each matrix is kept, not two
            kept = scaled.to(matrix.parameter.dtype) if rounded else scaled
            finite.check(matrix.name, "update", kept)
            matrix.direction = matrix.view.join(scaled, like=matrix.parameter)
