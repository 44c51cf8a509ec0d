"""Convex completion, to compare with: nuclear norm minimisation with a certificate, SoftImpute.

Sources: Candes and Recht, 2009, arXiv 0805.4471 (the problem); Douglas and Rachford's splitting;
Mazumder, Hastie, Tibshirani, JMLR 11, 2010 (SoftImpute).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.maths import nuclear_norm, thin_svd


@dataclass(frozen=True, kw_only=True)
class NuclearSolution:
    """A feasible matrix, and how far its nuclear norm can be from the smallest.

    Attributes:
        weight: X, equal to the data where observed.
        gap: (||X||_* - dual value) / ||X||_*, an upper bound of the relative excess.
        iterations: of the splitting.
    """

    weight: Tensor
    gap: float
    iterations: int


def shrink(matrix: Tensor, threshold: float) -> Tensor:
    r"""Soft-threshold the singular values: the proximal map of the nuclear norm.

    .. math:: U \max(\Sigma - \lambda, 0) V^\top =
        \arg\min_X \tfrac12 \|X - U \Sigma V^\top\|_F^2 + \lambda \|X\|_*

    Source: Cai, Candes, Shen 2008, arXiv 0810.3286, theorem 2.1.

    >>> shrink(torch.diag(torch.tensor([3.0, 1.0])), 2.0)
    tensor([[1., 0.],
            [0., 0.]])
    """
    u, sigma, vh = thin_svd(matrix)
    return (u * (sigma - threshold).clamp(min=0)) @ vh


def _observed(data: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the data with zeros where nothing was observed, and the mask in the data's type."""
    if mask.shape != data.shape:
        raise ValueError(
            f"mask: expected the shape {tuple(data.shape)} of data but got {tuple(mask.shape)}"
        )
    known = torch.where(mask != 0, data, 0.0)
    if not torch.isfinite(known).all():
        raise ValueError(
            "data: expected finite numbers where observed but got NaN or inf; leave such entries "
            "out of the mask"
        )
    return known, mask.to(data.dtype)


def minimise_nuclear_norm(
    data: Tensor, mask: Tensor, *, gap: float = 1e-4, max_iterations: int = 3000, every: int = 25
) -> NuclearSolution:
    r"""Minimise :math:`\|X\|_*` over all X equal to the data where observed.

    By Douglas and Rachford's splitting. Its multiplier Y, supported on the observed entries and
    scaled to :math:`\|Y\|_2 \le 1`, bounds the minimum from below by :math:`\langle Y, X\rangle`.
    So the gap returned is a certificate, whatever the iteration did.

    ``data`` and ``mask`` are (m, n), the mask 1 or True where observed; the other entries of the
    data are not read and may be NaN. Stops at the relative duality ``gap``, which is looked at
    after ``every`` iterations, or at ``max_iterations``: then the gap says how good X is.

    Source: arXiv 0805.4471, section 1; the dual norm of the nuclear norm is the spectral norm.

    >>> data = torch.tensor([[1.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    >>> mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    >>> minimise_nuclear_norm(data, mask).weight[1, 1]  # the smallest norm of all fourth entries
    tensor(1.0, dtype=torch.float64)
    """
    known, mask = _observed(data, mask)
    if not known.any():
        return NuclearSolution(weight=known, gap=0.0, iterations=0)
    # the mean singular value's size: a scale on which shrinking neither stalls nor erases
    step = float(torch.linalg.matrix_norm(known, 2)) / 4
    state, best = known.clone(), NuclearSolution(weight=known, gap=1.0, iterations=0)
    for iteration in range(1, max_iterations + 1):
        feasible = known + state * (1 - mask)
        if iteration % every == 0:
            best = _certified(feasible, (feasible - state) / step, iteration)
            if best.gap <= gap:
                break
        state = state + shrink(2 * feasible - state, step) - feasible
    return best


def _certified(feasible: Tensor, multiplier: Tensor, iteration: int) -> NuclearSolution:
    scale = max(1.0, float(torch.linalg.matrix_norm(multiplier, 2)))
    norm = float(nuclear_norm(feasible))
    bound = float((multiplier * feasible).sum()) / scale
    return NuclearSolution(
        weight=feasible, gap=(norm - bound) / norm if norm else 0.0, iterations=iteration
    )


def soft_impute(
    data: Tensor,
    mask: Tensor,
    threshold: float,
    *,
    start: Tensor | None = None,
    tol: float = 1e-4,
    max_iterations: int = 500,
) -> Tensor:
    r"""Minimise :math:`\tfrac12 \|P_\Omega(X - \mathrm{data})\|_F^2 + \lambda \|X\|_*`.

    ``data`` and ``mask`` are as in :func:`minimise_nuclear_norm`, and ``start`` is a solution for a
    larger lambda. Stops where the relative change of X is below ``tol``.

    Source: Mazumder, Hastie, Tibshirani 2010, algorithm 1.

    >>> data = torch.diag(torch.tensor([3.0, 1.0]))
    >>> soft_impute(data, torch.ones(2, 2), 0.5)
    tensor([[2.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    known, mask = _observed(data, mask)
    current = torch.zeros_like(known) if start is None else start
    for _ in range(max_iterations):
        following = shrink(known + current * (1 - mask), threshold)
        change = float((following - current).norm())
        current = following
        if change <= tol * float(current.norm()):
            break
    return current


def soft_impute_held_out(
    data: Tensor, mask: Tensor, *, share: float = 0.1, thresholds: int = 15, seed: int = 0
) -> tuple[Tensor, float]:
    """Choose SoftImpute's threshold on held-out observed entries, then fit all of them.

    ``share`` of the observed entries are held out, drawn by ``seed``. The ``thresholds`` fall
    geometrically from the largest, by a factor of 1000 together; each fit starts from the last one.
    Returns the completed matrix and the threshold.

    Source: Mazumder, Hastie, Tibshirani 2010, algorithm 1.

    >>> data, mask = torch.ones(4, 4), 1 - torch.eye(4)
    >>> completed, threshold = soft_impute_held_out(data, mask)
    >>> completed[0, 0], round(threshold, 4)
    (tensor(0.999), 0.003)
    """
    data, mask = _observed(data, mask)
    generator = torch.Generator().manual_seed(seed)
    held = mask * (torch.rand(mask.shape, generator=generator) < share)
    fitted = mask - held
    largest = float(torch.linalg.matrix_norm(data, 2))
    path = [largest * 10 ** (-3 * k / (thresholds - 1)) for k in range(1, thresholds)]
    errors, current = [], None
    for threshold in path:
        current = soft_impute(data, fitted, threshold, start=current)
        errors.append(float((held * (current - data)).square().sum()))
    chosen = path[min(range(len(path)), key=errors.__getitem__)]
    return soft_impute(data, mask, chosen, start=current), chosen
