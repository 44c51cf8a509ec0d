"""How a parameter is seen as matrices, and the records that travel through a step."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from virtualdepth.distributed import check_not_flattened, is_distributed
from virtualdepth.maths import STRUCTURES, Peaks, Preconditioned, Structure, StructureName
from virtualdepth.optim._finite_check import Peak

Group = dict[str, Any]
State = dict[str, Any]
States = Mapping[Tensor, State]
Caches = dict[Tensor, Any]
Counts = dict[Tensor, int]  # parameter -> number of matrices it is; 0 for a plain one
Writes = list[tuple[State, State]]  # (where, what): dicts to update once the step is taken

# the structure that a group without the option has: the matrix itself
_MATRIX: Final = "matrix"

# of convolutions: the value of all other modules, and why a structure may refuse another one
_CONVOLUTION: Final = {
    "conv_groups": (1, "whose groups have channels of their own"),
    "transposed": (False, "which stores a channel's weights neither as a row nor as a column"),
}

# The attribute that holds the last name a parameter was seen under. A dictionary would keep the
# parameter alive; weak references would keep torch from swapping it when its model is converted
_NAME = "_virtualdepth_name"


@dataclass(frozen=True, slots=True)
class MatrixView:
    """A parameter [shape[0], ...] as ``count`` matrices [shape[0] / count, rest], or transposed.

    A convolution kernel is [out, in * height * width]. A grouped convolution has one matrix a
    group; the packed weights of attention or of an LSTM have one a block. A structure that is not
    of matrices acts on the parameter as it is stored.
    """

    shape: tuple[int, int]  # (m, n) of each matrix
    count: int = 1
    transposed: bool = False  # a transposed convolution stores its matrix transposed
    structure: Structure = STRUCTURES[_MATRIX]

    @classmethod
    def of(cls, group: Mapping[str, Any], index: int) -> "MatrixView | None":
        """Read how a group sees one of its parameters; None if depth does not act on it."""
        parameter, structure = group["params"][index], STRUCTURES[group.get("structure", _MATRIX)]
        if (
            group.get("depth", 1) == 1
            or parameter.ndim < structure.least_dimensions
            or parameter.numel() == 0  # so has a lazy parameter until it gets its shape
        ):
            return None
        if "matrix_counts" in group:  # with_depth writes them; `align_counts` keeps them in order
            count, transposed = group["matrix_counts"][index], False
        else:
            count = group.get("conv_groups", 1) * group.get("blocks", 1)
            transposed = group.get("transposed", False)
        if count == 0:
            return None
        if not structure.of_matrices:
            return cls((parameter.numel(), 1), count, transposed, structure)
        rows, columns = parameter.shape[0] // count, math.prod(parameter.shape[1:])
        shape = (columns, rows) if transposed else (rows, columns)
        return cls(shape, count, transposed, structure)

    def split(self, tensor: Tensor) -> Tensor:
        """View a parameter, or its gradient, as (m, n), or (count, m, n) for several matrices.

        >>> MatrixView((3, 36), count=2).split(torch.zeros(6, 4, 3, 3)).shape
        torch.Size([2, 3, 36])
        """
        if not self.structure.of_matrices:
            return tensor
        matrices = tensor if tensor.ndim == 2 else tensor.flatten(1)
        if self.count > 1:
            matrices = matrices.reshape(self.count, -1, matrices.shape[-1])
        return matrices.mT if self.transposed else matrices

    def join(self, matrices: Tensor, like: Tensor) -> Tensor:
        """Undo :meth:`split`: a tensor of the shape of ``like``."""
        turned = self.transposed and self.structure.of_matrices
        joined = matrices.mT if turned else matrices
        return joined if joined.shape == like.shape else joined.reshape(like.shape)

    def blocks(self, parameter: Tensor) -> tuple[int, int, int]:
        """Count the blocks that a structure makes of a parameter, and tell their shape (m, n)."""
        # of a tensor without numbers: a parameter may be large, or lie on several processes
        array = torch.empty(parameter.shape, dtype=torch.float32, device="meta")
        *many, rows, columns = self.structure.to_blocks(self.split(array)).shape
        return math.prod(many), rows, columns


Seen = tuple[str, MatrixView | None]  # a parameter's name and view; None for a plain one


@dataclass(slots=True, eq=False)
class Matrix:
    """One parameter of depth > 1, and what a step finds out about it; functions fill it in."""

    name: str
    parameter: Tensor
    view: MatrixView
    group: Group
    states: States  # of the optimizer
    caches: Caches  # what solvers hold of parameters beside their states
    # what the step starts from, both shaped as the parameter
    weight: Tensor  # what P is taken of: the parameter, or its change
    kind: str  # what messages call it; only a "weight" of zeros stands still for ever
    grad: Tensor = field(init=False)
    # what the step finds
    preconditioned: Preconditioned = field(init=False)  # P_W(G), (..., m, n); the spectrum of W
    direction: Tensor | None = None  # what the parameter moves along, shaped as the parameter
    weight_peak: Peak = math.inf  # the largest entry of the weight, in absolute value
    direction_peak: Peak = math.inf  # and of the direction
    peaks: Peaks = None  # of weight and gradient, unless reading them would wait for a device
    new_state: State = field(default_factory=dict)  # written once the step is taken
    outcome: Any = None  # what a solver hands to what it does once the step is taken

    @property
    def state(self) -> State:
        """The parameter's state; asking for it makes one."""
        return self.states[self.parameter]

    @property
    def decomposes(self) -> bool:
        """Whether P_W takes a decomposition: not of rows, columns and numbers."""
        whole = self.view.structure.of_matrices
        return self.view.structure.decomposes(self.view.shape if whole else self.parameter.shape)


