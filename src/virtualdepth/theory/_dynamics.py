"""How singular values and vectors of one matrix move under the flow dW/dt = -P_W(G).

Source: Arora, Cohen, Hu, Luo, "Implicit Regularization in Deep Matrix Factorization", NeurIPS 2019,
arXiv 1905.13655, Theorem 3 and Lemma 2.
"""

import math

import torch
from torch import Tensor

from virtualdepth import maths
from virtualdepth.maths import (
    STRUCTURES,
    StructureName,
    check_depth,
    check_matrix,
    check_real,
    check_same_shape,
    check_structure,
    depth_kernel,
    in_units,
    sizes_and_slopes,
    thin_svd,
    times_power,
    working_dtype,
)


def singular_value_velocity(
    weight: Tensor,
    grad: Tensor,
    depth: float,
    *,
    structure: StructureName = "matrix",
    imbalance: float = 0.0,
) -> Tensor:
    r"""Evaluate :math:`d\sigma_r/dt = -N \sigma_r^{2-2/N} \langle G, u_r v_r^\top \rangle`.

    The deeper the network, the slower a small singular value moves and the faster a large one. This
    is the source of the bias to low rank. With an imbalance :math:`\lambda` the gain
    :math:`N \sigma_r^{2-2/N}` becomes :math:`F'(t_r)`, :math:`\sigma_r^2 = F(t_r) =
    t_r (t_r + \lambda)^{N-1}`. Another structure has this law for the sizes of its blocks, such as
    absolute entries. :func:`virtualdepth.maths.singular_value_velocity` computes the same from
    singular values and slopes that are known already.

    Args:
        weight: W, (..., m, n), finite; any shape that ``structure`` has a meaning for.
        grad: G = dl/dW, of the same shape.
        depth: number of layers N, real, 1 <= N <= inf; at inf time is rescaled by 1/N.
        structure: "matrix", "rows", "columns", "diagonal" or "circulant", as in
            :func:`virtualdepth.precondition`.
        imbalance: lambda >= 0; 0 where N is inf.

    Returns:
        (..., min(m, n)), in the order of falling singular values. Where two are equal, the pair's
        velocities depend on the basis that the decomposition chose. Zeros have none: they grow
        along the singular vectors of -G between the null spaces, the fastest first. For another
        structure (number,), in the order of the blocks. Half precision is computed in float32.

    Raises:
        TypeError: if an input is complex, integer or sparse, or ``depth`` or ``imbalance`` is not a
            real number.
        ValueError: if ``depth`` or ``imbalance`` is out of range, if shapes differ or have too few
            dimensions, or there is no such structure.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1905.13655, Theorem 3; arXiv 2409.14623 (the imbalance, at two layers).

    >>> weight = torch.diag(torch.tensor([8.0, 1.0]))
    >>> singular_value_velocity(weight, -torch.eye(2), 3)  # 3 * 8^{4/3}, 3
    tensor([48.,  3.])
    >>> entries, grad = torch.tensor([3.0, -2.0]), torch.tensor([-1.0, -1.0])
    >>> singular_value_velocity(entries, grad, 2, structure="diagonal")  # of |w|: 2 * 3, -2 * 2
    tensor([ 6., -4.])
    """
    kind = STRUCTURES[check_structure(structure)]
    for name, tensor in (("weight", weight), ("grad", grad)):
        check_real(tensor, name)
        kind.check(tensor.shape, name)
    check_same_shape(weight, grad, "grad")
    if weight.numel() == 0:
        return kind.sizes(weight)  # zeros, which nothing moves
    dtype = working_dtype(weight, grad)
    sizes, slopes = sizes_and_slopes(*(kind.to_blocks(each.to(dtype)) for each in (weight, grad)))
    if structure != "matrix":
        sizes, slopes = sizes.flatten(), slopes.flatten()
    return maths.singular_value_velocity(sizes, slopes, depth, imbalance=imbalance)


