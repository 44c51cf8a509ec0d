"""What theory predicts for the singular values of one matrix between two decompositions."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._tracking import TripleTracker, moved
from virtualdepth.maths import singular_slopes, singular_value_velocity


@dataclass
class Sums:
    """Running sums over the steps of an interval; ``ramp`` ones weigh step i with i.

    Attributes:
        steps: how many.
        grad: of lr G.
        grad_ramp: of i lr G.
        decay: of lr lambda.
        decay_ramp: of i lr lambda.
    """

    steps: int
    grad: Tensor
    grad_ramp: Tensor
    decay: float = 0.0
    decay_ramp: float = 0.0

    def add(self, grad: Tensor, lr: float, decay: float) -> None:
        """Take in one step.

        Args:
            grad: G, (m, n).
            lr: the step's learning rate.
            decay: lambda.
        """
        self.grad.add_(grad, alpha=lr)
        self.grad_ramp.add_(grad, alpha=lr * self.steps)
        self.decay += lr * decay
        self.decay_ramp += lr * decay * self.steps
        self.steps += 1


class Outcome(NamedTuple):
    """One interval, tensors in the order of the names.

    Attributes:
        sigma: the singular values measured now.
        theory: the first ones measured, plus every change predicted since.
        relative_error: ||predicted change - measured change|| / ||measured change|| since the last
            look; NaN where there is none, or nothing has moved by more than rounding.
    """

    sigma: Tensor
    theory: Tensor
    relative_error: float


class Prediction:
    r"""Integrates :func:`virtualdepth.maths.singular_value_velocity` along a run.

    The gradient is that of every step. Singular values and vectors are known where the interval
    begins and ends, and what they make of a gradient is interpolated linearly in between: with
    :math:`\tau_i = i/h` at step i of h,

    .. math:: \Delta\sigma_r = \sum_i \eta_i \left[(1-\tau_i)\, \dot\sigma_r^{\mathrm{begin}}(G_i)
        + \tau_i\, \dot\sigma_r^{\mathrm{end}}(G_i)\right].

    In an interval of one step only its beginning counts: the Euler step of the theorem. The formula
    is linear in G, so two running sums of gradients are all that is kept between the looks.
    """

    def __init__(self) -> None:
        self.tracker = TripleTracker()
        self._last: tuple[Tensor, Tensor] | None = None  # sigma and theory
        self._sums: Sums | None = None

    def add(self, grad: Tensor, lr: float, decay: float) -> None:
        """Take in one step.

        Args:
            grad: G, (m, n).
            lr: the step's learning rate.
            decay: the weight decay on every factor.
        """
        if self._sums is None:
            self._sums = Sums(0, torch.zeros_like(grad), torch.zeros_like(grad))
        self._sums.add(grad, lr, decay)

    def look(self, matrix: Tensor, depth: float) -> Outcome:
        """Measure, compare with what was predicted, and begin the next interval.

        Args:
            matrix: W, (m, n), finite.
            depth: N, as it is now.

        Returns:
            The interval's outcome.
        """
        begin = self.tracker.basis
        sigma, end = self.tracker.follow(matrix)
        sums, self._sums = self._sums, None
        if self._last is None or begin is None:
            outcome = Outcome(sigma, sigma, float("nan"))
        elif sums is None:
            outcome = Outcome(sigma, self._last[1], float("nan"))
        else:
            before, theory = self._last
            late, late_decay = sums.grad_ramp / sums.steps, sums.decay_ramp / sums.steps
            change = _velocity(before, begin, sums.grad - late, sums.decay - late_decay, depth)
            change = change + _velocity(sigma, end, late, late_decay, depth)
            error = _relative_error(change, sigma - before, sigma)
            outcome = Outcome(sigma, theory + change, error)
        self._last = outcome.sigma, outcome.theory
        return outcome

    def to(self, device: torch.device) -> None:
        """Move what a checkpoint has brought to where the matrix is.

        Args:
            device: of the matrix.
        """
        self.tracker.basis = moved(self.tracker.basis, device)
        self._last = moved(self._last, device)
        if self._sums is not None:
            self._sums.grad = self._sums.grad.to(device)
            self._sums.grad_ramp = self._sums.grad_ramp.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Hand bases and sums to a checkpoint.

        Returns:
            Plain numbers and tensors.
        """
        return {
            "basis": self.tracker.basis,
            "last": self._last,
            "sums": None if self._sums is None else asdict(self._sums),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take bases and sums up again.

        Args:
            state: what :meth:`state_dict` returned.
        """
        self.tracker.basis = state["basis"]
        self._last = state["last"]
        self._sums = None if state["sums"] is None else Sums(**state["sums"])


def _velocity(
    sigma: Tensor, basis: tuple[Tensor, Tensor], grad: Tensor, decay: float, depth: float
) -> Tensor:
    return singular_value_velocity(sigma, singular_slopes(grad, *basis), depth, decay)


def _relative_error(predicted: Tensor, measured: Tensor, sigma: Tensor) -> float:
    change = torch.linalg.vector_norm(measured)
    # a smaller change is the rounding of the two decompositions
    if change <= 10 * torch.finfo(sigma.dtype).eps * torch.linalg.vector_norm(sigma):
        return float("nan")
    return float(torch.linalg.vector_norm(predicted - measured) / change)
