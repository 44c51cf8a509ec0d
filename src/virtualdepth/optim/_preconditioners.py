"""P_W of each parameter that an optimizer trains, as a linear map; kernels of models need it."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer

from virtualdepth.maths import LinAlgError, check_finite, in_dtype, working_dtype
from virtualdepth.optim._end_to_end_sgd import EndToEndSGD
from virtualdepth.optim._matrices import Matrix, matrix_of
from virtualdepth.optim._options import check_group
from virtualdepth.optim._origin import change_since_origin

Preconditioning = Callable[[Tensor], Tensor]


def preconditioners(optimizer: Optimizer) -> dict[Tensor, Preconditioning]:
    """Map each trained parameter to its P_W, without step scale and rate; 1 for a plain one."""
    if not isinstance(optimizer, EndToEndSGD):
        raise TypeError(
            f"optimizer: expected an EndToEndSGD but got {type(optimizer).__name__}; for gradient "
            "descent leave it out"
        )
    maps = {}
    for number, group in enumerate(optimizer.param_groups):
        check_group(group, number)  # the options are live
        for index, parameter in enumerate(group["params"]):
            if not parameter.requires_grad:
                continue
            matrix = matrix_of(group, number, index, optimizer.state)
            maps[parameter] = _unchanged if matrix is None else _preconditioning(matrix)
    return maps


def _unchanged(grad: Tensor) -> Tensor:
    return grad


def _preconditioning(matrix: Matrix) -> Preconditioning:
    """Decompose a weight once, for any number of gradients."""
    group, view = matrix.group, matrix.view
    weight = matrix.weight if group["origin"] is None else change_since_origin(matrix)
    check_finite(weight, matrix.name)
    try:
        basis = view.structure.singular_basis(view.split(weight.detach()))
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    options = float(group["depth"]), group["rtol"], group["imbalance"]

    def apply(grad: Tensor) -> Tensor:
        wide = in_dtype(grad, working_dtype(weight, grad))
        found = view.structure.preconditioned_in(basis, view.split(wide), *options)
        return in_dtype(view.join(found.direction, like=grad), grad.dtype)

    return apply
