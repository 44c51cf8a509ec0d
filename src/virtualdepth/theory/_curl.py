"""The end-to-end rule is not the gradient of any function: its vector field has curl.

Source: arXiv 1802.06509, Theorem 2.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from virtualdepth.maths import check_depth, preconditioned_gradient


def rule_curl(weight: Tensor, loss: Callable[[Tensor], Tensor], depth: float) -> Tensor:
    r"""Measure the curl of the field :math:`F(W) = P_W(\nabla l(W))` at one matrix.

    .. math:: \mathrm{curl}_{ab} = \partial F_a / \partial W_b - \partial F_b / \partial W_a

    over the entries a, b of W. A gradient field has no curl. So where the curl is not 0, no
    regulariser added to l makes gradient descent on one matrix follow the rule.

    Args:
        weight: W, (m, n), float64, of full rank with distinct singular values (or m = 1 or n = 1).
        loss: W -> scalar, twice differentiable.
        depth: number of layers N, real, 1 <= N <= inf.

    Returns:
        (mn, mn), antisymmetric.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is out of range, or the rule has no derivative at ``weight``.

    Source: arXiv 1802.06509, Theorem 2 and its proof (section 6).

    >>> weight = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    >>> constant = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    >>> rule_curl(weight, lambda w: (constant * w).sum(), 3)[0, 1]  # (4/3 - 2) * 0.8
    tensor(-0.5333, dtype=torch.float64)
    """
    depth = check_depth(depth)

    def field(flat: Tensor) -> Tensor:
        point = flat.view_as(weight)
        (grad,) = torch.autograd.grad(loss(point), point, create_graph=True)
        return preconditioned_gradient(point, grad, depth).direction.flatten()

    # torch.func.jacrev does the same, but first loads torch's compiler, which takes seconds
    jacobian: Tensor = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        field, weight.flatten()
    )
    if not bool(jacobian.isfinite().all()):
        raise ValueError(
            "weight: expected a matrix of full rank with distinct singular values, where the rule "
            "has a derivative, but got a derivative that is not finite; perturb it"
        )
    return jacobian - jacobian.mT
