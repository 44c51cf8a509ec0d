"""Measures of end-to-end matrices as torchmetrics metrics (extra ``lightning``).

Each holds state only; the formula is a pure function in :mod:`virtualdepth.maths`. A measure of one
matrix is averaged over all matrices since the last reset, on all processes. Of gaps, defects and
margins the worst is kept.
"""

from virtualdepth._extras import missing

try:
    import torchmetrics  # noqa: F401
except ModuleNotFoundError as error:
    raise missing("virtualdepth.metrics", error, "lightning") from error

from virtualdepth.metrics._alignment import GradientAlignment
from virtualdepth.metrics._balancedness import Balancedness
from virtualdepth.metrics._completion import ReconstructionError
from virtualdepth.metrics._gap import DeficiencyMargin, EndToEndGap
from virtualdepth.metrics._margin import NormalizedMargin
from virtualdepth.metrics._spectrum import (
    DecayPenalty,
    EffectiveRank,
    NuclearNorm,
    SchattenNorm,
    SpectralNorm,
    StableRank,
)

__all__ = [
    "Balancedness",
    "DecayPenalty",
    "DeficiencyMargin",
    "EffectiveRank",
    "EndToEndGap",
    "GradientAlignment",
    "NormalizedMargin",
    "NuclearNorm",
    "ReconstructionError",
    "SchattenNorm",
    "SpectralNorm",
    "StableRank",
]
