"""``precondition_frequency`` where several processes hold rows, or columns, of W.

The basis is that of the Gram matrix: V and sigma, the same on every process, and the rows of U that
go with a process's own rows of W. A step between two decompositions sums U^T G over the processes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from virtualdepth.distributed import cut_dims, dtensor_like, is_distributed, local_part
from virtualdepth.maths import GramBasis, in_dtype, working_dtype
from virtualdepth.maths.jacobi import fingerprint, fingerprint_differs
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix
from virtualdepth.optim.solvers._exact import ExactSolver
from virtualdepth.optim.solvers._kept_basis import (
    KeptBasisSolver,
    begin_turn,
    is_of_depth,
    note_decomposed,
)


class ShardedBasisSolver(KeptBasisSolver):
    """What a process keeps of such a matrix; the step itself is one of all processes."""

    sharded = True

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in P_W(G) of whole matrices, fetched where the sums do not determine it."""
        ExactSolver().solve(matrices, finite)

    def init(self, matrix: Matrix) -> None:
        """Make room for a basis, unless no Gram matrix tells it, which a step refuses."""
        if len(cut_dims(matrix.parameter)) == 1:
            super().init(matrix)

    def moved(self, matrix: Matrix) -> None:
        """Note what the step has made of the local part, to tell later changes from it."""
        matrix.state["basis_image"] = _placed_image(matrix, local_part(matrix.parameter))
        matrix.caches[matrix.parameter] = True  # W was not loaded since

    def cached_tensors(self, matrix: Matrix) -> list[Tensor]:
        """List nothing: P is built anew at every step, by two small products."""
        return []

    def _fits(self, matrix: Matrix) -> bool:
        image = matrix.state.get("basis_image")
        return image is not None and is_distributed(image)

    def _empty(self, matrix: Matrix) -> list[Tensor]:
        """Make zeros of the shapes of U, sigma, V and the image."""
        p, n = matrix.parameter, _whole_side(matrix)
        square = torch.zeros(n, n, dtype=torch.float64, device=p.device)
        left = torch.zeros_like(p, dtype=working_dtype(p), requires_grad=False)
        return [left, square[0].clone(), square, _placed_image(matrix, local_part(left))]


SHARDED_BASIS = ShardedBasisSolver()


def begin_sharded(matrix: Matrix, *, refresh: bool) -> tuple[GramBasis, Tensor] | None:
    """Count a step; return V, sigma and the local part of U to act in, None to decompose W now."""
    state = matrix.states.get(matrix.parameter, {})
    due = begin_turn(matrix, state)
    if due or refresh or not is_of_depth(matrix, state):
        return None
    basis = GramBasis(state["basis_values"], state["basis_right"])
    return basis, local_part(state["basis_left"])


def note_sharded(matrix: Matrix, basis: GramBasis | None, left: Tensor | None) -> None:
    """Note the basis that a step has found, and the local part of U; None if there is none."""
    state = matrix.states.get(matrix.parameter, {})
    new = note_decomposed(matrix, state)
    if basis is None or left is None:
        new["basis_depth"] = 0.0  # so that the next step tries again
        return
    # laid out as after a checkpoint: products of another layout round differently
    placed, right = dtensor_like(left, like=matrix.parameter), basis.right.contiguous()
    new.update(basis_left=placed, basis_values=basis.singular_values, basis_right=right)


def was_changed(matrix: Matrix) -> bool:
    """Tell whether the local part of W is another than the last step left."""
    state = matrix.states.get(matrix.parameter, {})
    if not is_of_depth(matrix, state):
        return False  # it will be decomposed anyway
    kept, part = local_part(state["basis_image"]), local_part(matrix.parameter)
    flat = _flat(matrix, part)
    if kept.dtype != flat.dtype or kept.device != flat.device:
        return True  # the model was moved, or its precision changed
    exact = matrix.parameter in matrix.caches
    return bool(flat.numel()) and fingerprint_differs(flat, kept.flatten(), exact=exact)


def _whole_side(matrix: Matrix) -> int:
    """Count the columns of the matrix whose rows lie on several processes."""
    return matrix.parameter.numel() // matrix.parameter.shape[_cut(matrix)]


def _cut(matrix: Matrix) -> int:
    (dim,) = cut_dims(matrix.parameter)
    return dim


def _flat(matrix: Matrix, part: Tensor) -> Tensor:
    """View the local part, or one of its shape, as rows along the dimension that is cut."""
    return in_dtype(part.detach(), working_dtype(part)).movedim(_cut(matrix), 0).flatten(1)


def _placed_image(matrix: Matrix, part: Tensor) -> Tensor:
    """Compute the fingerprint of the local part, placed as the parameter, other sides 1."""
    p, dim = matrix.parameter, _cut(matrix)
    sides = [1] * p.ndim
    local = fingerprint(_flat(matrix, part)).reshape(*sides[:dim], -1, *sides[dim + 1 :])
    sides[dim] = p.shape[dim]
    return dtensor_like(local, like=p, shape=sides)
