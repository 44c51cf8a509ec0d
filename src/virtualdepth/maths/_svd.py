"""A thin singular value decomposition that does not give up at the first failure."""

import warnings
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

SVD = tuple[Tensor, Tensor, Tensor]

# torch.linalg does not declare it in its __all__
LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]

# back ends whose singular vectors have come out not orthogonal (pytorch issue 196112)
_DOUBTED = {"mps"}

# from this ratio of the sides on, a QR of the long side first halves the time
_LONG = 2


def _thin(matrix: Tensor) -> SVD:
    """Decompose the matrix as it is."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u, s, vh


def _of_transpose(matrix: Tensor) -> SVD:
    """Decompose the transpose, which takes another path through the library."""
    v, s, uh = _thin(matrix.mT)
    return uh.mT, s, v.mT


def _after_qr(matrix: Tensor) -> SVD:
    """Decompose the triangle of a QR of the long side, which is far smaller and as stable."""
    if matrix.shape[-2] < matrix.shape[-1]:
        v, s, uh = _after_qr(matrix.mT)
        return uh.mT, s, v.mT
    q, r = torch.linalg.qr(matrix)
    u, s, vh = _thin(r)
    return q @ u, s, vh


def _in_float64_after_qr(matrix: Tensor) -> SVD:
    """Decompose in float64, after a QR, and round to the dtype of the matrix."""
    u, s, vh = _after_qr(matrix.to(torch.promote_types(matrix.dtype, torch.float64)))
    return u.to(matrix.dtype), s.to(matrix.real.dtype), vh.to(matrix.dtype)


def _by_qr_iteration(matrix: Tensor) -> SVD:
    """Decompose by QR iteration, which converges where divide and conquer does not."""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False, driver="gesvd")
    return u, s, vh


def _attempts(matrix: Tensor) -> Iterator[Callable[[Tensor], SVD]]:
    """List the ways to decompose a matrix, the fastest first."""
    if max(matrix.shape[-2:]) >= _LONG * min(matrix.shape[-2:]):
        yield _after_qr
    yield from (_thin, _of_transpose, _in_float64_after_qr)
    if matrix.is_cuda:  # torch offers a choice of drivers on CUDA only
        yield _by_qr_iteration


def thin_svd(matrix: Tensor) -> SVD:
    r"""Decompose :math:`W = U\,\mathrm{diag}(\sigma)\,V^\top`, trying again where LAPACK fails.

    W may be complex; then V^T is conjugated too.

    Returns:
        U (..., m, k), singular values (..., k) in falling order, V^T (..., k, n), k = min(m, n).

    Raises:
        torch.linalg.LinAlgError: if every attempt fails.
    """
    if matrix.device.type in _DOUBTED:
        return _checked(matrix)
    return _converging(matrix)


def _checked(matrix: Tensor) -> SVD:
    """Decompose on a back end in doubt, and again on the CPU if the vectors are not orthogonal."""
    u, s, vh = next(_attempts(matrix))(matrix)
    if _is_orthonormal(u) and _is_orthonormal(vh.mH):
        return u, s, vh
    _warn_of(matrix.device.type)
    u, s, vh = _converging(matrix.cpu())
    return u.to(matrix.device), s.to(matrix.device), vh.to(matrix.device)


def _is_orthonormal(columns: Tensor) -> bool:
    """Tell whether the columns, (..., n, k), are orthonormal to the precision of their dtype."""
    count = columns.shape[-1]
    identity = torch.eye(count, dtype=columns.dtype, device=columns.device)
    defect = (columns.mH @ columns - identity).abs().max()
    return bool(defect <= 10 * max(columns.shape[-2:]) * torch.finfo(columns.dtype).eps)


@cache
def _warn_of(device_type: str) -> None:
    """Warn once for each type of device."""
    warnings.warn(
        f"the SVD on {device_type!r} returned singular vectors that are not orthogonal; such "
        "matrices are decomposed on the CPU from now on",
        stacklevel=2,
    )


def _converging(matrix: Tensor) -> SVD:
    """Return the first attempt that converges, or raise with the reasons of all."""
    failures = []
    for attempt in _attempts(matrix):
        try:
            return attempt(matrix)
        except LinAlgError as error:
            failures.append(f"{attempt.__name__.strip('_')}: {error}")
    raise LinAlgError(
        f"expected the SVD of a {tuple(matrix.shape)} matrix to converge but got "
        + "; ".join(failures)
    )
