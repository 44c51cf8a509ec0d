"""Step lengths for the end-to-end rule that need no learning rate, for full-batch gradients.

The rule is gradient descent in a metric, dW/dt = -P_W(G), and the secant condition of Barzilai and
Borwein has the same form there: P_W takes the place of the identity.

Source: Barzilai and Borwein, "Two-point step size gradient methods", IMA J. Numer. Anal. 8, 1988.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths.precondition import EndToEndGradient, end_to_end_gradient


class Secant(NamedTuple):
    r"""The two inner products of a step that Barzilai and Borwein's length is the quotient of.

    Those of several matrices add up to the secant of all of them under one step length.

    Attributes:
        curvature: :math:`\langle \Delta W, \Delta G \rangle`, a scalar; not positive where the loss
            is not convex along the step.
        metric: :math:`\langle \Delta G, P_W(\Delta G) \rangle` >= 0.
    """

    curvature: Tensor
    metric: Tensor

    def length(self) -> Tensor:
        """Divide the curvature by the metric: the step length of Barzilai and Borwein.

        Returns:
            A scalar > 0; infinite where the curvature is not positive, so that a cap decides.

        >>> Secant(torch.tensor(6.0), torch.tensor(3.0)).length()
        tensor(2.)
        >>> Secant(torch.tensor(-1.0), torch.tensor(3.0)).length()
        tensor(inf)
        """
        return torch.where(self.curvature > 0, self.curvature / self.metric, torch.inf)


def secant_gradient(
    weight: Tensor,
    grad: Tensor,
    previous_weight: Tensor,
    previous_grad: Tensor,
    depth: float,
    rtol: float | None = None,
) -> tuple[EndToEndGradient, Secant]:
    r"""Compute P_W(G) and the secant of the last step, by one decomposition of W.

    Args:
        weight: W, (m, n), finite.
        grad: G at W, (m, n).
        previous_weight: W before the last step.
        previous_grad: G there.
        depth: a valid depth.
        rtol: a valid tolerance, see :func:`virtualdepth.precondition`.

    Returns:
        What :func:`end_to_end_gradient` returns for G, and the secant.

    >>> old, new = torch.diag(torch.tensor([5.0, 9.0])), torch.diag(torch.tensor([4.0, 9.0]))
    >>> gradient, secant = secant_gradient(new, 2 * new, old, 2 * old, 2.0)  # loss ||W||_F^2
    >>> secant.length()  # <dW, 2 dW> / <2 dW, P(2 dW)> = 2 / (4 K), K = 2 * 4
    tensor(0.0625)
    """
    step, change = weight - previous_weight, grad - previous_grad
    # P_W is linear in G: two gradients share the decomposition
    both = end_to_end_gradient(weight, torch.stack([grad, change]), depth, rtol)
    direction, metric_change = both.direction
    secant = Secant((step * change).sum(), (change * metric_change).sum())
    return EndToEndGradient(direction, both.singular_values, both.slopes[0]), secant


def midpoint_direction(
    weight: Tensor,
    grad: Tensor,
    direction: Tensor,
    length: float | Tensor,
    depth: float,
    rtol: float | None = None,
) -> Tensor:
    r"""Turn the direction to where the metric will be half-way: :math:`P_{W - \eta D/2}(G)`.

    The gradient is frozen, so it costs a second decomposition and no evaluation of the loss. In the
    growth phase the metric changes much faster than the gradient.

    Args:
        weight: W, (m, n), finite.
        grad: G at W.
        direction: D = P_W(G).
        length: eta.
        depth: a valid depth.
        rtol: a valid tolerance.

    Returns:
        (m, n).

    >>> weight, grad = torch.tensor([[4.0]]), torch.tensor([[1.0]])
    >>> midpoint_direction(weight, grad, torch.tensor([[8.0]]), 0.25, 2.0)  # 2 * (4 - 1)
    tensor([[6.]])
    """
    return end_to_end_gradient(weight - 0.5 * length * direction, grad, depth, rtol).direction
