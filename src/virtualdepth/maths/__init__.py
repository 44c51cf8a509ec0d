"""The mathematics of depth: pure functions of tensors, without state (level 0)."""

from virtualdepth.maths.barzilai_borwein import Secant, midpoint_direction, secant_gradient
from virtualdepth.maths.checks import check_matrix
from virtualdepth.maths.decomposition import LinAlgError, thin_svd
from virtualdepth.maths.factorization import (
    balanced_factors,
    balancedness,
    end_to_end_product,
    layer_sizes,
)
from virtualdepth.maths.kernel import check_depth, depth_kernel, gain_exponent
from virtualdepth.maths.layers import factor_gradients, partial_products
from virtualdepth.maths.precondition import (
    EndToEndGradient,
    check_rtol,
    end_to_end_gradient,
    precondition,
)
from virtualdepth.maths.spectrum import effective_rank, nuclear_norm, schatten_norm, stable_rank
from virtualdepth.maths.start import gaussian_start
from virtualdepth.maths.step_scale import relative_speed, squared_metric_norm, unit_scale

__all__ = [
    "EndToEndGradient",
    "LinAlgError",
    "Secant",
    "balanced_factors",
    "balancedness",
    "check_depth",
    "check_matrix",
    "check_rtol",
    "depth_kernel",
    "effective_rank",
    "end_to_end_gradient",
    "end_to_end_product",
    "factor_gradients",
    "gain_exponent",
    "gaussian_start",
    "layer_sizes",
    "midpoint_direction",
    "nuclear_norm",
    "partial_products",
    "precondition",
    "relative_speed",
    "schatten_norm",
    "secant_gradient",
    "squared_metric_norm",
    "stable_rank",
    "thin_svd",
    "unit_scale",
]
