"""Finiteness checks that make a step whole or not at all, without waiting for a device."""

import functools
import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor


def peak(tensor: Tensor) -> Tensor:
    """Find the largest absolute value; NaN and inf show through, 0 means all zeros.

    Args:
        tensor: not empty.

    Returns:
        A scalar tensor on the tensor's device.

    >>> peak(torch.tensor([1.0, -3.0]))
    tensor(3.)
    """
    low, high = torch.aminmax(tensor)  # one pass; isfinite().all() takes several
    return torch.maximum(-low, high)


@contextmanager
def only_if(verdict: Tensor | None, tensors: Iterable[Tensor]) -> Iterator[None]:
    """Undo what the block does to tensors unless a flag holds, without reading the flag.

    Args:
        verdict: a boolean scalar; None lets everything stand, at no cost.
        tensors: what the block writes to.

    Yields:
        Nothing.

    >>> weight = torch.ones(2)
    >>> with only_if(torch.tensor(False), [weight]):
    ...     _ = weight.mul_(5)
    >>> weight
    tensor([1., 1.])
    """
    if verdict is None:
        yield
        return
    kept = [(tensor, tensor.clone()) for tensor in tensors]
    yield
    for tensor, old in kept:
        tensor.copy_(torch.where(verdict.to(tensor.device), tensor, old))


@dataclass
class StepGuard:
    """The peaks of one step's matrices: read at once on the CPU, one step late on a device.

    Attributes:
        warned: names of zero matrices already warned of.
        pending: (name, what, peak) not read yet.
    """

    warned: set[str] = field(default_factory=set)
    pending: list[tuple[str, str, Tensor]] = field(default_factory=list)

    def admit(self, name: str, what: str, tensor: Tensor) -> None:
        """Take note of one tensor; on the CPU, refuse it now if it is not finite.

        Args:
            name: the parameter.
            what: "weight", "gradient" or "update".
            tensor: what must be finite.

        Raises:
            FloatingPointError: on the CPU, if ``tensor`` is not finite.
        """
        if self.waits(tensor):
            self.pending.append((name, what, peak(tensor)))
        else:  # the same in fewer operations
            low, high = torch.aminmax(tensor)
            self._judge(name, what, max(-low.item(), high.item()))

    def refuse(self, name: str, what: str, tensor: Tensor) -> None:
        """Refuse a part of a tensor now, on any device; it may be empty.

        Args:
            name: the parameter.
            what: "weight", "gradient" or "update".
            tensor: what must be finite; a part of zeros is nothing to warn of.

        Raises:
            FloatingPointError: if it is not finite.
        """
        if tensor.numel():
            value = peak(tensor).item()
            self._judge(name, what, value or 1.0)

    @staticmethod
    def waits(tensor: Tensor) -> bool:
        """Tell whether reading a value of this tensor would wait for a device.

        Args:
            tensor: any.

        Returns:
            False on the CPU.
        """
        return tensor.device.type != "cpu"

    def verdict(self) -> Tensor | None:
        """Combine what is pending into one flag on the device.

        Returns:
            A boolean scalar: all finite; None if nothing is pending.
        """
        return torch.isfinite(self._values()).all() if self.pending else None

    def settle(self) -> None:
        """Read what an earlier step left pending; by then the device has had time to finish it.

        Raises:
            FloatingPointError: if a tensor of that step was not finite.
        """
        if not self.pending:
            return
        values, pending = self._values().tolist(), self.pending
        self.drop()
        for (name, what, _), value in sorted(
            zip(pending, values, strict=True), key=lambda entry: math.isfinite(entry[1])
        ):
            self._judge(name, what, value)

    def drop(self) -> None:
        """Forget what is pending, of a step that was given up."""
        self.pending = []

    def _values(self) -> Tensor:
        peaks = [value for _, _, value in self.pending]
        # float64 only where a parameter has it: not every device does
        dtype = functools.reduce(torch.promote_types, (p.dtype for p in peaks), torch.float32)
        return torch.stack([p.to(peaks[0].device, dtype) for p in peaks])

    def _judge(self, name: str, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name}: expected a finite {what} but got NaN or inf; the step was not taken, "
                "weights and state are unchanged. The run has probably diverged: lower the "
                "learning rate, or clip the gradient norm"
            )
        if value == 0 and what == "weight" and name not in self.warned:
            self.warned.add(name)
            warnings.warn(
                f"{name}: all weights are zero, where P_W(G) = 0 at every depth > 1, so it will "
                "never move; start it with virtualdepth.init.balanced_(layer, 1e-3), or give its "
                "group depth=1",
                stacklevel=frames_to_user(),
            )


def frames_to_user() -> int:
    """Count the frames from the caller up to the one that called step(), past torch's wrappers.

    Returns:
        What :func:`warnings.warn` takes as stacklevel there.
    """
    frame, count = sys._getframe(1), 1
    while frame.f_back and frame.f_globals["__name__"].split(".")[0] in ("virtualdepth", "torch"):
        frame, count = frame.f_back, count + 1
    return count
