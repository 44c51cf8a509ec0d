"""The solvers by name, and the choice between them: no other module knows the names."""

from collections.abc import Mapping, Sequence
from typing import Literal

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix
from virtualdepth.optim.solvers._exact import ExactSolver
from virtualdepth.optim.solvers._kept_basis import BASIS_KEYS, KeptBasisSolver
from virtualdepth.optim.solvers._layers import LayersSolver
from virtualdepth.optim.solvers._protocol import DEFAULT, Knows, Solver
from virtualdepth.optim.solvers._sharded_basis import (
    SHARDED_BASIS,
    begin_sharded,
    note_sharded,
    was_changed,
)
from virtualdepth.optim.solvers._tracked import TrackedSolver

__all__ = [
    "BASIS_KEYS",
    "DEFAULT",
    "SOLVERS",
    "Knows",
    "Solver",
    "SolverName",
    "StatelessSolverName",
    "begin_sharded",
    "note_sharded",
    "solve",
    "solver_label",
    "solver_of",
    "was_changed",
]

SolverName = Literal["auto", "svd", "tracked", "layers"]
# those without a state of their own, which go with another optimizer
StatelessSolverName = Literal["auto", "svd"]

EXACT = ExactSolver()
# the same where W is decomposed every so many steps only
KEPT_BASIS = KeptBasisSolver()

SOLVERS: Mapping[SolverName, Solver] = {
    "auto": EXACT,
    "svd": EXACT,
    "tracked": TrackedSolver(),
    "layers": LayersSolver(),
}


def solver_of(matrix: Matrix) -> Solver:
    """Choose the solver of one parameter."""
    solver = SOLVERS[matrix.group.get("solver", DEFAULT)]
    if solver is EXACT and matrix.group.get("precondition_frequency", 1) > 1:
        kept = SHARDED_BASIS if is_distributed(matrix.parameter) else KEPT_BASIS
        return kept if matrix.decomposes else EXACT
    return EXACT if solver.closed_form and 1 in matrix.view.shape else solver


def solver_label(matrix: Matrix) -> str:
    """Name the solver of one parameter, as the routing table does."""
    solver = solver_of(matrix)
    if solver.closed_form and 1 in matrix.view.blocks(matrix.parameter)[1:]:
        return "closed form"
    return "svd" if solver in (EXACT, KEPT_BASIS, SHARDED_BASIS) else str(matrix.group["solver"])


def solve(matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
    """Let each matrix of a group be solved by its solver; neither weights nor states change."""
    together: dict[Solver, list[Matrix]] = {}
    for matrix in matrices:
        together.setdefault(solver_of(matrix), []).append(matrix)
    for matrix in matrices:
        weight = matrix.weight_peak = finite.check(matrix.name, matrix.kind, matrix.weight)
        grad = finite.check(matrix.name, "gradient", matrix.grad)
        if isinstance(weight, float) and isinstance(grad, float):
            matrix.peaks = weight, grad
    for solver, members in together.items():
        if not solver.maskable:
            finite.raise_pending()  # it reads numbers: on a device too, the step waits here
        solver.solve(members, finite)
        result = "outcome" if solver.moves_parameter else "preconditioned"
        for matrix in members:
            if getattr(matrix, result, None) is None:
                raise RuntimeError(
                    f"{matrix.name}: expected {type(solver).__name__}.solve to fill in {result!r} "
                    "but got nothing; this is a fault of the solver"
                )
