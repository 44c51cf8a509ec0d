"""The singular values that theory predicts for one matrix, from one record to the next."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._singular_triples import Basis, SingularTriples, moved
from virtualdepth._lightning.monitors._step_rule import blocks_of
from virtualdepth.maths import StructureName, singular_slopes, singular_value_velocity


@dataclass
class StepSums:
    """Sums over the steps of an interval; a ``ramp`` weighs step i = 0, 1, ... with i.

    Attributes:
        steps: number of steps.
        grad: sum of lr G, shaped as W, or of slopes, (R,).
        grad_ramp: sum of i lr G.
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
        """Add a step with the gradient G."""
        self.grad.add_(grad, alpha=lr)
        self.grad_ramp.add_(grad, alpha=lr * self.steps)
        self.decay += lr * decay
        self.decay_ramp += lr * decay * self.steps
        self.steps += 1


class Comparison(NamedTuple):
    """Measured and predicted singular values, both (k,) in the order of the names.

    Attributes:
        sigma: measured now.
        theory: measured at first, plus every change predicted since; the measured one where a step
            is not known.
        relative_error: ||predicted change - measured change|| / ||measured change|| since the last
            record; NaN without one, or where nothing moved by more than rounding.
    """

    sigma: Tensor
    theory: Tensor
    relative_error: float


# (sum of lr G, sum of lr lambda) at the begin and at the end -> predicted change
Change = Callable[[Tensor, float, Tensor, float], Tensor]


class Prediction:
    r"""Integrates a law of sizes along a run.

    The sizes' velocity is known where an interval of h steps begins and ends. In between it is
    interpolated linearly, with :math:`\tau_i = i/h` at step i:

    .. math:: \Delta\sigma_r = \sum_i \eta_i \left[(1-\tau_i)\, \dot\sigma_r^{\mathrm{begin}}(G_i)
        + \tau_i\, \dot\sigma_r^{\mathrm{end}}(G_i)\right].

    At h = 1 this is the Euler step of the theorem. The formula is linear in G, so two running sums
    of gradients hold all that is needed of the steps.
    """

    def __init__(self) -> None:
        self._last: tuple[Tensor, Tensor] | None = None  # sigma and theory
        self._sums: StepSums | None = None
        self._missed = False  # whether a step since the last record is not in the sums

    @property
    def structure(self) -> StructureName:
        """What the sizes are of, and how they are named."""
        raise NotImplementedError

    def add_step(self, grad: Tensor, lr: float, decay: float) -> None:
        """Add a step with gradient G, and the weight decay of each factor."""
        if self._sums is None:
            self._sums = StepSums(0, torch.zeros_like(grad), torch.zeros_like(grad))
        self._sums.add(grad, lr, decay)

    def miss_step(self) -> None:
        """Learn of a step that is not known: the interval has no prediction."""
        self._missed = True

    def compare(self, array: Tensor, depth: float, imbalance: float = 0.0) -> Comparison:
        """Measure what is stored, compare with the prediction, and begin the next interval."""
        sigma, change_of = self._measure(array, depth, imbalance)
        sums, self._sums = self._sums, None
        missed, self._missed = self._missed, False
        if self._last is None or change_of is None:
            found = Comparison(sigma, sigma, float("nan"))
        elif missed:
            before, theory = self._last
            found = Comparison(sigma, theory + (sigma - before), float("nan"))
        elif sums is None:
            found = Comparison(sigma, self._last[1], float("nan"))
        else:
            before, theory = self._last
            late, late_decay = sums.grad_ramp / sums.steps, sums.decay_ramp / sums.steps
            change = change_of(sums.grad - late, sums.decay - late_decay, late, late_decay)
            error = _relative_error(change, sigma - before, sigma)
            found = Comparison(sigma, theory + change, error)
        self._last = found.sigma, found.theory
        return found

    def _measure(
        self, array: Tensor, depth: float, imbalance: float
    ) -> tuple[Tensor, Change | None]:
        """Measure the sizes, (k,), and say how steps since the last time change them."""
        raise NotImplementedError

    def to(self, device: torch.device) -> None:
        """Move the tensors, which a checkpoint brings on the CPU."""
        self._last = moved(self._last, device)
        if self._sums is not None:
            self._sums.grad = self._sums.grad.to(device)
            self._sums.grad_ramp = self._sums.grad_ramp.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and tensors, for a checkpoint."""
        return {
            "last": self._last,
            "sums": None if self._sums is None else asdict(self._sums),
            "missed": self._missed,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._last = state["last"]
        self._sums = None if state["sums"] is None else StepSums(**state["sums"])
        self._missed = state.get("missed", False)


class PredictedSpectrum(Prediction):
    """Integrates :func:`virtualdepth.maths.singular_value_velocity`: the bases are renewed."""

    def __init__(self, structure: StructureName = "matrix") -> None:
        super().__init__()
        self._triples = SingularTriples(structure)

    @property
    def structure(self) -> StructureName:
        """The blocks that W consists of."""
        return self._triples.structure

    def _measure(
        self, array: Tensor, depth: float, imbalance: float
    ) -> tuple[Tensor, Change | None]:
        begin, last = self._triples.basis, self._last
        blocks = blocks_of(array, self.structure)
        sigma = self._triples.update(blocks)
        shape, sigma = sigma.shape, sigma.flatten()
        end = self._triples.basis
        if begin is None or end is None or last is None:
            return sigma, None
        before = last[0]
        # a zero has no vectors: it takes those along which it grows
        zero = (before <= _zero(blocks) * before.amax()).reshape(shape)
        u = torch.where(zero.unsqueeze(-2), end[0], begin[0])
        vh = torch.where(zero.unsqueeze(-1), end[1], begin[1])

        def velocity(sigma: Tensor, basis: Basis, grad: Tensor, decay: float) -> Tensor:
            slopes = singular_slopes(blocks_of(grad, self.structure), *basis).flatten()
            return singular_value_velocity(sigma, slopes, depth, decay, imbalance)

        def change(early: Tensor, early_decay: float, late: Tensor, late_decay: float) -> Tensor:
            moved_first = velocity(before, (u, vh), early, early_decay)
            return moved_first + velocity(sigma, end, late, late_decay)

        return sigma, change

    def to(self, device: torch.device) -> None:
        """Move the tensors, which a checkpoint brings on the CPU."""
        super().to(device)
        self._triples.basis = moved(self._triples.basis, device)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and tensors, for a checkpoint."""
        triples = self._triples
        return {"structure": triples.structure, "basis": triples.basis, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        # checkpoints once had no structures
        self._triples = SingularTriples(state.get("structure", "matrix"), state["basis"])
        super().load_state_dict(state)


def _zero(blocks: Tensor) -> float:
    """Return what counts as zero, relative to the largest singular value of (..., m, n)."""
    return max(blocks.shape[-2:]) * torch.finfo(blocks.dtype).eps


def _relative_error(predicted: Tensor, measured: Tensor, sigma: Tensor) -> float:
    change = torch.linalg.vector_norm(measured)
    # a smaller change is the rounding of the two decompositions
    if change <= 10 * torch.finfo(sigma.dtype).eps * torch.linalg.vector_norm(sigma):
        return float("nan")
    return float(torch.linalg.vector_norm(predicted - measured) / change)
