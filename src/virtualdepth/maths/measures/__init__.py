"""Measures of matrices: spectrum, alignment, gap, completion, margin."""

from virtualdepth.maths.measures._alignment import gradient_alignment, match_triples
from virtualdepth.maths.measures._completion import (
    complete_rows,
    reconstruction_error,
    squared_errors,
)
from virtualdepth.maths.measures._critical import margin_residual
from virtualdepth.maths.measures._decay import decay_penalty
from virtualdepth.maths.measures._gap import deficiency_margin, end_to_end_gap
from virtualdepth.maths.measures._margin import normalized_margin
from virtualdepth.maths.measures._spectrum import (
    effective_rank,
    effective_rank_of_spectrum,
    nuclear_norm,
    schatten_norm,
    spectral_norm,
    stable_rank,
)

__all__ = [
    "complete_rows",
    "decay_penalty",
    "deficiency_margin",
    "effective_rank",
    "effective_rank_of_spectrum",
    "end_to_end_gap",
    "gradient_alignment",
    "margin_residual",
    "match_triples",
    "normalized_margin",
    "nuclear_norm",
    "reconstruction_error",
    "schatten_norm",
    "spectral_norm",
    "squared_errors",
    "stable_rank",
]
