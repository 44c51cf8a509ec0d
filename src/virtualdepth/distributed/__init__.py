"""P_W(G) of matrices that lie on several processes (level 1, below the optimizers)."""

from virtualdepth.distributed._agreement import Agreement, PlanChanged, Summand, digest_of
from virtualdepth.distributed._exchange import Owned, from_owners, to_owners
from virtualdepth.distributed._placement import (
    check_gradient_placed,
    check_not_flattened,
    cut_dims,
    dtensor_like,
    full_tensor,
    is_distributed,
    is_flattened,
    local_part,
    process_groups,
    shard_groups,
    shard_like,
    shard_sizes,
    sharded_matrix,
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
    "PlanChanged",
    "Scheme",
    "ShardedMatrix",
    "Summand",
    "check_gradient_placed",
    "check_not_flattened",
    "cut_dims",
    "digest_of",
    "dtensor_like",
    "from_owners",
    "full_tensor",
    "is_distributed",
    "is_flattened",
    "local_part",
    "owners",
    "plan",
    "process_groups",
    "scheme_bytes",
    "shard_groups",
    "shard_like",
    "shard_sizes",
    "sharded_matrix",
    "to_owners",
]
