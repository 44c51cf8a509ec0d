"""``structure="circulant"``: a block is a frequency; the bias is to few frequencies.

With up to two dimensions every vector along the last one is a signal, and its frequencies are 1 x 1
blocks. With three or more, (m, n, k, ...) is a convolution of n with m channels, as long as the
signal, and its frequencies are m x n blocks. Blocks are complex, of an unnormalised transform, of
which one half is enough.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from virtualdepth.maths._preconditioner import Preconditioned
from virtualdepth.maths._profile import Imbalance
from virtualdepth.maths._range import frobenius_norm
from virtualdepth.maths.structures._protocol import Structure
from virtualdepth.maths.structures._vectors import precondition_numbers

_CHANNELS = 3  # dimensions from which on the first two are channels


class Circulant(Structure):
    """(k,), (..., k) or (m, n, k, ...): the layers are circular convolutions along k, ..."""

    expected: ClassVar[str] = (
        "signals (k,) or (..., k) of two dimensions, or a convolution (m, n, k, ...), for "
        "'circulant'"
    )
    least_dimensions: ClassVar[int] = 1
    refuses: ClassVar[frozenset[str]] = frozenset({"conv_groups"})

    def to_blocks(self, array: Tensor) -> Tensor:
        """Transform to frequencies, (..., k // 2 + 1, m, n)."""
        if array.ndim < _CHANNELS:
            signals: Tensor = torch.fft.rfft(array)
            return signals[..., None, None]
        channels: Tensor = torch.fft.rfftn(array, dim=_tail(array))
        return channels.movedim((0, 1), (-2, -1))

    def from_blocks(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Transform frequencies back to signals as long as those of ``like``."""
        array: Tensor
        if like.ndim < _CHANNELS:
            array = torch.fft.irfft(blocks[..., 0, 0], n=like.shape[-1])
        else:
            channels = blocks.movedim((-2, -1), (0, 1))
            array = torch.fft.irfftn(channels, s=like.shape[2:], dim=_tail(like))
        return array

    def decomposes(self, shape: Sequence[int]) -> bool:
        """Tell whether frequencies are matrices of more than a row or a column."""
        return len(shape) >= _CHANNELS and min(shape[:2]) > 1

    def _layer_shapes(self, factors: Sequence[Tensor]) -> list[tuple[int, ...]]:
        first = tuple(factors[0].shape)
        if len(first) < _CHANNELS:
            return super()._layer_shapes(factors)
        # of channels only those between two layers have to agree
        after = [
            (*factor.shape[:1], before.shape[0], *first[2:]) for before, factor in pairwise(factors)
        ]
        return [first, *after]

    def norm(self, blocks: Tensor, like: Tensor) -> Tensor:
        """Compute the Frobenius norm of a circulant matrix, which has each entry k times."""
        signals = self.from_blocks(blocks, like=like)
        length = math.prod(like.shape[2:]) if like.ndim >= _CHANNELS else like.shape[-1]
        return math.sqrt(length) * frobenius_norm(signals.reshape(1, -1))

    def _preconditioned(
        self, weight: Tensor, grad: Tensor, depth: float, rtol: float | None, imbalance: Imbalance
    ) -> Preconditioned:
        if weight.ndim >= _CHANNELS:
            return super()._preconditioned(weight, grad, depth, rtol, imbalance)
        blocks, grads = self.to_blocks(weight), self.to_blocks(grad)
        found = precondition_numbers(blocks, grads, depth, imbalance)
        direction = self.from_blocks(found.scaled_direction, like=weight)
        return found._replace(scaled_direction=direction)


def _tail(array: Tensor) -> list[int]:
    return list(range(2, array.ndim))
