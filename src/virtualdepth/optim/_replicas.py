"""Copies of the same parameters on several processes, as DistributedDataParallel makes them.

They move alike only by the same options, which nothing else compares.
"""

import gc
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from virtualdepth.distributed import Agreement
from virtualdepth.optim._matrices import Group


@dataclass
class Replicas:
    """The processes that hold copies of an optimizer's parameters, and what they compare."""

    params: list[Tensor] = field(default_factory=list)
    wrapper: ref[DistributedDataParallel] | None = None  # of these parameters
    group: Any = None  # of the wrapper
    agreement: Agreement | None = None  # of these processes
    values: list[Any] = field(default_factory=list)  # of the options, when they were described

    def compare(self, groups: Sequence[Group], options: Iterable[str]) -> None:
        """Raise on all processes if options differ; two numbers are sent to find out."""
        # Each process has to send them at each step: one that had changed nothing, and so sent
        # nothing, would keep waiting the one that had
        params = [p for group in groups for p in group["params"]]
        wrapper = None if self.wrapper is None else self.wrapper()
        gone = self.wrapper is not None and wrapper is None  # another may have taken its place
        if gone or not _same(params, self.params):
            wrapper = self._find(params)
        # processes that join() takes out of the training take no steps
        if wrapper is None or self.agreement is None or wrapper._join_config.enable:
            return
        values = [group.get(name) for group in groups for name in options]
        if not _same(values, self.values) or any(isinstance(each, Tensor) for each in values):
            self.values = values
            self.agreement.description = [
                f"group {number} with {name}={_shown(group.get(name))}"
                for number, group in enumerate(groups)
                for name in options
            ]
        self.agreement.compare_digests()

    def _find(self, params: list[Tensor]) -> DistributedDataParallel | None:
        """Look for the module that keeps the copies equal: parameters know nothing of it."""
        self.params, self.wrapper, found = params, None, None
        wanted = set(map(id, params))
        for each in gc.get_objects():
            kind = type(each)  # isinstance would ask lazy objects what they are
            if kind.__name__ == "ZeroRedundancyOptimizer" and _holds(each, wanted):
                return None  # it gives each process some of the parameters, or none
            if issubclass(kind, DistributedDataParallel) and _holds(each, wanted):
                found = each
        if found is not None:
            self.wrapper = ref(found)
            if self.group is not found.process_group:
                self.group = found.process_group
                self.agreement = _agreement(self.group, params[0].device)
        return found


def _holds(holder: Any, wanted: set[int]) -> bool:
    """Tell whether a module, or an optimizer, has one of these parameters."""
    if isinstance(holder, torch.nn.Module):
        params: Iterable[Tensor] = holder.parameters()
    else:
        params = (p for group in holder.param_groups for p in group["params"])
    return any(id(p) in wanted for p in params)


def _agreement(group: Any, device: torch.device) -> Agreement:
    """Compare on the host where possible: reading a number from a device would wait for it."""
    if "cpu:" in str(dist.get_backend_config(group)):
        return Agreement([group], torch.device("cpu"))
    if dist.is_gloo_available():
        ranks = dist.get_process_group_ranks(group)
        group = dist.new_group(ranks, backend="gloo", use_local_synchronization=True)
        return Agreement([group], torch.device("cpu"))
    return Agreement([group], device)


def _same(values: Sequence[Any], known: Sequence[Any]) -> bool:
    return len(values) == len(known) and all(map(operator.is_, values, known))


def _shown(value: Any) -> str:
    """Describe a value, unless reading it would wait for a device."""
    if isinstance(value, Tensor):
        return repr(value.tolist()) if value.device.type == "cpu" else f"a tensor on {value.device}"
    return repr(value)
