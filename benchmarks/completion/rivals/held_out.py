"""What all rivals share: their answer, and the choice of a setting by held-out entries."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from benchmarks.completion.draws import Flags, Floats

Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Answer:
    """What a method returns.

    Attributes:
        completed: an estimate of every entry, (m, n).
        deviation: the standard deviation of its error, without the noise of an observation, (m, n).
        note: what the method chose.
        noise: the variance of that noise, (n,).
    """

    completed: Floats
    deviation: Floats | None = None
    note: str = ""
    noise: Floats | None = None

    def covers(self, values: Floats, where: Flags, *, observed: bool = False) -> float | None:
        """Return the share of the values that the 95 % intervals contain; of observations if so."""
        if self.deviation is None or (observed and self.noise is None):
            return None
        variance = self.deviation**2 + (self.noise if observed else 0.0)
        away = abs(self.completed - values)
        return float(np.mean((away <= 1.96 * np.sqrt(variance))[where]))


def hold_out(known: Floats, seed: int, share: float = 0.1) -> Flags:
    """Choose a share of the known entries, never the last of a column."""
    rng = np.random.default_rng(seed)
    mask = ~np.isnan(known)
    places = rng.permutation(np.flatnonzero(mask))
    held = np.zeros_like(mask)
    left = mask.sum(0)
    wanted = max(1, round(share * len(places)))
    for place in places:
        column = place % known.shape[1]
        if left[column] > 1:
            held.flat[place] = True
            left[column] -= 1
            wanted -= 1
        if not wanted:
            break
    return held


def choose(
    known: Floats, seed: int, settings: Iterable[Setting], fill: Callable[[Floats, Setting], Floats]
) -> Setting:
    """Return the setting whose fit of nine tenths of the entries is best on the others."""
    held = hold_out(known, seed)
    fitted = np.where(held, np.nan, known)

    def error(setting: Setting) -> float:
        found = float(np.sum((fill(fitted, setting) - known)[held] ** 2))
        return found if np.isfinite(found) else np.inf

    return min(settings, key=error)
