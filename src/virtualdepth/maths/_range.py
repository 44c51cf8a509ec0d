r"""Matrices near the ends of a dtype's range, in units of a power of two.

Since :math:`P_{cW}(dG) = c^{2-2/N}\, d\, P_W(G)`, W and G can be brought near 1 first, and the
result back afterwards: what is between leaves the range only where the result does. With an
imbalance :math:`\lambda` the same holds if that is multiplied by :math:`c^{2/N}`; the size of W is
then at least :math:`\lambda^{N/2}`. In the ordinary range the unit is 1, so that no result changes
by a bit.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths._checks import HOST, may_hold, working_dtype
from virtualdepth.maths._kernel import gain_exponent
from virtualdepth.maths._profile import Imbalance

# the dtypes to compute in; a conversion to the same one would take its time
_WORKING = {torch.float32, torch.float64}


@functools.cache
def ordinary_exponent(dtype: torch.dtype) -> int:
    """Return B: of W within 2^-B and 2^B, squares keep all digits, down to eps sigma_1."""
    # 40 in float32, 459 in float64
    info = torch.finfo(dtype)
    return int(2 * math.log2(info.eps) - math.log2(info.tiny)) // 2


def is_ordinary(
    weight: float, grad: float, depth: float, dtype: torch.dtype, imbalance: float = 0.0
) -> bool:
    """Tell whether W and G of these sizes need no units; zeros need none."""
    if imbalance != 0:
        weight = max(weight, _least_size(depth, imbalance, dtype))
    if 2.0**-20 < weight < 2.0**20 and 2.0**-40 < grad < 2.0**40:
        return True  # at every depth and dtype; the logarithms below take their time
    a, b = (math.log2(size) if size > 0 else 0.0 for size in (weight, grad))
    bound = ordinary_exponent(dtype)
    # the last bounds P_W(G), and slopes over singular values
    largest = max((2 - 2 / depth) * a, -a) + b
    return abs(a) <= bound and abs(b) <= 2 * bound and largest <= 2 * bound


def _least_size(depth: float, imbalance: float, dtype: torch.dtype) -> float:
    """Compute lambda^{N/2}, lambda > 0, or the end of the range that it lies beyond."""
    info = torch.finfo(dtype)
    exponent = 0.5 * depth * math.log2(imbalance)
    return float(2 ** min(max(exponent, math.log2(info.tiny)), math.log2(info.max) - 1))


# the largest entries of W and G in absolute value, or None where they are not known yet
Peaks = tuple[float, float] | None


class Units(NamedTuple):
    """Units of W and G: W = 2^a W', G = 2^b G', with the largest entries of W' and G' near 1.

    Attributes:
        weight: a of each matrix, (...); 0 where nothing has to be scaled.
        grad: b of each matrix, (...).
        gain: 2 - 2/N, the power of the unit of W in that of P_W(G).
        imbalance: lambda', of lambda = 2^{2a/N} lambda', (...), or 0.
    """

    weight: Tensor
    grad: Tensor
    gain: float
    imbalance: Imbalance = 0.0

    def scaled(self, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Divide W and G, (..., m, n), by their units."""
        return times_power(weight, -self.weight), times_power(grad, -self.grad)

    def direction(self, scaled: Tensor) -> Tensor:
        """Multiply P_{W'}(G'), (..., m, n), by its unit, 2^{(2-2/N) a + b}."""
        return _times_twice(scaled, power(self.weight, self.gain / 2) * power(self.grad, 0.5))

    def squares(self, scaled: Tensor) -> Tensor:
        """Multiply <G', P_{W'}(G')>, (...), by its unit."""
        root = power(self.weight, self.gain / 4) * power(self.grad, 0.5)
        return _times_twice(_times_twice(scaled, root), root)


