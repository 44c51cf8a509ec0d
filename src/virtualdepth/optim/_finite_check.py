"""Finiteness checks that make a step whole or not at all, without waiting for a device.

On the CPU a number is read at once, and the error is raised at once. Elsewhere reading it would
wait for the device: the writes of a step are masked by a flag that stays there, and the error is
raised one step late.
"""

import functools
import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_leaves

from virtualdepth.distributed import local_part

State = dict[str, Any]
# asked once: the answer never changes, and asking takes its time
DISTRIBUTED = dist.is_available()

Peak = float | Tensor  # a largest absolute value; a scalar tensor where reading it would wait


@dataclass
class FiniteCheck:
    """The largest entries of a step's matrices, and what depends on whether all are finite."""

    warned: set[str] = field(default_factory=set)  # names of zero matrices already warned of
    pending: list[tuple[str, str, Tensor]] = field(default_factory=list)  # name, what, peak: unread
    flag: Tensor | None = None  # whether all of them are finite; None where that is known
    # what masking by the flag leaves to do: numbers to restore, and tensors to read as numbers
    before: list[tuple[State, State]] = field(default_factory=list)
    unread: list[tuple[State, str]] = field(default_factory=list)

    @staticmethod
    def is_async(tensor: Tensor) -> bool:
        """Tell whether reading a value of this tensor would wait for a device."""
        return not tensor.is_cpu

    def check(self, name: str, what: str, tensor: Tensor) -> Peak:
        """Refuse a "weight", "gradient" or "update" that is not finite; on a device, later.

        Return its largest absolute value: a number, on a device a tensor.
        """
        if self.is_async(tensor):
            largest = peak(tensor)
            self.pending.append((name, what, largest))
            # half precision would overflow in the sums that bound what a step writes
            return largest.to(torch.promote_types(largest.dtype, torch.float32))
        low, high = torch.aminmax(tensor)  # as peak, in fewer operations
        value: float = max(-low.item(), high.item())
        if not 0 < value < math.inf:
            self._judge(name, what, value)
        return value

    def check_bound(self, name: str, what: str, bound: Peak, dtype: torch.dtype) -> None:
        """Refuse what may leave the range of a dtype, given a bound on its absolute value."""
        limit = torch.finfo(dtype).max
        if isinstance(bound, Tensor):
            self.pending.append((name, what, torch.where(bound <= limit, bound, math.inf)))
        elif not bound <= limit:  # NaN is not
            self._judge(name, what, math.inf)

    def check_all(self, name: str, what: str, values: Iterable[Any]) -> None:
        """Refuse numbers that are not finite among values of any kind, on any process."""
        several = DISTRIBUTED and dist.is_initialized()
        for value in values:
            if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
                if several or value.is_complex() or value.is_sparse or not value.numel():
                    value = entries(value)
                self.check(name, what, value)
            elif isinstance(value, dict | list | tuple):
                self.check_all(name, what, tree_leaves(value))

    def check_now(self, name: str, what: str, tensor: Tensor) -> None:
        """Refuse a part of a tensor now, on any device; it may be empty."""
        if tensor.numel():
            # a part may be all zeros: there is nothing to warn of
            self._judge(name, what, peak(tensor).item() or 1.0)

    def all_finite(self) -> Tensor:
        """Combine what is pending into a flag on the device."""
        return torch.isfinite(self._peaks()).all()

    def raise_pending(self) -> None:
        """Read what the last step left pending, and raise if it was not finite.

        By the next step the device has had time to finish, so that nothing waits.
        """
        if not self.pending:
            return
        values, pending = self._peaks().tolist(), self.pending
        before, unread = self.before, self.unread
        self.drop()
        if all(math.isfinite(value) for value in values):
            for state, key in unread:
                state[key] = float(state[key])
        else:
            for state, numbers in before:
                state.update(numbers)
        # an error comes before the warnings of the same step
        for (name, what, _), value in sorted(
            zip(pending, values, strict=True), key=lambda entry: math.isfinite(entry[1])
        ):
            self._judge(name, what, value)

    def drop(self) -> None:
        """Forget a step that was given up."""
        self.pending, self.flag, self.before, self.unread = [], None, [], []

    def write(self, state: State, values: State) -> None:
        """Update a state; where a flag decides, tensors are masked and numbers restored later."""
        numbers = {key: state[key] for key in values if not isinstance(state[key], Tensor)}
        if self.flag is not None:
            self.before.append((state, numbers))
        for key, value in values.items():
            if key in numbers and isinstance(value, Tensor):  # a number that a device has
                if self.flag is None:
                    value = value.item()
                else:
                    self.unread.append((state, key))
            elif key not in numbers and self.flag is not None:
                before = state[key].to(value.device, value.dtype)
                value = torch.where(self.flag.to(value.device), value, before)
            state[key] = value

    def _peaks(self) -> Tensor:
        peaks = [value for _, _, value in self.pending]
        # float64 only where a parameter has it: not every device does
        dtype = functools.reduce(torch.promote_types, (p.dtype for p in peaks), torch.float32)
        return torch.stack([p.to(peaks[0].device, dtype) for p in peaks])

    def _judge(self, name: str, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name}: expected a finite {what} but got NaN or inf; the step was not taken, "
                "weights and state are unchanged. The run has probably diverged: lower the "
                "learning rate, clip the gradient norm, or use step_scale='unit' if it is not set"
            )
        if value == 0 and what == "weight" and name not in self.warned:
            self.warned.add(name)
            warnings.warn(
                f"{name}: all weights are zero, where P_W(G) = 0 at every depth > 1, so it will "
                "never move; give its group imbalance=1e-3 or so, start it with "
                "virtualdepth.init.balanced_(layer, 1e-3), or give its group depth=1",
                stacklevel=frames_to_user(),
            )


def peak(tensor: Tensor) -> Tensor:
    """Find the largest absolute value, a scalar tensor; NaN and inf show through.

    >>> peak(torch.tensor([1.0, -3.0]))
    tensor(3.)
    """
    low, high = torch.aminmax(tensor)  # one pass; isfinite().all() takes several
    return torch.maximum(-low, high)


def entries(tensor: Tensor) -> Tensor:
    """Return the numbers that this process holds of a tensor, dense and real; 0 for none.

    >>> entries(torch.tensor([3 - 4j]))
    tensor([[ 3., -4.]])
    """
    tensor = local_part(tensor.detach())
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor if tensor.numel() else tensor.new_zeros(1)


@contextmanager
def only_if(flag: Tensor, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Undo what the block does to tensors unless a flag holds, without reading the flag.

    >>> weight = torch.ones(2)
    >>> with only_if(torch.tensor(False), [weight]):
    ...     _ = weight.mul_(5)
    >>> weight
    tensor([1., 1.])
    """
    copies = [(tensor, tensor.clone()) for tensor in tensors]
    yield
    for tensor, copy in copies:
        tensor.copy_(torch.where(flag.to(tensor.device), tensor, copy))


def frames_to_user() -> int:
    """Count the frames up to the one that called step(): the ``stacklevel`` of a warning."""
    frame, count, between = sys._getframe(1), 1, ("virtualdepth", "torch", "contextlib")
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in between:
        frame, count = frame.f_back, count + 1
    return count
