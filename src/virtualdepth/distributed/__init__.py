"""P_W(G) of matrices that lie on several processes (level 1, below the optimizers)."""

from virtualdepth.distributed._agreement import Agreement, Summand
from virtualdepth.distributed._exchange import Owned, from_owners, to_owners
from virtualdepth.distributed._placement import (
    check_gradient_placed,
    check_not_flattened,
    cut,
    cutting_groups,
    is_distributed,
    is_flattened,
    local_part,
    own_part,
    placed,
    process_groups,
    sharded_matrix,
    whole,
)
from virtualdepth.distributed._plan import (
    Plan,
    Scheme,
    ShardedMatrix,
    owners,
    plan,
    scheme_bytes,
)

__all__ = [
    "Agreement",
    "Owned",
    "Plan",
    "Scheme",
    "ShardedMatrix",
    "Summand",
    "check_gradient_placed",
    "check_not_flattened",
    "cut",
    "cutting_groups",
    "from_owners",
    "is_distributed",
    "is_flattened",
    "local_part",
    "own_part",
    "owners",
    "placed",
    "plan",
    "process_groups",
    "scheme_bytes",
    "sharded_matrix",
    "to_owners",
    "whole",
]