def in_units(
    weight: Tensor, grad: Tensor, depth: float, imbalance: float = 0.0, peaks: Peaks = None
) -> tuple[Tensor, Tensor, "Units | None"]:
    """Bring W and G, (..., m, n), near 1 in float32 or float64; no units where a CPU needs none."""
    dtype = weight.dtype
    if grad.dtype != dtype or dtype not in _WORKING:
        dtype = working_dtype(weight, grad)
        weight, grad = weight.to(dtype), grad.to(dtype)
    if weight.ndim == 2 and weight.device.type == HOST and weight.numel():
        size, grad_size = peaks or (_size(weight), _size(grad))
        if is_ordinary(size, grad_size, depth, dtype, imbalance):
            return weight, grad, None
    gain, bound = gain_exponent(depth), ordinary_exponent(dtype)
    least = 0.0 if imbalance == 0 else _least_size(depth, imbalance, dtype)
    a, b = _exponent(weight, least=least), _exponent(grad)
    extreme = (a.abs() > bound) | (b.abs() > 2 * bound)
    extreme |= torch.maximum(gain * a, -a) + b > 2 * bound
    if not may_hold(extreme):
        return weight, grad, None
    a, b = (torch.where(extreme, each, 0.0) for each in (a, b))
    units = Units(a, b, gain, imbalance_in(a, depth, imbalance))
    return *units.scaled(weight, grad), units


def _size(matrix: Tensor) -> float:
    low, high = torch.aminmax(matrix)
    return float(max(-low.item(), high.item()))


def imbalance_in(unit: Tensor, depth: float, imbalance: float) -> Imbalance:
    """Compute lambda' of lambda = 2^{2a/N} lambda', (...), of the unit 2^a of W."""
    if imbalance == 0:
        return 0.0
    # of two factors, each in range where lambda itself is not
    mantissa, exponent = math.frexp(imbalance)
    half = power(unit, -1 / depth) * 2.0 ** (exponent / 2)
    there: Tensor = mantissa * half * half
    return there


def unit_of(*matrices: Tensor) -> Tensor | None:
    """Find the exponent of a unit that some matrices share, (...); None where 1 will do."""
    exponent = _exponent(*matrices)
    extreme = exponent.abs() > ordinary_exponent(exponent.dtype)
    if not may_hold(extreme):
        return None
    return torch.where(extreme, exponent, 0.0)


def in_unit(matrix: Tensor, unit: Tensor | None) -> Tensor:
    """Divide matrices, (..., m, n), by 2^unit."""
    return matrix if unit is None else times_power(matrix, -unit)


def out_of_unit(values: Tensor, unit: Tensor | None, factor: float = 1.0) -> Tensor:
    """Multiply values of matrices, (...) or (..., k) with more dimensions, by 2^{factor unit}."""
    return values if unit is None else times_power(values, unit, factor)


def times_power(values: Tensor, exponent: Tensor, factor: float = 1.0) -> Tensor:
    """Multiply values, (..., *), by 2^{factor exponent}, (...), whatever the power's own size."""
    return _times_twice(values, power(exponent, factor / 2))


def frobenius_norm(matrix: Tensor) -> Tensor:
    """Compute the Frobenius norm, (...), of (..., m, n): no square leaves the range."""
    unit = unit_of(matrix)
    norm: Tensor = torch.linalg.matrix_norm(in_unit(matrix, unit))
    return out_of_unit(norm, unit)


def power(exponent: Tensor, factor: float) -> Tensor:
    """Compute 2^{factor exponent} of whole exponents, to rounding."""
    # a rounded product would be off by its size times eps: the first factor is short enough for an
    # exact one
    short = round(factor * 2**10) / 2**10
    exact = exponent * short
    whole = exact.floor()
    result: Tensor = whole.exp2() * (exact - whole + exponent * (factor - short)).exp2()
    return result


def _times_twice(values: Tensor, half: Tensor) -> Tensor:
    """Multiply values, (..., *), by the square of ``half``, (...), which may leave the range."""
    half = half.reshape(half.shape + (1,) * (values.ndim - half.ndim))
    return values * half * half


def _exponent(*matrices: Tensor, least: float = 0.0) -> Tensor:
    """Find the exponent of the largest entry, (...), even; 0 for zeros and what is not finite."""
    # even, so that the root of the power is exact too
    peak = functools.reduce(torch.maximum, map(_peak, matrices)).clamp_min(least)
    return 2 * (peak.log2() / 2).floor().nan_to_num(0.0, 0.0, 0.0)


def _peak(matrix: Tensor) -> Tensor:
    """Find the largest absolute entry, (...); 0 where there is none."""
    entries = matrix.detach().abs().flatten(-2)
    return entries.amax(-1) if entries.shape[-1] else entries.sum(-1)
