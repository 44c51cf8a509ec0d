"""What a process sends: every collective of a block, counted, with its bytes by the ring model.

Nothing is taken from a plan: the sizes are those of the tensors that torch hands to its back end. A
collective that is not known here is an error, so that none is overlooked.
"""

from collections import Counter
from typing import Any

import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

_SEND_NOTHING = {"wait_tensor", "_wrap_tensor_autograd"}


class Traffic(TorchDispatchMode):
    """Count the collectives in a `with` block, and the bytes that this process sends for them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.sent = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # its own dispatch comes first, and then ours on the parts
        namespace, _, name = func.name().partition("::")
        if namespace in {"c10d", "_c10d_functional"} and name not in _SEND_NOTHING:
            self.counts[name] += 1
            self.sent += sent_bytes(name, *args)
        return func(*args, **(kwargs or {}))


def sent_bytes(name: str, *args: Any) -> int:
    """By the ring model, or, of an exchange, all that is not for the process itself."""
    if name == "allreduce_":
        tensors, group = args[0], dist.ProcessGroup.unbox(args[1])
        size = sum(tensor.nbytes for tensor in tensors)
        return 2 * size * (group.size() - 1) // group.size()
    if name == "all_gather_into_tensor":
        part, processes = args[0], args[1]
        return int(part.nbytes * (processes - 1))
    if name == "alltoall_base_":
        tensor, group, splits = args[1], dist.ProcessGroup.unbox(args[2]), args[4]
        own = splits[group.rank()] * tensor.element_size()
        return int(tensor.nbytes - own)
    raise NotImplementedError(f"{name}: expected an all-reduce, all-gather or exchange")
