"""Ranks and norms of a spectrum, averaged over matrices."""

from typing import Any

from torch import Tensor

from virtualdepth.maths import (
    StructureName,
    decay_penalty,
    effective_rank,
    nuclear_norm,
    schatten_norm,
    spectral_norm,
    stable_rank,
)
from virtualdepth.metrics._base import MeanOverMatrices


class EffectiveRank(MeanOverMatrices):
    r"""Average :math:`\exp(-\sum_r p_r \ln p_r)`, :math:`p_r = \sigma_r / \sum_s \sigma_s`.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices, between 1
    and min(m, n). A matrix of zeros counts as 0, one of rank k with equal singular values as k. In
    gradients a singular value of exactly 0 counts as a constant, since the slope there is infinite.

    Pure function: :func:`virtualdepth.effective_rank`.

    Args:
        structure: "matrix"; or whose blocks' sizes to measure, "rows", "columns", "diagonal" or
            "circulant". ``update`` then takes one parameter, of any shape that it has a meaning
            for.
        kwargs: what every torchmetrics metric takes.

    >>> import torch
    >>> metric = EffectiveRank()
    >>> metric.update(torch.eye(3))
    >>> metric.update(torch.diag(torch.tensor([2.0, 0.0, 0.0])))
    >>> metric.compute()  # (3 + 1) / 2
    tensor(2.0000)
    >>> EffectiveRank(structure="diagonal")(torch.tensor([0.5, 0.0, -0.5]))  # two entries
    tensor(2.)
    """

    def _measure(self, weight: Tensor) -> Tensor:
        return effective_rank(weight, structure=self.structure)


class StableRank(MeanOverMatrices):
    r"""Average :math:`\|W\|_F^2 / \sigma_1^2`.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices, between 1
    and the rank. A matrix of zeros counts as 0.

    Pure function: :func:`virtualdepth.stable_rank`.

    Args:
        structure: "matrix"; or whose blocks' sizes to measure, "rows", "columns", "diagonal" or
            "circulant". ``update`` then takes one parameter, of any shape that it has a meaning
            for.
        kwargs: what every torchmetrics metric takes.

    >>> import torch
    >>> metric = StableRank()
    >>> metric(torch.diag(torch.tensor([2.0, 1.0, 1.0])))
    tensor(1.5000)
    """

    def _measure(self, weight: Tensor) -> Tensor:
        return stable_rank(weight, structure=self.structure)


class NuclearNorm(MeanOverMatrices):
    r"""Average :math:`\|W\|_* = \sum_r \sigma_r`.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices, in the
    units of W. A matrix of zeros counts as 0; zero singular values add nothing.

    Pure function: :func:`virtualdepth.nuclear_norm`.

    Args:
        structure: "matrix"; or whose blocks' sizes to measure, "rows", "columns", "diagonal" or
            "circulant". ``update`` then takes one parameter, of any shape that it has a meaning
            for.
        kwargs: what every torchmetrics metric takes.

    >>> import torch
    >>> metric = NuclearNorm()
    >>> metric(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(7.)
    """

    def _measure(self, weight: Tensor) -> Tensor:
        return nuclear_norm(weight, structure=self.structure)


class SpectralNorm(MeanOverMatrices):
    r"""Average :math:`\sigma_1`.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices, in the
    units of W. A matrix of zeros counts as 0.

    Pure function: :func:`virtualdepth.maths.spectral_norm`.

    Args:
        structure: "matrix"; or whose blocks' sizes to measure, "rows", "columns", "diagonal" or
            "circulant". ``update`` then takes one parameter, of any shape that it has a meaning
            for.
        kwargs: what every torchmetrics metric takes.

    >>> import torch
    >>> metric = SpectralNorm()
    >>> metric(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(4.)
    """

    def _measure(self, weight: Tensor) -> Tensor:
        return spectral_norm(weight, structure=self.structure)


class SchattenNorm(MeanOverMatrices):
    r"""Average :math:`(\sum_r \sigma_r^p)^{1/p}`.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices, in the
    units of W. A matrix of zeros counts as 0; zero singular values add nothing. In gradients they
    count as constants for p < 1, since the slope there is infinite.

    Pure function: :func:`virtualdepth.schatten_norm`.

    Args:
        p: 0 < p <= inf; an L2 penalty on N balanced factors amounts to p = 2/N.
        structure: "matrix"; or whose blocks' sizes to measure, "rows", "columns", "diagonal" or
            "circulant". ``update`` then takes one parameter, of any shape that it has a meaning
            for.
        kwargs: what every torchmetrics metric takes.

    :meth:`update` raises TypeError or ValueError if p is not a number > 0.

    >>> import torch
    >>> metric = SchattenNorm(2)
    >>> metric(torch.diag(torch.tensor([3.0, 4.0])))
    tensor(5.)
    """

    def __init__(self, p: float, structure: StructureName = "matrix", **kwargs: Any) -> None:
        super().__init__(structure, options=[p], **kwargs)
        self.p = p

    def _measure(self, weight: Tensor) -> Tensor:
        return schatten_norm(weight, self.p, structure=self.structure)


class DecayPenalty(MeanOverMatrices):
    r"""Average :math:`\frac N2 \sum_r \sigma_r^{2/N}`, what a decay of 1 adds to the loss.

    ``update(weight)`` takes W, (..., m, n); ``compute()`` returns the mean over matrices. A matrix
    of zeros counts as 0.

    Pure function: :func:`virtualdepth.decay_penalty`.

    Args:
        depth: N, 1 <= N < inf.
        structure: "matrix", "rows", "columns" or "diagonal". With one of the last three ``update``
            takes one parameter.
        kwargs: what every torchmetrics metric takes.

    :meth:`update` raises TypeError or ValueError if the depth is no such number.

    >>> import torch
    >>> metric = DecayPenalty(2)
    >>> metric(torch.diag(torch.tensor([3.0, 4.0])))  # the nuclear norm
    tensor(7.)
    """

    def __init__(self, depth: float, structure: StructureName = "matrix", **kwargs: Any) -> None:
        super().__init__(structure, options=[depth], **kwargs)
        self.depth = depth

    def _measure(self, weight: Tensor) -> Tensor:
        return decay_penalty(weight, self.depth, structure=self.structure)
