"""P_W(G) of matrices that lie on several processes (level 1, below the optimizers)."""

from virtualdepth.distributed.agreement import Agreement
from virtualdepth.distributed.placement import (
    check_gradient_placed,
    is_distributed,
    local_part,
    mesh_of,
    own_part,
    placed,
    sharded_matrix,
    whole,
)
from virtualdepth.distributed.plan import Plan, Scheme, ShardedMatrix, plan

__all__ = [
    "Agreement",
    "Plan",
    "Scheme",
    "ShardedMatrix",
    "check_gradient_placed",
    "is_distributed",
    "local_part",
    "mesh_of",
    "own_part",
    "placed",
    "plan",
    "sharded_matrix",
    "whole",
]
