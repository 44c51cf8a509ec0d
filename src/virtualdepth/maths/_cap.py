"""Steps that change no singular value by more than a share of itself.

Larger ones end at a higher effective rank than the flow does: the bias to low rank is lost.
"""

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioner

# of sigma_1: what is added to a singular value before a change is compared with it. Chosen on 100 x
# 100 completions of depth 4: with a tenth of it small modes grow too late for the others, which
# the quasi-Newton steps hurry on, and some runs end far from the flow; with ten times, others do
_FLOOR = 1e-2


def relative_change(metric: Preconditioner, step: Tensor, *, together: bool = True) -> Tensor:
    r"""Bound the relative change of every singular value of W by a step D, to first order.

    :math:`\max_r \|D_r\|_F / (\sigma_r + 10^{-2} \sigma_1)`, where :math:`D_r` is D between the
    singular vectors of W from the r-th on. For an r apart from the others
    :math:`|u_r^\top D v_r|` would do, but small ones lie close: there D is added to them as a
    block, and one of random entries has singular values far above its diagonal.

    Args:
        metric: of W.
        step: D, (..., m, n).
        together: False takes every singular value by itself, :math:`|u_r^\top D v_r|`.

    Returns:
        (...); NaN where D is not finite.

    >>> from virtualdepth.maths import preconditioner
    >>> metric = preconditioner(torch.diag(torch.tensor([10.0, 0.0])), 2.0)
    >>> relative_change(metric, torch.diag(torch.tensor([0.5, 0.02])))  # .02 / (1e-2 * 10)
    tensor(0.2000)
    """
    sigma = metric.singular_values
    norms = metric.trailing_norms(step) if together else metric.slopes(step).abs()
    # W = 0 stands still under the rule: 0 / 0 is no change
    ratio = torch.where(norms == 0, 0.0, norms / (sigma + _FLOOR * sigma[..., :1]))
    return ratio.amax(-1)
