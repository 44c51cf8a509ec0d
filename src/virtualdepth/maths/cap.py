"""Steps that change no singular value by more than a share of itself.

Larger ones end at a higher effective rank than the flow does: the bias to low rank is lost.
"""

import torch
from torch import Tensor

from virtualdepth.maths.metric import EndToEndMetric
from virtualdepth.maths.precondition import end_to_end_gradient

# of sigma_1: what is added to a singular value before a change is compared with it. Chosen on 100 x
# 100 completions of depth 4: with a tenth of it small modes grow too late for the others, which
# the quasi-Newton steps hurry on, and some runs end far from the flow; with ten times, others do
_FLOOR = 1e-2


def relative_change(metric: EndToEndMetric, step: Tensor) -> Tensor:
    r"""Find the largest relative change of a singular value of W by a step D, to first order.

    :math:`\max_r |u_r^\top D v_r| / (\sigma_r + 10^{-2} \sigma_1)`.

    Args:
        metric: of W.
        step: D, (..., m, n).

    Returns:
        (...); NaN where D is not finite.

    >>> from virtualdepth.maths import end_to_end_metric
    >>> metric = end_to_end_metric(torch.diag(torch.tensor([10.0, 0.0])), 2.0)
    >>> relative_change(metric, torch.diag(torch.tensor([0.5, 0.02])))  # .02 / (1e-2 * 10)
    tensor(0.2000)
    """
    sigma, slopes = metric.singular_values, metric.slopes(step).abs()
    # W = 0 stands still under the rule: 0 / 0 is no change
    ratio = torch.where(slopes == 0, 0.0, slopes / (sigma + _FLOOR * sigma[..., :1]))
    return ratio.amax(-1)


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
