"""The gradient flow of deep linear networks and what is known of it (level 1)."""

from virtualdepth.theory.dynamics import singular_value_velocity, singular_vector_velocity
from virtualdepth.theory.flow import FlowResult, integrate_flow
from virtualdepth.theory.tangent import tangent_kernel

__all__ = [
    "FlowResult",
    "integrate_flow",
    "singular_value_velocity",
    "singular_vector_velocity",
    "tangent_kernel",
]
