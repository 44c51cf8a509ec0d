"""Finiteness checks that make a step whole or not at all, without waiting for a device."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

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
        value = peak(tensor)
        if self.waits(tensor):
            self.pending.append((name, what, value))
        else:
            self._judge(name, what, value.item())

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
        if not self.pending:
            return None
        return torch.isfinite(torch.stack([value.float() for _, _, value in self.pending])).all()

    def settle(self) -> None:
        """Read what an earlier step left pending; this waits for that step only.

        Raises:
            FloatingPointError: if a tensor of that step was not finite.
        """
        pending, self.pending = self.pending, []
        if pending:
            values = torch.stack([value.float() for _, _, value in pending]).tolist()
            for (name, what, _), value in zip(pending, values, strict=True):
                self._judge(name, what, value)

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
                stacklevel=2,
            )


class Snapshot:
    """A copy of what a step may change, to undo it by a device flag that the host has not read.

    Args:
        parameters: tensors that the step changes in place.
        holders: dicts (states, groups) whose tensors the step changes in place or replaces and
            whose plain values it replaces.
    """

    def __init__(self, parameters: Iterable[Tensor], holders: Iterable[dict[str, Any]]) -> None:
        self._tensors = [(tensor, tensor.clone()) for tensor in parameters]
        self._holders = [
            (holder, {k: v.clone() if isinstance(v, Tensor) else v for k, v in holder.items()})
            for holder in holders
        ]

    def keep_if(self, verdict: Tensor) -> None:
        """Undo the step in every tensor where the flag is False, without reading it.

        Args:
            verdict: a boolean scalar on the device.
        """
        for tensor, old in self._tensors:
            tensor.copy_(torch.where(verdict, tensor, old))
        for holder, before in self._holders:
            for key, old in before.items():
                if isinstance(old, Tensor):
                    holder[key].copy_(torch.where(verdict, holder[key], old))

    def restore_plain_values(self) -> None:
        """Undo the step in what is no tensor, once the flag has been read as False."""
        for holder, before in self._holders:
            holder.update({k: v for k, v in before.items() if not isinstance(v, Tensor)})
