"""What every function of this level asks of its matrices."""

import torch
from torch import Tensor


def check_matrix(tensor: Tensor, name: str = "weight") -> None:
    """Refuse what is not a matrix, or a batch of matrices, of real floating-point numbers.

    Args:
        tensor: (..., m, n), dense.
        name: what the error message calls it.

    Raises:
        TypeError: if it is no tensor, or a complex, integer or sparse one.
        ValueError: if it has fewer than two dimensions.

    >>> check_matrix(torch.eye(2))
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor but got {type(tensor).__name__}")
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a dense real floating-point tensor but got "
            f"{tensor.dtype}, {tensor.layout}"
        )
    if tensor.ndim < 2:
        raise ValueError(
            f"{name}: expected a matrix (..., m, n) but got shape {tuple(tensor.shape)}"
        )


def widened(tensor: Tensor) -> Tensor:
    """Take half precision to float32, in which sums of squares neither overflow nor lose digits.

    Args:
        tensor: floating-point, any shape.

    Returns:
        The tensor in float32 if it was narrower, else the tensor itself.

    >>> widened(torch.ones(2, dtype=torch.float16)).dtype
    torch.float32
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check_finite(tensor: Tensor, name: str = "weight") -> None:
    """Refuse NaN and inf, on which a decomposition would fail with an error that names nothing.

    Args:
        tensor: any shape.
        name: what the error message calls it.

    Raises:
        ValueError: if an entry is not finite.

    >>> check_finite(torch.eye(2))
    """
    if not torch.isfinite(tensor).all():
        raise ValueError(
            f"{name}: expected finite numbers but got NaN or inf; if it comes from training, the "
            "run has probably diverged: lower the learning rate"
        )
