"""``solver="svd"``: P_W(G) by one thin SVD of W."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from virtualdepth.maths import LinAlgError
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix
from virtualdepth.optim.solvers._protocol import Knows, Solver, computable

# matrices of so many entries gain by being stacked, and stacks of so many take little memory
_SMALL, _STACKED = 64 * 64, 8 * 64 * 64


class ExactSolver(Solver):
    """The solver that everything else is measured by; it is "auto" too.

    On one CPU thread nothing costs less than a third of it at every step, as docs/benchmarks.md
    shows: from torch's default start, in float32, "tracked" takes 1.8 to 2.6 times less at 256 to
    1024 square where steps move W by a third of a percent, and 0.9 to 1.6 times where by a percent
    or more. Nothing was measured on other devices.
    """

    knows: ClassVar[Knows] = Knows.DECOMPOSITION
    sharded: ClassVar[bool] = True

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in P_W(G) of each matrix; small ones of one shape together take a third."""
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
        group = first.group
        try:
            found = first.view.structure.preconditioned(
                weight,
                grad,
                float(group["depth"]),
                group["rtol"],
                group["imbalance"],
                peaks=first.peaks if alone else None,
            )
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
