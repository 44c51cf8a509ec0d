"""The singular values that theory predicts for one matrix, from one record to the next."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._singular_triples import Basis, SingularTriples, moved
from virtualdepth.maths import singular_slopes, singular_value_velocity


@dataclass
class StepSums:
    """Sums over the steps of an interval; a ``ramp`` weighs step i = 0, 1, ... with i.

    Attributes:
        steps: number of steps.
        grad: sum of lr G, (m, n).
        grad_ramp: sum of i lr G, (m, n).
        decay: sum of lr lambda.
        decay_ramp: sum of i lr lambda.
    """

    # checkpoints hold these names
    steps: int
    grad: Tensor
    grad_ramp: Tensor
    decay: float = 0.0
    decay_ramp: float = 0.0

    def add(self, grad: Tensor, lr: float, decay: float) -> None:
        """Add a step with the gradient G, (m, n)."""
        self.grad.add_(grad, alpha=lr)
        self.grad_ramp.add_(grad, alpha=lr * self.steps)
        self.decay += lr * decay
        self.decay_ramp += lr * decay * self.steps
        self.steps += 1


class Comparison(NamedTuple):
    """Measured and predicted singular values, both (k,) in the order of the names.

    Attributes:
        sigma: measured now.
        theory: measured at first, plus every change predicted since.
        relative_error: ||predicted change - measured change|| / ||measured change|| since the last
            record; NaN without one, or where nothing moved by more than rounding.
    """

    sigma: Tensor
    theory: Tensor
    relative_error: float


class PredictedSpectrum:
    r"""Integrates :func:`virtualdepth.maths.singular_value_velocity` along a run.

    Singular vectors are known where an interval of h steps begins and ends. In between, the
    velocity that they give is interpolated linearly, with :math:`\tau_i = i/h` at step i:

    .. math:: \Delta\sigma_r = \sum_i \eta_i \left[(1-\tau_i)\, \dot\sigma_r^{\mathrm{begin}}(G_i)
        + \tau_i\, \dot\sigma_r^{\mathrm{end}}(G_i)\right].

    At h = 1 this is the Euler step of the theorem. The formula is linear in G, so two running sums
    of gradients hold all that is needed of the steps.
    """

    def __init__(self) -> None:
        self._triples = SingularTriples()
        self._last: tuple[Tensor, Tensor] | None = None  # sigma and theory
        self._sums: StepSums | None = None

    def add_step(self, grad: Tensor, lr: float, decay: float) -> None:
        """Add a step with gradient G, (m, n), and the weight decay of each factor."""
        if self._sums is None:
            self._sums = StepSums(0, torch.zeros_like(grad), torch.zeros_like(grad))
        self._sums.add(grad, lr, decay)

    def compare(self, matrix: Tensor, depth: float) -> Comparison:
        """Measure W, (m, n), compare it with the prediction, and begin the next interval."""
        begin = self._triples.basis
        sigma = self._triples.update(matrix)
        end = self._triples.basis
        sums, self._sums = self._sums, None
        if self._last is None or begin is None or end is None:
            found = Comparison(sigma, sigma, float("nan"))
        elif sums is None:
            found = Comparison(sigma, self._last[1], float("nan"))
        else:
            before, theory = self._last
            late, late_decay = sums.grad_ramp / sums.steps, sums.decay_ramp / sums.steps
            change = _velocity(before, begin, sums.grad - late, sums.decay - late_decay, depth)
            change = change + _velocity(sigma, end, late, late_decay, depth)
            error = _relative_error(change, sigma - before, sigma)
            found = Comparison(sigma, theory + change, error)
        self._last = found.sigma, found.theory
        return found

    def to(self, device: torch.device) -> None:
        """Move the tensors, which a checkpoint brings on the CPU."""
        self._triples.basis = moved(self._triples.basis, device)
        self._last = moved(self._last, device)
        if self._sums is not None:
            self._sums.grad = self._sums.grad.to(device)
            self._sums.grad_ramp = self._sums.grad_ramp.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and tensors, for a checkpoint."""
        return {
            "basis": self._triples.basis,
            "last": self._last,
            "sums": None if self._sums is None else asdict(self._sums),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._triples.basis = state["basis"]
        self._last = state["last"]
        self._sums = None if state["sums"] is None else StepSums(**state["sums"])


def _velocity(sigma: Tensor, basis: Basis, grad: Tensor, decay: float, depth: float) -> Tensor:
    return singular_value_velocity(sigma, singular_slopes(grad, *basis), depth, decay)


def _relative_error(predicted: Tensor, measured: Tensor, sigma: Tensor) -> float:
    change = torch.linalg.vector_norm(measured)
    # a smaller change is the rounding of the two decompositions
    if change <= 10 * torch.finfo(sigma.dtype).eps * torch.linalg.vector_norm(sigma):
        return float("nan")
    return float(torch.linalg.vector_norm(predicted - measured) / change)
