"""Solvers without state: small matrices of one shape together take a third of the time."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch

from virtualdepth.maths import LinAlgError, Preconditioned
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix
from virtualdepth.optim.solvers._protocol import Solver, computable

# matrices of so many entries gain by being stacked, and stacks of so many take little memory
_SMALL, _STACKED = 64 * 64, 8 * 64 * 64


class StackedSolver(Solver):
    """A solver that is one pure function of W and G."""

    # of W, G, the depth and other options of the group; None for that of the structure
    gradient: Callable[..., Preconditioned] | None = None
    options: ClassVar[Sequence[str]] = ("rtol",)

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in P_W(G) of each matrix."""
        for stack in [[*matrices]] if len(matrices) == 1 else stacks(matrices):
            self._solve_stack(stack, finite)

    def _solve_stack(self, stack: Sequence[Matrix], finite: FiniteCheck) -> None:
        first, alone = stack[0], len(stack) == 1
        if alone:
            weight, grad = first.view.split(first.weight), first.view.split(first.grad)
        else:
            weight = torch.stack([matrix.view.split(matrix.weight) for matrix in stack])
            grad = torch.stack([matrix.view.split(matrix.grad) for matrix in stack])
        if finite.pending:
            weight = computable(weight)
        try:
            gradient = self.gradient or first.view.structure.preconditioned
            options = map(first.group.__getitem__, self.options)
            depth = float(first.group["depth"])
            found = gradient(weight, grad, depth, *options, peaks=first.peaks if alone else None)
        except LinAlgError as error:
            if alone:
                raise LinAlgError(f"{first.name}: {error}") from error
            for matrix in stack:  # one by one it can be told which does not converge
                self._solve_stack([matrix], finite)
            return
        if alone:
            first.preconditioned = found
        else:
            for matrix, each in zip(stack, found.unbound(), strict=True):
                matrix.preconditioned = each


def stacks(matrices: Sequence[Matrix]) -> list[list[Matrix]]:
    """Put small matrices of one shape together, a few at a time; the others stay alone."""
    alike: dict[object, list[Matrix]] = {}
    for matrix in matrices:
        shape, weight, key = matrix.view.shape, matrix.weight, object()
        alone = matrix.view.count > 1 or not matrix.view.structure.batched
        if not alone and math.prod(shape) <= _SMALL:
            key = (shape, weight.dtype, weight.device, matrix.grad.dtype)
        alike.setdefault(key, []).append(matrix)
    found = []
    for members in alike.values():
        size = max(1, _STACKED // math.prod(members[0].view.shape))
        found += [members[first : first + size] for first in range(0, len(members), size)]
    return found