@dataclass(slots=True)
class GroupStep:
    """What a step moves of one group, and what is written once the step is taken."""

    group: Group
    number: int  # of the group
    states: States  # of the optimizer
    matrices: list[Matrix] = field(default_factory=list)  # those with a gradient
    # the others that have one: name, parameter, gradient
    plain: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    decay: float = 0.0  # what multiplies W where weight decay is added to the direction
    writes: Writes = field(default_factory=list)


def learn_counts(group: Group, counts: Counts) -> None:
    """Note of how many matrices each parameter of a group consists, as the group lists them."""
    if "matrix_counts" in group:
        counts.update(zip(group["params"], group["matrix_counts"], strict=False))


def align_counts(group: Group, counts: Counts) -> None:
    """List the counts anew: the group's parameters may have been filtered or appended to."""
    if "matrix_counts" in group:
        params, listed = group["params"], group["matrix_counts"]
        # where none is known, other tensors were put in the places of the parameters
        if len(params) != len(listed) or any(p in counts for p in params):
            aligned = [counts.get(p, 0) for p in params]
            if aligned != listed:  # a new list has the group checked again
                group["matrix_counts"] = aligned


def matrix_of(
    group: Group, number: int, index: int, states: States, caches: Caches | None = None
) -> Matrix | None:
    """Make the record of one parameter, unchecked; None if depth does not act on it."""
    view = MatrixView.of(group, index)
    if view is None:
        return None
    name, parameter = parameter_name(group, number, index), group["params"][index]
    caches = {} if caches is None else caches
    return Matrix(name, parameter, view, group, states, caches, parameter, _kind(group))


def _kind(group: Group) -> str:
    return "weight of unequal layers" if group.get("imbalance", 0) > 0 else "weight"


def matrices(
    group: Group,
    number: int,
    states: States,
    caches: Caches | None = None,
    *,
    distributed: bool = False,
) -> list[Matrix]:
    """Make the records of what a group trains, and refuse what depth cannot act on."""
    found = []
    for index, parameter in enumerate(group["params"]):
        if not parameter.requires_grad and parameter.grad is None:
            continue  # frozen: whatever it is, no step will move it
        matrix = matrix_of(group, number, index, states, caches)
        if matrix is not None:
            check_matrix(matrix, distributed=distributed)
            found.append(matrix)
    return found


def seen(group: Group, number: int) -> list[Seen]:
    """Tell of each parameter of a group its name, and what depth sees of it."""
    return [
        (parameter_name(group, number, index), MatrixView.of(group, index))
        for index in range(len(group["params"]))
    ]


