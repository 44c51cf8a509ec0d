"""``precondition_frequency``: W is decomposed every so many steps; between, P acts in that basis.

A step between two decompositions takes four products: P_{W'}(G), where W' is W at the last one. W
is decomposed at once if something other than the step has changed it, or if the depth is new.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import LinAlgError, SingularBasis, in_dtype, working_dtype
from virtualdepth.maths.jacobi import fingerprint, fingerprint_differs
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix, State
from virtualdepth.optim.solvers._protocol import Knows, Solver, computable

_TENSORS = ("basis_left", "basis_values", "basis_right")
_NUMBERS: Mapping[str, Any] = {
    "basis_depth": 0.0,  # of the last step
    "basis_steps": 0,
    "basis_phase": 0.0,  # where in a round of `precondition_frequency` steps its turn is
    "basis_decomposed": 0,  # at how many steps
    "basis_changed": 0,  # and at how many of them because W was another
}
_KEPT = (*_TENSORS, "basis_image")
BASIS_KEYS = frozenset({*_KEPT, *_NUMBERS})


class _Cache(NamedTuple):
    """What a checkpoint leaves out, because it follows from what a checkpoint holds."""

    version: int  # the parameter's count of writes, after our last one
    basis: SingularBasis  # the one in the state, with its kernel


class KeptBasisSolver(Solver):
    """P_W(G) in the singular basis that W had some steps ago."""

    knows: ClassVar[Knows] = Knows.DECOMPOSITION
    keeps_state: ClassVar[bool] = True

    def check_state(self, matrix: Matrix) -> None:
        """Refuse a basis that is incomplete, or of no matrix like this one."""
        found = {key for key in matrix.state if key.startswith("basis_")}
        if not found:
            return
        shapes = [tuple(each.shape) for each in self._empty(matrix)]
        kept = [tuple(matrix.state[key].shape) for key in _KEPT if key in found]
        # of other blocks, if these have changed since: then W is decomposed anew
        fits = kept == shapes or (kept[-1] != shapes[-1] and _is_basis(kept))
        if found != BASIS_KEYS or not fits:
            raise ValueError(
                f"{matrix.name}: expected a singular basis of shapes {shapes} but got {kept}, with "
                f"the keys {sorted(found)}; nothing was loaded"
            )

    def init(self, matrix: Matrix) -> None:
        """Make room for a basis; the first step finds it."""
        state = matrix.state
        if not self._fits(matrix):
            state.update(zip(_KEPT, self._empty(matrix), strict=True), **_NUMBERS)

    def _fits(self, matrix: Matrix) -> bool:
        return _has_basis(matrix.state, matrix.view.split(matrix.parameter))

    def _empty(self, matrix: Matrix) -> list[Tensor]:
        """Make zeros of the shapes that the basis and the image of a matrix have."""
        p, structure = matrix.parameter, matrix.view.structure
        split = matrix.view.split(p)
        blocks = structure.to_blocks(torch.empty(split.shape, dtype=torch.float32, device="meta"))
        *batch, rows, columns = blocks.shape
        short, long = sorted((rows, columns))
        pairs = (2,) if blocks.is_complex() else ()
        shapes = [(*batch, short, short, *pairs), (*batch, short), (*batch, short, long, *pairs)]
        shapes.append(tuple(split.shape[:-1]))
        dtype = working_dtype(p)
        return [torch.zeros(shape, dtype=dtype, device=p.device) for shape in shapes]

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in P_W(G), and the basis that the state must remember."""
        for matrix in matrices:
            weight, grad = matrix.view.split(matrix.weight), matrix.view.split(matrix.grad)
            if finite.pending:
                weight = computable(weight)
            weight = in_dtype(weight, working_dtype(weight, grad))
            matrix.outcome = basis = self._basis(matrix, weight)
            group = matrix.group
            matrix.preconditioned = matrix.view.structure.preconditioned_in(
                basis,
                grad,
                float(group["depth"]),
                group["rtol"],
                group["imbalance"],
                peaks=matrix.peaks,
            )

    def _basis(self, matrix: Matrix, weight: Tensor) -> SingularBasis:
        """Find the basis to act in, and note what the state must remember."""
        state = matrix.states.get(matrix.parameter, {})
        if not _has_basis(state, weight):
            state = {}
        due = begin_turn(matrix, state)
        if is_of_depth(matrix, state):
            changed = _was_changed(matrix, state, weight)
            if not changed and not due:
                return _kept(matrix, state)
            matrix.new_state["basis_changed"] = state["basis_changed"] + changed
        new = note_decomposed(matrix, state)
        try:
            basis = matrix.view.structure.singular_basis(weight)
        except LinAlgError as error:
            raise LinAlgError(f"{matrix.name}: {error}") from error
        new.update(zip(_TENSORS, basis.real(), strict=True))
        return basis

    def moved(self, matrix: Matrix) -> None:
        """Note what the step has made of the parameter, to tell later changes from it."""
        parameter, basis = matrix.parameter, matrix.outcome
        weight = matrix.view.split(parameter.detach())
        image = fingerprint(in_dtype(weight, basis.singular_values.dtype))
        matrix.state["basis_image"] = image
        matrix.caches[parameter] = _Cache(parameter._version, basis)

    def note(self, state: State) -> str:
        """Say how often W was decomposed."""
        if state.get("basis_steps", 0) == 0:
            return ""
        changed = state["basis_changed"]
        return f"decomposed at {state['basis_decomposed']} of {state['basis_steps']} steps" + (
            f", {changed} times because the weight was changed from outside" if changed else ""
        )

    def cached_tensors(self, matrix: Matrix) -> list[Tensor]:
        """List the kernel of the last basis."""
        cache = matrix.caches.get(matrix.parameter)
        return cache.basis.built_tensors() if isinstance(cache, _Cache) else []


