"""The mathematics of depth: pure functions of tensors, without state (level 0).

:mod:`virtualdepth.maths.jacobi` has a door of its own: singular vectors that follow a matrix.
"""

from virtualdepth.maths._chain import check_chain, layer_sizes
from virtualdepth.maths._checks import (
    check_depth,
    check_finite,
    check_imbalance,
    check_matrix,
    check_real,
    check_rtol,
    check_same_shape,
    in_dtype,
    most_exact,
    widened,
    working_dtype,
)
from virtualdepth.maths._components import (
    component_gain,
    component_slopes,
    component_velocity,
    vector_norms,
)
from virtualdepth.maths._dynamics import (
    guaranteed_descent,
    singular_slopes,
    singular_value_velocity,
    sizes_and_slopes,
)
from virtualdepth.maths._factorization import (
    balanced_factors,
    balancedness,
    end_to_end_product,
    factor_gradients,
    partial_products,
    relative_balancedness,
)
from virtualdepth.maths._fibre import fibre_path, frame_path
from virtualdepth.maths._gram import (
    GramPreconditioner,
    gram_block,
    gram_block_size,
    gram_preconditioner,
)
from virtualdepth.maths._kernel import depth_kernel, gain_exponent, layer_count
from virtualdepth.maths._midpoint import midpoint_step
from virtualdepth.maths._mode_tree import (
    Node,
    component_vectors,
    full_tensor,
    mode_tree,
    tensor_entries,
)
from virtualdepth.maths._precondition import precondition, preconditioned_gradient
from virtualdepth.maths._preconditioner import (
    Preconditioned,
    Preconditioner,
    SingularBasis,
    block_svd,
    preconditioner,
)
from virtualdepth.maths._products import matvec
from virtualdepth.maths._profile import gain_rate, least_size, small_square
from virtualdepth.maths._quasi_newton import (
    Secant,
    barzilai_borwein_length,
    inner_product,
    quasi_newton,
    secants,
)
from virtualdepth.maths._range import Peaks, Units, in_units, is_ordinary, times_power
from virtualdepth.maths._singular_values import singular_values
from virtualdepth.maths._start import gaussian_start
from virtualdepth.maths._step_size import (
    extent_of,
    relative_change,
    relative_speed,
    squared_preconditioned_norm,
    unit_scale,
    unit_step,
)
from virtualdepth.maths._svd import LinAlgError, thin_svd
from virtualdepth.maths._truncation import Truncation, largest_thin_rank, truncate
from virtualdepth.maths.measures import (
    complete_rows,
    decay_penalty,
    deficiency_margin,
    effective_rank,
    effective_rank_of_spectrum,
    end_to_end_gap,
    gradient_alignment,
    margin_residual,
    match_triples,
    normalized_margin,
    nuclear_norm,
    reconstruction_error,
    schatten_norm,
    spectral_norm,
    squared_errors,
    stable_rank,
)
from virtualdepth.maths.structures import (
    STRUCTURES,
    Form,
    Structure,
    StructureName,
    check_structure,
)

__all__ = [
    "STRUCTURES",
    "Form",
    "GramPreconditioner",
    "LinAlgError",
    "Node",
    "Peaks",
    "Preconditioned",
    "Preconditioner",
    "Secant",
    "SingularBasis",
    "Structure",
    "StructureName",
    "Truncation",
    "Units",
    "balanced_factors",
    "balancedness",
    "barzilai_borwein_length",
    "block_svd",
    "check_chain",
    "check_depth",
    "check_finite",
    "check_imbalance",
    "check_matrix",
    "check_real",
    "check_rtol",
    "check_same_shape",
    "check_structure",
    "complete_rows",
    "component_gain",
    "component_slopes",
    "component_vectors",
    "component_velocity",
    "decay_penalty",
    "deficiency_margin",
    "depth_kernel",
    "effective_rank",
    "effective_rank_of_spectrum",
    "end_to_end_gap",
    "end_to_end_product",
    "extent_of",
    "factor_gradients",
    "fibre_path",
    "frame_path",
    "full_tensor",
    "gain_exponent",
    "gain_rate",
    "gaussian_start",
    "gradient_alignment",
    "gram_block",
    "gram_block_size",
    "gram_preconditioner",
    "guaranteed_descent",
    "in_dtype",
    "in_units",
    "inner_product",
    "is_ordinary",
    "largest_thin_rank",
    "layer_count",
    "layer_sizes",
    "least_size",
    "margin_residual",
    "match_triples",
    "matvec",
    "midpoint_step",
    "mode_tree",
    "most_exact",
    "normalized_margin",
    "nuclear_norm",
    "partial_products",
    "precondition",
    "preconditioned_gradient",
    "preconditioner",
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
    "sizes_and_slopes",
    "small_square",
    "spectral_norm",
    "squared_errors",
    "squared_preconditioned_norm",
    "stable_rank",
    "tensor_entries",
    "thin_svd",
    "times_power",
    "truncate",
    "unit_scale",
    "unit_step",
    "vector_norms",
    "widened",
    "working_dtype",
]