def begin_step(
    group: Group,
    number: int,
    as_seen: Sequence[Seen],
    states: States,
    caches: Caches,
    *,
    distributed: bool = False,
) -> GroupStep:
    """Sort the checked parameters of a group that have a gradient; refuse a gradient of no use."""
    step, kind = GroupStep(group, number, states), _kind(group)
    for parameter, (name, view) in zip(group["params"], as_seen, strict=True):
        grad = parameter.grad
        if grad is None:
            continue
        if view is None:
            step.plain.append((name, parameter, grad))
            continue
        check_dense(name, "gradient", grad, distributed=distributed)
        matrix = Matrix(name, parameter, view, group, states, caches, parameter, kind)
        matrix.grad = grad
        step.matrices.append(matrix)
    return step


def check_whole(group: Group, number: int) -> None:
    """Refuse pieces of flat vectors, in which a parameter's rows and columns are lost."""
    if group["depth"] != 1:
        for index, parameter in enumerate(group["params"]):
            check_not_flattened(parameter_name(group, number, index), parameter)


def learn_names(named: Iterable[tuple[str, Tensor]]) -> None:
    """Remember what parameters of a model, or named ones, are called: for messages and tables."""
    for name, parameter in named:
        setattr(parameter, _NAME, name)


def known_names(params: Iterable[Tensor]) -> list[tuple[str, Tensor]]:
    """List the names that were learnt: the copy of a parameter does not carry its name."""
    return [(getattr(p, _NAME), p) for p in params if hasattr(p, _NAME)]


def parameter_name(group: Mapping[str, Any], number: int, index: int) -> str:
    """Name a parameter as its user does, or by its place and shape."""
    parameter = group["params"][index]
    if hasattr(parameter, _NAME):
        return str(getattr(parameter, _NAME))
    names = group.get("param_names", ())
    if len(names) == len(group["params"]):  # not so where the parameters of a group were changed
        return str(names[index])
    shape = "not known yet" if is_lazy(parameter) else tuple(parameter.shape)
    return f"parameter {index} of group {number}, shape {shape}"


def check_matrix(matrix: Matrix, *, distributed: bool) -> None:
    """Refuse a parameter, or its gradient, that depth cannot act on."""
    name, parameter, count = matrix.name, matrix.parameter, matrix.view.count
    check_dense(name, "parameter", parameter, distributed=distributed)
    if parameter.grad is not None:
        check_dense(name, "gradient", parameter.grad, distributed=distributed)
    if 0 in parameter.stride() and _overlaps(parameter):
        raise TypeError(
            f"{name}: expected a parameter of distinct entries but got an expanded one, "
            f"strides {parameter.stride()}, which cannot be written to; pass its .clone()"
        )
    if matrix.view.structure.refuses:
        check_structure(name, matrix.group, matrix.group["structure"])
    if matrix.view.structure.of_matrices and parameter.shape[0] % count != 0:
        raise ValueError(
            f"{name}: expected rows that divide into {count} matrices (conv_groups * blocks) "
            f"but got shape {tuple(parameter.shape)}"
        )


def check_dense(name: str, what: str, tensor: Tensor, *, distributed: bool) -> None:
    """Refuse a parameter, or a gradient, that is sparse or complex, or lies in parts."""
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a dense real {what} at depth > 1 but got {tensor.dtype}, "
            f"{tensor.layout}; give its group depth=1"
        )
    if not distributed and is_distributed(tensor):
        raise TypeError(
            f"{name}: expected a {what} that lies whole on one device at depth > 1 but got "
            f"{type(tensor).__name__}; use EndToEndSGD, or give its group depth=1"
        )


def check_structure(name: str, view: Mapping[str, Any], structure: StructureName) -> None:
    """Refuse a convolution that a structure has no meaning for."""
    for key in STRUCTURES[structure].refuses:
        default, why = _CONVOLUTION[key]
        if view.get(key, default) != default:
            raise ValueError(
                f"{name}: expected {key}={default!r} with structure={structure!r} but got "
                f"{view[key]!r}, {why}; exclude it, or give its group another structure"
            )


def check_full_precision(matrix: Matrix, option: str, why: str) -> None:
    """Refuse half precision with an option that it does not go with, written as option=value."""
    dtype = matrix.parameter.dtype
    if dtype.itemsize < 4:
        raise TypeError(
            f"{matrix.name}: expected float32 or float64 with {option} but got {dtype}, {why}; "
            "keep the weights in float32 and use autocast, or leave the option out"
        )


def _overlaps(tensor: Tensor) -> bool:
    return any(
        stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
