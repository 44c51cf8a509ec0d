"""The mathematics of depth: pure functions of tensors, without state (level 0)."""

from virtualdepth.maths.alignment import gradient_alignment, match_triples
from virtualdepth.maths.cap import relative_change
from virtualdepth.maths.checks import check_finite, check_matrix
from virtualdepth.maths.comparison import deficiency_margin, end_to_end_gap
from virtualdepth.maths.completion import complete_rows, reconstruction_error, squared_errors
from virtualdepth.maths.decomposition import LinAlgError, thin_svd
from virtualdepth.maths.dynamics import (
    guaranteed_descent,
    singular_slopes,
    singular_value_velocity,
)
from virtualdepth.maths.factorization import (
    balanced_factors,
    balancedness,
    end_to_end_product,
    layer_sizes,
    relative_balancedness,
)
from virtualdepth.maths.gram import GramFactors, gram_block, gram_block_size, gram_factors
from virtualdepth.maths.kernel import check_depth, depth_kernel, gain_exponent
from virtualdepth.maths.layers import factor_gradients, partial_products
from virtualdepth.maths.margin import normalized_margin
from virtualdepth.maths.metric import EndToEndGradient, EndToEndMetric, end_to_end_metric
from virtualdepth.maths.midpoint import midpoint_step
from virtualdepth.maths.polar import polar_gradient
from virtualdepth.maths.precondition import (
    check_rtol,
    end_to_end_gradient,
    precondition,
)
from virtualdepth.maths.probe import probe, probe_differs
from virtualdepth.maths.quasi_newton import Secant, inner, metric_length, quasi_newton, secants
from virtualdepth.maths.spectrum import (
    effective_rank,
    effective_rank_of_spectrum,
    nuclear_norm,
    schatten_norm,
    singular_values,
    spectral_norm,
    stable_rank,
)
from virtualdepth.maths.start import gaussian_start
from virtualdepth.maths.step_scale import relative_speed, squared_metric_norm, unit_scale

__all__ = [
    "EndToEndGradient",
    "EndToEndMetric",
    "GramFactors",
    "LinAlgError",
    "Secant",
    "balanced_factors",
    "balancedness",
    "check_depth",
    "check_finite",
    "check_matrix",
    "check_rtol",
    "complete_rows",
    "deficiency_margin",
    "depth_kernel",
    "effective_rank",
    "effective_rank_of_spectrum",
    "end_to_end_gap",
    "end_to_end_gradient",
    "end_to_end_metric",
    "end_to_end_product",
    "factor_gradients",
    "gain_exponent",
    "gaussian_start",
    "gradient_alignment",
    "gram_block",
    "gram_block_size",
    "gram_factors",
    "guaranteed_descent",
    "inner",
    "layer_sizes",
    "match_triples",
    "metric_length",
    "midpoint_step",
    "normalized_margin",
    "nuclear_norm",
    "partial_products",
    "polar_gradient",
    "precondition",
    "probe",
    "probe_differs",
    "quasi_newton",
    "reconstruction_error",
    "relative_balancedness",
    "relative_change",
    "relative_speed",
    "schatten_norm",
    "secants",
    "singular_slopes",
    "singular_value_velocity",
    "singular_values",
    "spectral_norm",
    "squared_errors",
    "squared_metric_norm",
    "stable_rank",
    "thin_svd",
    "unit_scale",
]
