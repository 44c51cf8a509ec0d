"""The gradient flow of deep linear networks and what is known of it (level 1)."""

from virtualdepth.theory.convergence import ConvergenceCertificate, convergence_certificate
from virtualdepth.theory.curl import rule_curl
from virtualdepth.theory.dynamics import singular_value_velocity, singular_vector_velocity
from virtualdepth.theory.flow import FlowResult, integrate_flow
from virtualdepth.theory.minimise import Minimum, minimise_over_factors
from virtualdepth.theory.tangent import tangent_kernel

__all__ = [
    "ConvergenceCertificate",
    "FlowResult",
    "Minimum",
    "convergence_certificate",
    "integrate_flow",
    "minimise_over_factors",
    "rule_curl",
    "singular_value_velocity",
    "singular_vector_velocity",
    "tangent_kernel",
]
