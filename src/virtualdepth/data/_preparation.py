"""Centred, whitened features and comparable targets.

With whitened features the loss ``mean ||W x - y||^2 / 2`` has the identity as its Hessian in each
row of W (arXiv 1810.02281, section 2): one learning rate then suits every direction and data set.
"""

import math

import torch
from torch import Tensor

from virtualdepth.maths import thin_svd
from virtualdepth.runs import UnusableError


def whiten(features: Tensor) -> Tensor:
    r"""Centre features (samples, n) and give them the covariance I, on their numerical rank.

    .. math::
        X - \bar{X} = U S V^\top \mapsto \sqrt{\text{samples}}\, U_{:, :\text{rank}}

    A singular value counts if it exceeds max(samples, n) * epsilon * (the largest). Constant
    columns go first, since centring leaves rounding errors of them.

    >>> whiten(torch.tensor([[1.0, 2.0, 5.0], [2.0, 4.0, 5.0], [3.0, 6.0, 5.0]])).abs()
    tensor([[1.2247],
            [0.0000],
            [1.2247]])
    """
    varying = features[:, features.amax(0) > features.amin(0)]
    if varying.shape[1] == 0:
        raise UnusableError("data", "expected features that vary but got constant columns only")
    u, s, _ = thin_svd(varying - varying.mean(0))
    rank = int((s > max(varying.shape) * torch.finfo(s.dtype).eps * s[0]).sum())
    return u[:, :rank] * math.sqrt(len(features))


def left_out(features: Tensor, inputs: Tensor) -> tuple[list[int], list[int]]:
    """Return which features (samples, n) are constant, and which others ``inputs`` is without.

    ``inputs`` is :func:`whiten` of the features: sqrt(samples) times an orthonormal basis.
    """
    constant = features.amax(0) == features.amin(0)
    centred = features - features.mean(0)
    inside = inputs @ (inputs.mT @ centred) / len(inputs)
    is_lost = ~constant & ((centred - inside).norm(dim=0) > 0.5 * centred.norm(dim=0))
    return constant.nonzero().flatten().tolist(), is_lost.nonzero().flatten().tolist()


def standardise(targets: Tensor) -> Tensor:
    """Give each column of (samples, m) the mean 0 and the standard deviation 1 (ddof 0).

    >>> standardise(torch.tensor([[1.0], [3.0]]))
    tensor([[-1.],
            [ 1.]])
    """
    constant = (targets.amax(0) == targets.amin(0)).nonzero().flatten().tolist()
    if constant:
        raise UnusableError(
            "targets",
            f"expected columns that vary but got {targets[0, constant[0]].item()!r} in every row "
            f"of target {constant[0] + 1}",
        )
    return (targets - targets.mean(0)) / targets.std(0, correction=0)
