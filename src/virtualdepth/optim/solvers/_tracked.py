"""``solver="tracked"``: singular vectors that follow W, kept in the state.

A sweep of rotations turns the singular vectors of the last step into those of W. If it would turn
them too far, or leaves too much, W is decomposed instead; see virtualdepth.maths.jacobi.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from virtualdepth.maths import LinAlgError, in_units, matvec
from virtualdepth.maths.jacobi import (
    MAX_RESIDUAL,
    Swept,
    exact_basis,
    fingerprint,
    precondition_in_basis,
    predicted_rows,
    sweep,
    sweep_async,
    without_sweep,
)
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix, State, check_full_precision
from virtualdepth.optim.solvers._protocol import Solver, computable

# After falling back again and again it rests, for at most so many steps; each of them is an SVD.
_LONGEST_REST = 64

# Without a sweep, at most so much may be left.
_STILL = 1e-4
# Close pairs come first after a step that left more than _LEFT, and in a step that moves W by more
# than _CROWDED over the square root of its rank. Beyond _LONG there will be two sweeps.
_LEFT, _CROWDED, _LONG = 1.5e-4, 0.045, 0.2

_TENSORS = ("left", "rows", "step", "image", "step_image")
_COUNTS = tuple(
    f"tracked_{key}" for key in ("steps", "decomposed", "resynchronised", "failures", "rest")
)


class TrackedSolver(Solver):
    """P_W(G) by matrix products, and an SVD where the singular vectors cannot follow."""

    keeps_state: ClassVar[bool] = True
    cannot: ClassVar[Mapping[str, str]] = {
        "structure": "acts on whole matrices",
        "precondition_frequency": "decomposes W when the singular vectors cannot follow",
    }

    def check(self, matrix: Matrix) -> None:
        """Refuse half precision."""
        why = "to which a checkpoint would round its singular vectors"
        check_full_precision(matrix, "solver='tracked'", why)

    def check_state(self, matrix: Matrix) -> None:
        """Refuse singular vectors that are incomplete, or of no matrix like this one."""
        state, size = matrix.state, matrix.parameter.numel()
        tensors = {key: state[f"tracked_{key}"] for key in _TENSORS if f"tracked_{key}" in state}
        if not tensors:
            return
        shapes = [tuple(tensors[key].shape) for key in _TENSORS if key in tensors]
        rows = tensors.get("rows", matrix.parameter)
        *batch, rank, _ = rows.shape
        wanted = [(*batch, rank, rank), tuple(rows.shape), tuple(rows.shape)]
        wanted += [(*batch, rank), (*batch, rank)]
        # blocks may have changed since, and with them the shape of the matrices
        if (
            shapes != wanted
            or rows.numel() != size
            or not set(state) >= {*_COUNTS, "tracked_residual"}
        ):
            raise ValueError(
                f"{matrix.name}: expected singular vectors of a matrix of {size} entries, shapes "
                f"{wanted}, but got {shapes}; nothing was loaded"
            )

    def init(self, matrix: Matrix) -> None:
        """Make room for the singular vectors; the first step finds them."""
        state, wide = matrix.state, _wide(matrix.view.split(matrix.parameter))
        if "tracked_left" in state and state["tracked_rows"].shape == wide.shape:
            return  # of another shape if the group's blocks have changed since
        square = torch.zeros_like(
            wide[..., : wide.shape[-2]], memory_format=torch.contiguous_format
        )
        empty = torch.zeros_like(wide, memory_format=torch.contiguous_format)
        tensors = (square, empty, empty.clone(), empty[..., 0].clone(), empty[..., 0].clone())
        state.update(
            {f"tracked_{key}": tensor for key, tensor in zip(_TENSORS, tensors, strict=True)}
        )
        state.update(dict.fromkeys(_COUNTS, 0), tracked_residual=0.0)

    def init_other(self, state: State) -> None:
        """Mark the state of a parameter that it does not serve."""
        # distributed checkpoints want state for every parameter, or for none
        state.setdefault("tracked_steps", 0)

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in P_W(G), and the singular vectors that the state must remember."""
        for matrix in matrices:
            self.init(matrix)
            weight = matrix.view.split(matrix.weight)
            if finite.pending:
                weight = computable(weight)
            try:
                _follow(matrix, weight, is_async=finite.is_async(weight))
            except LinAlgError as error:
                raise LinAlgError(f"{matrix.name}: {error}") from error

    def note(self, state: State) -> str:
        """Say how often W was decomposed, or its rows computed anew."""
        steps = state.get("tracked_steps", 0)
        if steps == 0:
            return ""
        return (
            f"decomposed at {state['tracked_decomposed']} of {steps} steps, resynchronised at "
            f"{state['tracked_resynchronised']}"
        )


