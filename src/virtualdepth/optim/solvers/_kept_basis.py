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
        shapes = [tuple(each.shape) for each in _empty(matrix)]
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
        if not _has_basis(state, matrix):
            state.update(zip(_KEPT, _empty(matrix), strict=True), **_NUMBERS)

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
        state, depth = matrix.states.get(matrix.parameter, {}), float(matrix.group["depth"])
        if not _has_basis(state, matrix):
            state = {}
        steps = state.get("basis_steps", 0)
        new = matrix.new_state = {"basis_steps": steps + 1}
        if steps == 0:
            new.update(_NUMBERS, basis_steps=1)
        elif steps == 1:  # by now every matrix has a basis
            new["basis_phase"] = _phase(matrix)
        if steps != 0 and state["basis_depth"] == depth:
            frequency = matrix.group["precondition_frequency"]
            turn = int(frequency * new.get("basis_phase", state["basis_phase"]))
            changed = _was_changed(matrix, state, weight.dtype)
            if not changed and (steps - turn) % frequency != 0:
                return _kept(matrix, state)
            new["basis_changed"] = state["basis_changed"] + changed
        new["basis_decomposed"] = state.get("basis_decomposed", 0) + 1
        new["basis_depth"] = depth
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


def _empty(matrix: Matrix) -> list[Tensor]:
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


def _has_basis(state: State, matrix: Matrix) -> bool:
    """Tell whether a state has room for a basis; not if the group's blocks have changed since."""
    image = state.get("basis_image")
    return image is not None and image.shape == matrix.view.split(matrix.parameter).shape[:-1]


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
            work += state["basis_left"].shape[-1] * state["basis_right"].numel()
    return before / work


def _kept(matrix: Matrix, state: State) -> SingularBasis:
    """Take the basis in the state, with its kernel if that is still there."""
    cache = matrix.caches.get(matrix.parameter)
    left, values, right = (state[key] for key in _TENSORS)
    if isinstance(cache, _Cache) and cache.basis.singular_values is values:
        return cache.basis
    *_, rows, columns = matrix.view.structure.to_blocks(matrix.view.split(matrix.parameter)).shape
    return SingularBasis.from_real(left, values, right, tall=rows > columns)


def _was_changed(matrix: Matrix, state: State, dtype: torch.dtype) -> bool:
    """Tell whether W, computed in ``dtype``, is another than the last step left."""
    kept, parameter = state["basis_values"], matrix.parameter
    if (kept.dtype, kept.device) != (dtype, parameter.device):
        return True  # the model was moved, or its precision changed
    # the step of another optimizer, or the start of a change, may have moved the parameter by now
    start = parameter if matrix.group.get("origin") is not None else matrix.weight
    cache, version = matrix.caches.get(parameter), None
    if isinstance(cache, _Cache) and start is parameter:
        version = cache.version
    if FiniteCheck.is_async(parameter) and version is not None:
        return version != parameter._version  # reading the image would wait for the device
    image, wide = state["basis_image"], in_dtype(matrix.view.split(start), dtype)
    # writes to p.data do not count as such, and a copy or checkpoint starts its count anew
    return bool(fingerprint_differs(wide, image, exact=version is not None))