def singular_vector_velocity(weight: Tensor, grad: Tensor, depth: float) -> tuple[Tensor, Tensor]:
    r"""Evaluate the velocities of the singular vectors under the flow.

    With W = U S V^T (thin), C = U^T G V, :math:`F_{rs} = 1/(\sigma_s^{2/N} - \sigma_r^{2/N})` and
    :math:`F_{rr} = 0`,

    .. math::
        \dot U &= -U (F \circ [C S + S C^\top]) - (I - U U^\top)\, G V S^{1-2/N}, \\
        \dot V &= -V (F \circ [S C + C^\top S]) - (I - V V^\top)\, G^\top U S^{1-2/N}.

    Args:
        weight: W, (m, n), finite, with singular values that are positive and distinct.
        grad: G = dl/dW, of the same shape.
        depth: number of layers N, real, 1 <= N <= inf; at inf time is rescaled by 1/N.

    Returns:
        dU/dt (m, k) and dV/dt (n, k), k = min(m, n), of the vectors and signs that
        ``torch.linalg.svd(weight, full_matrices=False)`` gives.

    Raises:
        TypeError: if a matrix is complex, integer or sparse, or ``depth`` is not a real number.
        ValueError: if ``depth`` is out of range, if shapes do not fit, or if singular values
            coincide or vanish to working precision, where the vectors are not determined.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1905.13655, Lemma 2.

    >>> weight = torch.diag(torch.tensor([9.0, 4.0]))
    >>> du, dv = singular_vector_velocity(weight, torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 2)
    >>> du.abs(), dv.abs()  # rotations at rates 4 / (9 - 4) and 9 / (9 - 4)
    (tensor([[0.0000, 0.8000],
            [0.8000, 0.0000]]), tensor([[0.0000, 1.8000],
            [1.8000, 0.0000]]))
    """
    depth = check_depth(depth)
    _check_matrices(weight, grad)
    if weight.ndim != 2:
        raise ValueError(f"weight: expected one matrix (m, n) but got {tuple(weight.shape)}")
    u, sigma, vh = thin_svd(weight)
    _check_distinct(sigma)
    _, grad, units = in_units(weight, grad, depth)
    if units is not None:
        sigma = times_power(sigma, -units.weight)
    v = vh.mT
    rates = _rotation_rates(sigma, depth)
    core = u.mT @ grad @ v
    left, right = core * sigma, sigma.unsqueeze(-1) * core
    # the rate at which a vector leaves the span of the others: K(sigma, 0) / sigma, 0 at N = inf
    leaving = depth_kernel(sigma, torch.zeros_like(sigma), depth) / sigma
    moved, moved_back = grad @ v, grad.mT @ u
    du = -u @ (rates * (left + left.mT)) - leaving * (moved - u @ (u.mT @ moved))
    dv = -v @ (rates * (right + right.mT)) - leaving * (moved_back - v @ (v.mT @ moved_back))
    if units is not None:
        units = units._replace(gain=units.gain - 1)  # of the derivative by W
        du, dv = units.direction(du), units.direction(dv)
    return du, dv


def _check_matrices(weight: Tensor, grad: Tensor) -> None:
    """Refuse what are not two matrices, or batches, of one shape."""
    check_matrix(weight)
    check_matrix(grad, "grad")
    # a single column would otherwise be broadcast silently
    check_same_shape(weight, grad, "grad")


def _check_distinct(sigma: Tensor) -> None:
    """Refuse singular values, (k,), that coincide or vanish to working precision."""
    gaps = -sigma.diff(append=sigma.new_zeros(1))
    if (gaps <= torch.finfo(sigma.dtype).eps * sigma[:1]).any():
        raise ValueError(
            "weight: expected positive and distinct singular values, else the vectors are not "
            f"determined, but got {sigma.tolist()}"
        )


def _rotation_rates(sigma: Tensor, depth: float) -> Tensor:
    """Compute F, (k, k); at infinite depth the limit of F / N."""
    log_ratio = (sigma.unsqueeze(-1) / sigma.unsqueeze(-2)).log()
    # sigma_s^{2/N} - sigma_r^{2/N} without cancellation
    if math.isinf(depth):
        differences = -2 * log_ratio
    else:
        differences = -sigma.pow(2 / depth) * torch.expm1(2 / depth * log_ratio)
    return differences.fill_diagonal_(torch.inf).reciprocal()