def _wide(matrices: Tensor) -> Tensor:
    return matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices


def _follow(matrix: Matrix, weight: Tensor, *, is_async: bool) -> None:
    """Let the singular vectors in the state follow W, (..., m, n), and apply P_W to G."""
    group, state, grad = matrix.group, matrix.state, matrix.view.split(matrix.grad)
    depth = float(group["depth"])
    weight, grad, units = in_units(weight, grad, depth, group["imbalance"])
    imbalance = group["imbalance"] if units is None else units.imbalance
    wide, wide_grad = _wide(weight), _wide(grad)
    image = fingerprint(wide)
    rests = state["tracked_rest"] > 0
    # none, or of another precision or device: the model was moved
    first = state["tracked_steps"] == 0 or not _is_like(state["tracked_left"], weight)
    # not ">": what a device left may be NaN
    lost = not state["tracked_residual"] <= MAX_RESIDUAL
    skip = first or rests or lost
    swept = None if skip else _swept(wide, image, state, depth, is_async=is_async)
    basis = exact_basis(wide) if swept is None else swept.basis
    found, step = precondition_in_basis(basis, wide_grad, depth, group["rtol"], imbalance)
    matrix.new_state = {
        "tracked_left": basis.left,
        # as `_rows` expects them, whatever a checkpoint does to strides
        "tracked_rows": basis.rows if swept is None else basis.rows.contiguous(),
        "tracked_step": step,
        "tracked_image": image,
        "tracked_step_image": fingerprint(found.scaled_direction),
        "tracked_steps": state["tracked_steps"] + 1,
        **_counts(state, swept, fell_back=swept is None and not first and not rests),
        "tracked_residual": 0.0 if swept is None else swept.residual,
    }
    direction = found.scaled_direction
    if weight.shape[-2] > weight.shape[-1]:
        direction = direction.mT
    matrix.preconditioned = found._replace(scaled_direction=direction, units=units)


def _is_like(tensor: Tensor, other: Tensor) -> bool:
    return (tensor.dtype, tensor.device) == (other.dtype, other.device)


def _swept(
    wide: Tensor, image: Tensor, state: State, depth: float, *, is_async: bool
) -> Swept | None:
    """Turn the singular vectors to those of W; None if it moved too far."""
    left, rows, step, before, along = (state[f"tracked_{key}"] for key in _TENSORS)
    if is_async:
        return sweep_async(left, left.mT @ wide, depth)
    moved = predicted_rows(_rows(state, rows), step, before, along, image)
    # of two rows any image lies in the plane of the other two, and would tell nothing
    if left.shape[-1] == 2 or not _is_image(moved, left, image):
        moved = left.mT @ wide
    last = state["tracked_residual"]
    moved_by = float(torch.linalg.vector_norm(image - before) / torch.linalg.vector_norm(before))
    if last + moved_by < _STILL:
        stayed = without_sweep(left, moved, depth)
        if stayed.residual < _STILL:
            return stayed
    # rotations grow with the density of the singular values
    turns = moved_by * left.shape[-1] ** 0.5
    shifted = state["tracked_steps"] % 2 == 1 or turns > _LONG
    return sweep(left, moved, depth, blocks_first=last > _LEFT or turns > _CROWDED, shifted=shifted)


def _rows(state: State, rows: Tensor) -> Tensor:
    """Lay rows out as they were: by columns after a decomposition, which left no residual."""
    # products of another layout round differently
    return rows.mT.contiguous().mT if state["tracked_residual"] == 0 else rows


def _is_image(rows: Tensor, left: Tensor, image: Tensor) -> bool:
    """Tell whether A z = U^T W z, to what rounding leaves after many steps; NaN is not."""
    expected = matvec(left.mT, image)
    bound = 256 * torch.finfo(rows.dtype).eps * torch.linalg.vector_norm(expected)
    return bool(torch.linalg.vector_norm(fingerprint(rows) - expected) <= bound)


def _counts(state: State, swept: Swept | None, *, fell_back: bool) -> dict[str, int]:
    """Count decompositions; each fall-back in a row doubles the number of steps to rest."""
    failures, rest = state["tracked_failures"], max(state["tracked_rest"] - 1, 0)
    last = state["tracked_residual"]
    if fell_back:
        rest = min(2**failures, _LONGEST_REST) - 1
        failures += 1
    elif swept is not None and (last > 0 or not isinstance(swept.residual, Tensor)):
        # a device tells one step later whether a sweep was good; after an SVD nothing is left
        failures = 0
    return {
        "tracked_decomposed": state["tracked_decomposed"] + (swept is None),
        "tracked_resynchronised": state["tracked_resynchronised"]
        + (swept is not None and swept.reorthogonalised),
        "tracked_failures": failures,
        "tracked_rest": rest,
    }
