"""P_W(G) of a parameter of any structure: the public function, and the one that checks nothing."""

import torch
from torch import Tensor

from virtualdepth.maths._checks import (
    check_depth,
    check_finite,
    check_imbalance,
    check_imbalance_held,
    check_real,
    check_rtol,
    check_same_shape,
    working_dtype,
)
from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths.structures import STRUCTURES, StructureName, check_structure


def preconditioned_gradient(
    weight: Tensor,
    grad: Tensor,
    depth: float,
    rtol: float | None = None,
    imbalance: float = 0.0,
    structure: StructureName = "matrix",
) -> Preconditioned:
    """Compute P_W(G) in float64 if an input is, else float32; nothing is checked."""
    return STRUCTURES[structure].preconditioned(weight, grad, depth, rtol, imbalance)


def precondition(
    weight: Tensor,
    grad: Tensor,
    depth: float,
    *,
    rtol: float | None = None,
    structure: StructureName = "matrix",
    imbalance: float = 0.0,
) -> Tensor:
    r"""Apply the preconditioner of an N-layer linear network to the gradient of one matrix.

    .. math:: P_W(G) = \sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}

    for every real N >= 1; at infinite depth the limit of :math:`P_W(G)/N`. N = 1 returns G. It is
    linear in G, positive semidefinite, and symmetric under transposition. With the thin SVD
    :math:`W = U S V^\top`, m <= n, and :math:`k_0 = \sigma^{2-2/N}` it equals

    .. math:: U\,[(K - k_0 1^\top) \circ (U^\top G V)\, V^\top + k_0 \circ (U^\top G)],

    which needs no basis of the null space. A matrix of one row or column needs no decomposition:
    :math:`\|w\|^{2-2/N} (g + (N-1)\,\hat w \hat w^\top g)`.

    A structure other than "matrix" says which blocks W consists of, and P_W acts in each of them:

    - "rows" and "columns", (..., m, n): every row, or every column.
    - "diagonal", any shape: every entry, :math:`P_w(g) = K(|w|, |w|)\, g`.
    - "circulant": every frequency of :func:`torch.fft.rfftn`. With up to two dimensions, (k,) or
      (..., k), of the vectors along the last one; with three or more, (m, n, k, ...), along all but
      the first two, and a block is m x n.

    With an imbalance :math:`\lambda > 0` K is that of layers one of which is smaller than the
    others (:func:`depth_kernel`). A W of zeros then moves: :math:`P_0(G) = \lambda^{N-1} G`.

    Args:
        weight: W, finite; (..., m, n), or any shape that ``structure`` has a meaning for.
        grad: G, of the same shape.
        depth: number of layers N, real, 1 <= N <= inf.
        rtol: singular values <= ``rtol`` times the largest of their block count as exactly 0.
            Default: the machine epsilon of the dtype computed in. P_W is only Hoelder continuous of
            order 2/N at a zero singular value, so numerical zeros above ``rtol`` make an error of
            about eps^{2/N}; a larger ``rtol`` freezes modes that the flow would grow.
        structure: "matrix", "rows", "columns", "diagonal" or "circulant".
        imbalance: lambda >= 0, in the units of a singular value to the power 2/N; 0 where N is inf.

    Returns:
        P_W(G) in the shape and dtype of ``grad``, right to rounding for W and G of any size, and
        inf where the dtype cannot hold it; the inputs are not written to. Half precision is
        computed in float32. Differentiable in ``grad``, and in ``weight`` where its singular values
        are distinct and positive. Elsewhere the derivative of the SVD is infinite, and that in
        ``weight`` is undefined: NaN, inf or any number.

    Raises:
        TypeError: if an input is complex, integer or sparse, or ``depth``, ``rtol`` or
            ``imbalance`` is not a real number.
        ValueError: if shapes differ or have too few dimensions for the structure, if ``depth``,
            ``rtol`` or ``imbalance`` is out of range, if there is no such structure, or if
            ``weight`` is not finite where the depth is more than 1.
        torch.linalg.LinAlgError: if the SVD of W does not converge.

    Source: arXiv 1802.06509, Theorem 1 and Claim 2; arXiv 1806.00468, 2002.09277 and 2108.01538
    (structures); arXiv 2409.14623 (the imbalance, at two layers).

    >>> weight = torch.diag(torch.tensor([4.0, 9.0]))
    >>> precondition(weight, torch.ones(2, 2), 2)  # K(a, b) = a + b
    tensor([[ 8.0000, 13.0000],
            [13.0000, 18.0000]])
    >>> precondition(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0]]), 2)
    tensor([[6.8000, 2.4000]])
    >>> precondition(torch.tensor([3.0, -2.0]), torch.ones(2), 2, structure="diagonal")  # 2 |w|
    tensor([6., 4.])
    >>> precondition(torch.zeros(1, 2), torch.ones(1, 2), 3, imbalance=0.5)  # 0.5^2
    tensor([[0.2500, 0.2500]])
    """
    kind = STRUCTURES[check_structure(structure)]
    depth = check_depth(depth)
    rtol = check_rtol(rtol)
    imbalance = check_imbalance(imbalance, depth)
    check_real(weight)
    kind.check(weight.shape, "weight")
    check_real(grad, "grad")
    kind.check(grad.shape, "grad")
    check_same_shape(weight, grad, "grad")
    if depth == 1 or weight.numel() == 0:
        return grad.clone()
    check_imbalance_held(imbalance, working_dtype(weight, grad), depth)
    check_finite(weight)
    # under autocast the products below would silently be taken in half precision
    with torch.autocast(weight.device.type, enabled=False):
        found = kind.preconditioned(weight, grad, depth, rtol, imbalance)
        return found.direction.to(grad.dtype)
