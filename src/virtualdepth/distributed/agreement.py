"""One decision on every process: what one of them finds wrong, all of them refuse.

A step is local work that changes nothing, one all-reduce, a decision from the reduced numbers
alone, and local work that commits. So no process waits for another that has given up.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from virtualdepth.maths import LinAlgError

_KNOWN: tuple[type[Exception], ...] = (FloatingPointError, LinAlgError, TypeError, ValueError)


@dataclass
class Agreement:
    """The processes of one mesh in one step.

    Attributes:
        group: their process group.
        device: where tensors to be reduced lie.
        failure: what went wrong on this process.
    """

    group: Any
    device: torch.device
    failure: Exception | None = None

    @contextmanager
    def local_work(self) -> Iterator[None]:
        """Hold an exception back until the others can hear of it.

        Yields:
            Nothing.
        """
        try:
            yield
        except Exception as error:  # raised again, on all processes, by `reduce`
            self.failure = self.failure or error

    def reduce(
        self, names: Sequence[str], present: Sequence[bool], blocks: Sequence[Tensor]
    ) -> list[Tensor]:
        """Add up blocks over all processes by one all-reduce, or raise one error on all of them.

        Args:
            names: of all parameters.
            present: whether each has a gradient here.
            blocks: one-dimensional; their number and sizes are the same on all processes.

        Returns:
            The sums, in float64, bitwise the same everywhere.

        Raises:
            RuntimeError: if another process failed in a way that has no class of its own here, or
                a parameter has a gradient on some processes only.
        """
        header = [float(self.failure is not None), *map(float, present)]
        bucket = torch.cat([torch.tensor(header, dtype=torch.float64, device=self.device), *blocks])
        if self.failure is not None:
            bucket[len(header) :] = 0
        dist.all_reduce(bucket, group=self.group)
        failures, *counts = bucket[: len(header)].tolist()
        if failures:
            self._raise_everywhere()
        processes = dist.get_world_size(self.group)
        if any(0 < count < processes for count in counts):
            self._raise_missing(names, present)
        sizes = [len(block) for block in blocks]
        return list(torch.split(bucket[len(header) :], sizes))

    def compare(self, description: Sequence[str]) -> None:
        """Refuse to begin where processes do not optimize the same parameters.

        Args:
            description: one line a parameter.

        Raises:
            RuntimeError: on all processes, naming the first difference.
        """
        everyone = self._gather(list(description))
        for rank, other in enumerate(everyone):
            if other == everyone[0]:
                continue
            first = next(
                (pair for pair in zip(everyone[0], other, strict=False) if pair[0] != pair[1]),
                (f"{len(everyone[0])} parameters", f"{len(other)} parameters"),
            )
            raise RuntimeError(
                "params: expected the same parameters and depths on every process but rank 0 has "
                f"{first[0]} where rank {rank} has {first[1]}"
            )

    def _gather(self, value: Any) -> list[Any]:
        everyone = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(everyone, value, group=self.group)
        return everyone

    def _raise_everywhere(self) -> None:
        failure = self.failure
        told = None if failure is None else (type(failure).__name__, str(failure))
        rank, (kind, text) = next(
            (rank, found) for rank, found in enumerate(self._gather(told)) if found is not None
        )
        error = next((known for known in _KNOWN if known.__name__ == kind), RuntimeError)
        prefix = f"{kind}: " if error is RuntimeError else ""
        raise error(
            f"rank {rank}: {prefix}{text} (weights and state are unchanged on all processes)"
        ) from failure

    def _raise_missing(self, names: Sequence[str], present: Sequence[bool]) -> None:
        everyone = self._gather(list(present))
        for index, name in enumerate(names):
            without = [rank for rank, has in enumerate(everyone) if not has[index]]
            if 0 < len(without) < len(everyone):
                raise RuntimeError(
                    f"{name}: expected a gradient on every process or on none but rank "
                    f"{without[0]} has none; the step was not taken. Let its loss depend on all "
                    "parameters, if only by adding 0 times them"
                )
