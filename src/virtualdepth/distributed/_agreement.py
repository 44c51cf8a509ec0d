"""One decision on every process: an error on one of them is raised on all of them.

A step is local work that changes nothing, one all-reduce in each process group, a decision from the
reduced numbers alone, and local work that commits. So no process waits for one that has given up.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from virtualdepth.maths import LinAlgError

_KNOWN: tuple[type[Exception], ...] = (FloatingPointError, LinAlgError, TypeError, ValueError)


class Summand(NamedTuple):
    """What one process adds to a sum.

    Attributes:
        block: one-dimensional, float64, of the same length on all processes.
        groups: the process groups over which it is summed, one after the other.
    """

    block: Tensor
    groups: Sequence[Any]


class PlanChanged(Exception):
    """All processes have changed what a step sends, and alike: they have to begin it anew."""


def digest_of(description: Sequence[str]) -> int:
    """Compute a number of 48 bits from lines: the same on every process."""
    text = "\n".join(description).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=6).digest())


@dataclass
class Agreement:
    """The processes of one mesh in one step.

    Attributes:
        groups: their process groups, one for each dimension of the mesh.
        device: where tensors to be reduced lie.
        description: what has to be the same on all of them, a line each.
        changed: whether this process would have sent something else by now.
        failure: the first error on this process.
    """

    groups: Sequence[Any]
    device: torch.device
    description: Sequence[str] = ()
    changed: bool = False
    failure: Exception | None = None

    @contextmanager
    def local_work(self) -> Iterator[None]:
        """Hold back an exception until the other processes know of it."""
        try:
            yield
        except Exception as error:  # `reduce` raises it again, on all processes
            self.failure = self.failure or error

    def reduce(
        self, names: Sequence[str], present: Sequence[bool], summands: Sequence[Summand]
    ) -> list[Tensor]:
        """Sum over all processes by one all-reduce a group, or raise one error on all of them."""
        # the sums are bitwise the same on all processes of their groups, so all decide alike
        # by Cauchy's inequality digests are the same where n times the sum of their squares is the
        # square of their sum: of whole numbers that float64 adds exactly
        digest = float(digest_of(self.description) % 2**20)
        status = [float(self.failure is not None), float(self.changed), digest, digest**2]
        status += map(float, present)
        header = torch.tensor(status, dtype=torch.float64, device=self.device)
        sums = [each.block for each in summands]
        for group in self.groups:
            members = [place for place, each in enumerate(summands) if group in each.groups]
            pieces = [header, *(sums[place] for place in members)]
            bucket = torch.cat(pieces)
            dist.all_reduce(bucket, group=group)
            header, *reduced = torch.split(bucket, [len(piece) for piece in pieces])
            for place, total in zip(members, reduced, strict=True):
                sums[place] = total
        failures, changes, total, squares, *counts = header.tolist()
        processes = math.prod(group.size() for group in self.groups)
        if changes or processes * squares != total**2:
            self.compare()
        if changes:
            raise PlanChanged
        if failures:
            self._raise_everywhere()
        if any(0 < count < processes for count in counts):
            self._raise_missing(names, present)
        return sums

    def compare_digests(self) -> None:
        """Raise on all processes if their descriptions differ; two numbers are sent to find out."""
        digest = digest_of(self.description)
        extremes = torch.tensor([digest, -digest], device=self.device)
        for group in self.groups:
            dist.all_reduce(extremes, op=dist.ReduceOp.MIN, group=group)
        smallest, largest = extremes.tolist()
        if smallest != -largest:
            self.compare()

    def compare(self) -> None:
        """Raise on all processes where their descriptions differ, naming the first difference."""
        everyone = self._gather(list(self.description))
        first, expected = next(iter(everyone.items()))
        for rank, lines in everyone.items():
            pairs = zip_longest(expected, lines, fillvalue="no further parameter")
            ours, theirs = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
            if ours != theirs:
                raise RuntimeError(
                    "params: expected the same parameters and options on every process but rank "
                    f"{first} has {ours} where rank {rank} has {theirs}"
                )

    def _gather(self, value: Any) -> dict[int, Any]:
        """Collect a value from every process, by its global rank."""
        found = {dist.get_rank(): value}
        for group in self.groups:
            everyone: list[Any] = [None] * group.size()
            dist.all_gather_object(everyone, found, group=group)
            found = {rank: each for others in everyone for rank, each in others.items()}
        return dict(sorted(found.items()))

    def _raise_everywhere(self) -> None:
        """Raise the first failure of any process, on all of them."""
        told = None if self.failure is None else (type(self.failure).__name__, str(self.failure))
        failures = {rank: each for rank, each in self._gather(told).items() if each is not None}
        rank, (kind, text) = next(iter(failures.items()))
        error = next((known for known in _KNOWN if known.__name__ == kind), RuntimeError)
        prefix = f"{kind}: " if error is RuntimeError else ""
        raise error(f"rank {rank}: {prefix}{text} (no process took the step)") from self.failure

    def _raise_missing(self, names: Sequence[str], present: Sequence[bool]) -> None:
        """Raise on all processes if a parameter has a gradient on some of them only."""
        everyone = self._gather(list(present))
        for index, name in enumerate(names):
            without = [rank for rank, has in everyone.items() if not has[index]]
            if 0 < len(without) < len(everyone):
                raise RuntimeError(
                    f"{name}: expected a gradient on every process or on none but rank "
                    f"{without[0]} has none; the step was not taken. Let its loss depend on all "
                    "parameters, if only by adding 0 times them"
                )
