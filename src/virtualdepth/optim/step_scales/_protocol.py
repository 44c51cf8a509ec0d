"""What every step scale has: checks, memory, and a multiplier of P_W(G)."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from virtualdepth.maths import Preconditioned
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Group, GroupStep, States
from virtualdepth.optim.solvers import SOLVERS, Knows, solve


class StepScale:
    """What multiplies P_W(G). A subclass without memory only has to fill in :meth:`multiplier`."""

    # what the solver has to find out about a matrix
    needs: ClassVar[Knows] = Knows.SPECTRUM
    # what a group remembers, and how it begins
    memory: ClassVar[Mapping[str, Any]] = {}
    # what the state of each parameter must have
    state_keys: ClassVar[frozenset[str]] = frozenset()
    # whether a flag on a device can undo its writes
    maskable: ClassVar[bool] = True
    # options that it cannot have, and why
    cannot: ClassVar[Mapping[str, str]] = {}
    # whether it can act on a parameter of which several processes hold parts
    sharded: ClassVar[bool] = False
    # whether it chooses the whole step, and leaves none to another optimizer
    chooses_step: ClassVar[bool] = False
    # whether it is a rule for gradients, not for the updates of another optimizer
    gradients_only: ClassVar[bool] = False
    # whether another optimizer has to have a learning rate for it
    needs_lr: ClassVar[bool] = False

    def check(self, group: Mapping[str, Any], number: int) -> None:
        """Refuse a group whose options or parameters it has no meaning for."""

    def init(self, group: Group, states: States) -> None:
        """Make the memory and state that a step will need, unless they are there already."""
        self.init_memory(group)

    def init_memory(self, group: Group) -> None:
        """Make what the group remembers, unless it is there already."""
        for key, value in self.memory.items():
            # of one kind from the start: a distributed checkpoint is loaded into what is there
            group[key] = type(value)(group.get(key, value))

    def multiplier(
        self, preconditioned: Preconditioned, group: Mapping[str, Any], lr: Any
    ) -> Tensor | None:
        """Compute what multiplies one P_W(G), broadcast against (..., m, n); None for 1."""
        raise NotImplementedError

    def multipliers(self, step: GroupStep, lr: Any) -> Sequence[Tensor | None]:
        """Compute the multiplier of each P_W(G) of a step, and note what to write."""
        return [self.multiplier(m.preconditioned, step.group, lr) for m in step.matrices]

    def out_of_units(
        self,
        preconditioned: Preconditioned,
        multiplier: Tensor | None,
        group: Mapping[str, Any],
        lr: Any,
    ) -> Tensor:
        """Multiply a P_W(G), (..., m, n), that is in units of its own."""
        direction = preconditioned.direction
        return direction if multiplier is None else multiplier * direction

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

        ``lr`` multiplies it later. ``rounded`` says that it will be stored in the dtype of the
        parameter, as momentum and gradients are, and has to be finite there. ``loss`` is what the
        closure returned.
        """
        solve(step.matrices, finite)
        if SOLVERS[step.group["solver"]].moves_parameter:
            return
        for matrix, multiplier in zip(step.matrices, self.multipliers(step, lr), strict=True):
            preconditioned = matrix.preconditioned
            del matrix.preconditioned  # so that each matrix holds one update, not two
            direction = preconditioned.scaled_direction
            if preconditioned.units is not None:
                direction = self.out_of_units(preconditioned, multiplier, step.group, lr)
            elif multiplier is not None:
                direction = multiplier * direction
            stored = direction.to(matrix.parameter.dtype) if rounded else direction
            matrix.direction_peak = finite.check(matrix.name, "update", stored)
            matrix.direction = matrix.view.join(direction, like=matrix.weight)