def begin_turn(matrix: Matrix, state: State) -> bool:
    """Count a step; tell whether it is the turn of a matrix to be decomposed."""
    steps = state.get("basis_steps", 0)
    new = matrix.new_state = {"basis_steps": steps + 1}
    if steps == 0:
        new.update(_NUMBERS, basis_steps=1)
        return True
    if steps == 1:  # by now every matrix has a basis
        new["basis_phase"] = _phase(matrix)
    frequency = matrix.group["precondition_frequency"]
    turn = int(frequency * new.get("basis_phase", state["basis_phase"]))
    return bool((steps - turn) % frequency == 0)


def is_of_depth(matrix: Matrix, state: State) -> bool:
    """Tell whether a state holds a basis that a step at this depth has used."""
    steps = state.get("basis_steps", 0)
    return steps != 0 and bool(state["basis_depth"] == float(matrix.group["depth"]))


def note_decomposed(matrix: Matrix, state: State) -> State:
    """Note that this step decomposes W; return what will be remembered."""
    new = matrix.new_state
    new["basis_decomposed"] = state.get("basis_decomposed", 0) + 1
    new["basis_depth"] = float(matrix.group["depth"])
    return new


def _has_basis(state: State, weight: Tensor) -> bool:
    """Tell whether a state has room for a basis of W; not if its blocks have changed since."""
    image = state.get("basis_image")
    return image is not None and image.shape == weight.shape[:-1]


def _is_basis(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Tell whether U, sigma, V^T and an image of these shapes are a basis of some blocks."""
    if len(shapes) < len(_KEPT) or not shapes[1]:
        return False
    left, (*batch, short), right, _ = shapes
    pairs = left[len(batch) + 2 :]  # complex numbers have a last dimension of 2
    long = right[len(batch) + 1 : len(batch) + 2]
    return left == (*batch, short, short, *pairs) and right == (*batch, short, *long, *pairs)


def _phase(matrix: Matrix) -> float:
    """Tell which share of the work of all decompositions comes before that of a matrix."""
    # so that the decompositions of a round are spread evenly over its steps, whatever their sizes
    work, before = 0.0, 0.0
    for parameter, state in matrix.states.items():
        if parameter is matrix.parameter:
            before = work
        if isinstance(state, dict) and "basis_right" in state:
            left, values, right = (state[key] for key in _TENSORS)
            work += values.shape[-1] * max(left.numel(), right.numel())
    return before / work


def _kept(matrix: Matrix, state: State) -> SingularBasis:
    """Take the basis in the state, with its kernel if that is still there."""
    cache = matrix.caches.get(matrix.parameter)
    if isinstance(cache, _Cache) and cache.basis.singular_values is state["basis_values"]:
        return cache.basis
    left, values, right = (state[key] for key in _TENSORS)
    *_, rows, columns = matrix.view.structure.to_blocks(matrix.view.split(matrix.parameter)).shape
    return SingularBasis.from_real(left, values, right, tall=rows > columns)


def _was_changed(matrix: Matrix, state: State, weight: Tensor) -> bool:
    """Tell whether W, in the dtype to compute in, is another than the last step left."""
    kept, parameter = state["basis_values"], matrix.parameter
    if kept.dtype != weight.dtype or kept.device != parameter.device:
        return True  # the model was moved, or its precision changed
    has_origin = matrix.group.get("origin") is not None
    if has_origin:  # the step started from the change of the parameter, which is looked at here
        weight = in_dtype(matrix.view.split(parameter), weight.dtype)
    cache, version = matrix.caches.get(parameter), None
    # the step of another optimizer may have moved the parameter by now
    if isinstance(cache, _Cache) and (has_origin or matrix.weight is parameter):
        version = cache.version
    if FiniteCheck.is_async(parameter) and version is not None:
        return version != parameter._version  # reading the image would wait for the device
    # writes to p.data do not count as such, and a copy or checkpoint starts its count anew
    return bool(fingerprint_differs(weight, state["basis_image"], exact=version is not None))
