"""What the functions of this package require of their inputs."""

import math
from numbers import Real

import torch
from torch import Tensor

# the device whose numbers can be read without waiting for it
HOST = "cpu"


def check_depth(depth: float, name: str = "depth") -> float:
    """Return a valid depth, 1 <= N <= inf, as a float; refuse anything else by ``name``."""
    if isinstance(depth, bool) or not isinstance(depth, Real):
        raise TypeError(
            f"{name}: expected a real number >= 1 or inf but got {depth!r} "
            f"of type {type(depth).__name__}"
        )
    if not depth >= 1:
        raise ValueError(f"{name}: expected a real number >= 1 or inf but got {depth!r}")
    return float(depth)


def check_rtol(rtol: float | None) -> float | None:
    """Return a valid relative rank tolerance, None or 0 <= rtol < 1; refuse anything else."""
    if rtol is None:
        return None
    if isinstance(rtol, bool) or not isinstance(rtol, Real):
        raise TypeError(f"rtol: expected None or a number in [0, 1) but got {rtol!r}")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol: expected None or a number in [0, 1) but got {rtol!r}")
    return rtol


def check_imbalance(imbalance: float, depth: float = 1.0, name: str = "imbalance") -> float:
    """Return a valid imbalance, 0 <= lambda < inf, as a float; refuse others by ``name``."""
    if isinstance(imbalance, bool) or not isinstance(imbalance, Real):
        raise TypeError(
            f"{name}: expected a finite number >= 0 but got {imbalance!r} "
            f"of type {type(imbalance).__name__}"
        )
    if not 0 <= imbalance < math.inf:
        raise ValueError(f"{name}: expected a finite number >= 0 but got {imbalance!r}")
    if math.isinf(depth) and imbalance != 0:
        raise ValueError(
            f"{name}: expected 0 at infinite depth but got {imbalance!r}: the gain of a zero, "
            "imbalance^(N-1) / N, has no limit; give a finite depth"
        )
    return float(imbalance)


def check_imbalance_held(imbalance: float, dtype: torch.dtype, depth: float = 2.0) -> None:
    """Refuse an imbalance that a dtype cannot hold, or whose power N/2, the size of a zero."""
    power = max(1.0, depth / 2)
    largest = torch.finfo(dtype).max ** (1 / power)
    if imbalance > largest:
        raise ValueError(
            f"imbalance: expected at most {largest:.2g}, whose power {power:g} {dtype} can hold, "
            f"but got {imbalance!r}; lower it, or the depth, or compute in float64"
        )


def check_real(tensor: Tensor, name: str = "weight") -> None:
    """Refuse anything but a dense real floating-point tensor."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name}: expected a tensor but got {type(tensor).__name__}")
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        raise TypeError(
            f"{name}: expected a dense real floating-point tensor but got "
            f"{tensor.dtype}, {tensor.layout}"
        )


def check_matrix(tensor: Tensor, name: str = "weight") -> None:
    """Refuse anything but a dense real floating-point matrix, or a batch of them, (..., m, n)."""
    check_real(tensor, name)
    if tensor.ndim < 2:
        raise ValueError(
            f"{name}: expected a matrix (..., m, n) but got shape {tuple(tensor.shape)}"
        )


def check_same_shape(weight: Tensor, other: Tensor, name: str) -> None:
    """Refuse a tensor of another shape than ``weight``."""
    if other.shape != weight.shape:
        raise ValueError(
            f"{name}: expected the shape {tuple(weight.shape)} of weight but got "
            f"{tuple(other.shape)}"
        )


def check_finite(tensor: Tensor, name: str = "weight") -> None:
    """Refuse NaN and inf: the error of a decomposition would not name the tensor."""
    if not tensor.numel():
        return
    low, high = torch.aminmax(tensor.detach())  # one pass; isfinite takes several
    if not math.isfinite(torch.maximum(-low, high).item()):
        raise ValueError(
            f"{name}: expected finite numbers but got NaN or inf; if it comes from training, the "
            "run has probably diverged: use step_scale='unit', or lower the learning rate"
        )


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return the dtype to compute in: float64 if a tensor is float64, else float32."""
    # not cached: torch.compile warns of a cache
    found = torch.float32
    for tensor in tensors:
        if tensor.dtype != found:
            found = torch.promote_types(tensor.dtype, found)
    return found


def in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to a dtype; a conversion to the same one would take its time too."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def widened(tensor: Tensor) -> Tensor:
    """Convert half precision to float32, where sums of squares neither overflow nor lose digits."""
    return in_dtype(tensor, working_dtype(tensor))


def most_exact(tensor: Tensor) -> Tensor:
    """Convert to float64, or to float32 where a device has no float64."""
    return in_dtype(tensor, torch.float32 if tensor.device.type == "mps" else torch.float64)


def may_hold(mask: Tensor) -> bool:
    """Tell whether a mask holds anywhere; say yes on a device, where reading would wait."""
    return mask.device.type != HOST or bool(mask.any())
