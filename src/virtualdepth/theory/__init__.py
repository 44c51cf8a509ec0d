"""The gradient flow of deep linear networks and what is known of it (level 2).

It needs numpy and scipy, which the extra ``estimators`` brings.
"""

from virtualdepth._extras import missing

try:
    import numpy  # noqa: F401
    import scipy  # noqa: F401
except ModuleNotFoundError as error:
    raise missing("virtualdepth.theory", error, "estimators") from error

from virtualdepth.theory._connecting_path import connecting_path
from virtualdepth.theory._convergence import ConvergenceCertificate, convergence_certificate
from virtualdepth.theory._curl import rule_curl
from virtualdepth.theory._dynamics import singular_value_velocity, singular_vector_velocity
from virtualdepth.theory._flow import FlowResult, integrate_flow
from virtualdepth.theory._infinite_width import infinite_width_kernel
from virtualdepth.theory._minimise import Minimum, minimise_over_factors
from virtualdepth.theory._model_tangent import model_tangent_kernel
from virtualdepth.theory._tangent import tangent_kernel

__all__ = [
    "ConvergenceCertificate",
    "FlowResult",
    "Minimum",
    "connecting_path",
    "convergence_certificate",
    "infinite_width_kernel",
    "integrate_flow",
    "minimise_over_factors",
    "model_tangent_kernel",
    "rule_curl",
    "singular_value_velocity",
    "singular_vector_velocity",
    "tangent_kernel",
]
