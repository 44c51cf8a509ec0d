"""Units of columns: what is subtracted and divided by before a fit, and put back after it."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virtualdepth.completion._entries import Entries, observe

Array = NDArray[Any]

# A column whose entries spread by less than this many roundings of its mean is constant.
ROUNDINGS = 8.0
# Neither variance of an additive fit is less than this part of the whole.
SMALLEST = 1e-6


class Units(NamedTuple):
    """x = offset + scale z, for each column.

    Attributes:
        offset: (n,).
        scale: (n,); 0 for a column in which nothing is left to learn.
        rounding: root mean square of what the rounding of x leaves in z.
    """

    offset: Array
    scale: Array
    rounding: float

    def moved(self, by: Array) -> "Units":
        """Return them with offsets moved by (n,), in these units."""
        return self._replace(offset=self.offset + self.scale * by)

    def standardise(self, entries: Entries) -> Entries:
        """Return z, without the columns of scale 0."""
        scale = self.scale[entries.columns]
        live = scale > 0
        kept = entries if live.all() else entries.keep(live)
        z = (entries.listed[live] - self.offset[kept.columns]) / scale[live]
        return observe(kept.rows, kept.columns, z, entries.shape, ordered=True)


def scaled_units(entries: Entries, precision: float) -> Units:
    """Root mean squares of the columns, and no offset; ``precision``: relative rounding of x."""
    largest = _largest(entries)
    relative = entries.listed / np.where(largest > 0, largest, 1)[entries.columns]
    scale = largest * _mean(entries, relative**2) ** 0.5
    return Units(np.zeros_like(scale), scale, precision)


def centred_units(entries: Entries, precision: float) -> Units:
    """Means and standard deviations of the columns; ``precision``: relative rounding of x."""
    n = entries.shape[1]
    lowest, highest = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(lowest, entries.columns, entries.listed)
    np.maximum.at(highest, entries.columns, entries.listed)
    seen = entries.column_counts > 0
    lowest, highest = np.where(seen, lowest, 0), np.where(seen, highest, 0)
    width = highest - lowest
    # from the lowest entry, so that a constant column has its value as its mean
    place = (entries.listed - lowest[entries.columns]) / np.where(width > 0, width, 1)[
        entries.columns
    ]
    mean = _mean(entries, place)
    spread = _mean(entries, (place - mean[entries.columns]) ** 2) ** 0.5
    offset, scale = lowest + width * mean, width * spread
    noise = precision * _largest(entries)
    scale = np.where(scale > ROUNDINGS * noise, scale, 0.0)
    rounding = noise[scale > 0] / scale[scale > 0]
    return Units(offset, scale, float(np.sqrt(np.mean(rounding**2))) if len(rounding) else 0.0)


def additive_units(entries: Entries, centred: Units, sweeps: int = 10) -> tuple[Units, float]:
    """Return units with the column offsets of an additive fit, and how sure these are not zero.

    A mean follows the rows that its column was seen in: z = row effect + column offset + noise does
    not. The effects are random, and their variance maximises the likelihood: where there are none,
    offsets are means. The second number is the mean square of offsets in units of their errors.
    """
    z = centred.standardise(entries)
    live = centred.scale > 0
    if not z.count:
        return centred, np.inf
    m, n = z.shape
    offset = np.zeros(n)
    counts = np.maximum(z.row_counts, 1)
    means = np.bincount(z.rows, z.listed, m) / counts
    variance = max(float(np.mean(means**2 - 1 / counts)), SMALLEST)
    noise = max(1 - variance, SMALLEST)
    for _ in range(sweeps):
        spread = noise / (z.row_counts + noise / variance)
        effect = np.bincount(z.rows, z.listed - offset[z.columns], m) * spread / noise
        rest = z.listed - effect[z.rows]
        offset = _mean(z, rest)
        square = np.mean((rest - offset[z.columns]) ** 2)
        noise = max(float(square + z.row_counts @ spread / z.count), SMALLEST)
        variance = max(float(np.mean(effect**2 + spread)), SMALLEST)
    units = centred._replace(offset=centred.offset + centred.scale * offset)
    size = np.mean(z.column_counts[live] * (units.offset[live] / units.scale[live]) ** 2)
    return units, float(size / noise)


def _largest(entries: Entries) -> Array:
    largest = np.zeros(entries.shape[1])
    np.maximum.at(largest, entries.columns, np.abs(entries.listed))
    return largest


def _mean(entries: Entries, listed: Array) -> Array:
    """Return the mean of each column, 0 for one without entries."""
    sums = np.bincount(entries.columns, listed, minlength=entries.shape[1])
    return np.asarray(sums / np.maximum(entries.column_counts, 1))


def offset_share(entries: Entries, centred: Units) -> float:
    """Return which share of the columns' mean squares their means are."""
    live = centred.scale > 0
    if not live.any():
        return 1.0
    weight = entries.column_counts[live]
    square = (centred.offset[live] / centred.scale[live]) ** 2
    return float(np.average(square / (1 + square), weights=weight))
