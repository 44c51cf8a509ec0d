r"""Paths of layers in the fibre of a matrix: layers that change while their product stays.

Two moves lead from any layers of W, (m, n) with m <= n of full rank, to its balanced ones in polar
form: drop what no later layer reads, then turn and stretch the hidden coordinates,
:math:`W_j \to F_j L_j F_{j-1}^+`, from frames :math:`F_j` to the first m unit vectors. The frames
are h x m matrices of full column rank, a connected set if h > m.

Sources: Kuditipudi et al., arXiv 1906.06247; Trager, Kohn, Bruna, arXiv 1910.01671
(the two parts at h = m).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from virtualdepth.maths._factorization import balanced_factors, partial_products
from virtualdepth.maths._svd import thin_svd

Path = list[Tensor]
"""One tensor (points, d_j, d_{j-1}) for each layer."""


def frame_path(frame: Tensor, times: Tensor) -> Tensor:
    """Lead orthonormal columns, (h, m) with h > m, to the first unit vectors.

    One rotation for each column turns it to its unit vector, in the plane of both. All angles grow
    together with ``times``, (points,): 1 is the frame, 0 its end.

    Returns:
        (points, h, m), orthonormal columns at every time.
    """
    height, count = frame.shape
    planes = []
    for place in range(count):
        column = frame[:, place].clone()
        cosine = column[place].clone()
        column[: place + 1] = 0  # the columns before are unit vectors by now
        sine = torch.linalg.vector_norm(column)
        start, other = torch.zeros_like(column), torch.zeros_like(column)
        start[place] = 1
        if sine > 0:
            other = column / sine
        else:  # the column is its unit vector, or the opposite: any plane will do
            other[place + 1] = 1
        planes.append((start, other, torch.atan2(sine, cosine)))
        frame = _rotated(frame, *planes[-1], -torch.ones_like(times[:1])).squeeze(0)
    moved = torch.eye(height, count, dtype=frame.dtype, device=frame.device)
    moved = moved.expand(len(times), height, count)
    for start, other, angle in reversed(planes):
        moved = _rotated(moved, start, other, angle, times)
    return moved


def _rotated(columns: Tensor, start: Tensor, other: Tensor, angle: Tensor, times: Tensor) -> Tensor:
    """Rotate columns, (..., h, m), by times * angle in the plane of two unit vectors, (h,)."""
    plane = torch.stack([start, other], -1)  # (h, 2)
    cosine, sine = torch.cos(times * angle), torch.sin(times * angle)
    turn = torch.stack([cosine - 1, -sine, sine, cosine - 1], -1).reshape(-1, 2, 2)
    return columns + plane @ (turn @ (plane.mT @ columns))


def fibre_path(factors: Sequence[Tensor], points: int) -> list[Path]:
    """Lead layers to the balanced ones of their product, in polar form and padded by zeros.

    Args:
        factors: [W_1, ..., W_N], of a product (m, n) with m <= n of full rank, hidden widths > m.
        points: of each of the two moves, both ends included.

    Returns:
        The two moves. The product is W at all points; the first point is ``factors`` themselves.
    """
    times = torch.linspace(0, 1, points, dtype=factors[0].dtype, device=factors[0].device)
    after = partial_products([factor.mT for factor in reversed(factors)])[:-1]
    # what the layers after hidden layer j read, (h_j, m), j = 1, ..., N - 1
    read = [thin_svd(product.mT)[2].mT for product in reversed(after)]
    dropped = _dropped(factors, read, times)
    ends = [each[-1] for each in dropped]
    cores = balanced_factors(partial_products(factors)[-1], len(factors), form="polar")
    return [dropped, _straightened(ends, cores, 1 - times)]


def _dropped(factors: Sequence[Tensor], read: Sequence[Tensor], times: Tensor) -> Path:
    """Shrink what no later layer reads: W_j -> A_j W_j A_{j-1}, A = (1 - t) I + t projection."""
    shrinking = []
    for basis in read:
        identity = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
        unread = identity - basis @ basis.mT
        shrinking.append(identity - times[:, None, None] * unread)
    path = []
    for place, factor in enumerate(factors):
        moved = factor.expand(len(times), *factor.shape)
        if place < len(shrinking):
            moved = shrinking[place] @ moved
        if place > 0:
            moved = moved @ shrinking[place - 1]
        path.append(moved)
    return path


def _straightened(factors: Sequence[Tensor], cores: Sequence[Tensor], times: Tensor) -> Path:
    """Turn and stretch frames: F_1 L_1, F_j L_j F_{j-1}^+, ..., L_N F_{N-1}^+."""
    frames, frame = [], None
    for factor, core in zip(factors[:-1], cores[:-1], strict=True):
        through = factor if frame is None else factor @ frame
        frame = through @ torch.linalg.pinv(core)
        frames.append(_frames(frame, times))
    path = [core.expand(len(times), *core.shape) for core in cores]
    for place, moved in enumerate(frames):
        path[place] = moved @ path[place]
        path[place + 1] = path[place + 1] @ torch.linalg.pinv(moved)
    return path


def _frames(frame: Tensor, times: Tensor) -> Tensor:
    """Lead a matrix of full column rank, (h, m), to the first unit vectors: (points, h, m)."""
    u, stretch, vh = thin_svd(frame)
    rotated = frame_path(u @ vh, times)
    times = times[:, None, None]
    # a mean of two positive definite matrices is one
    identity = torch.eye(frame.shape[1], dtype=frame.dtype, device=frame.device)
    return rotated @ ((1 - times) * identity + times * ((vh.mT * stretch) @ vh))
