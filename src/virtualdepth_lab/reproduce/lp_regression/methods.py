"""Ways to descend on one weight vector, each for a batch of runs that differ in learning rate.

A method holds its runs' weights, (runs, 1, n), and moves all of them by one step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    factor_gradients,
    gain_exponent,
    partial_products,
    preconditioned_gradient,
)


class Runs(Protocol):
    """Runs of one method.

    Attributes:
        weights: w of every run, (runs, 1, n).
    """

    weights: Tensor

    def step(self, grads: Tensor) -> None:
        """Move every run.

        Args:
            grads: of the loss by ``weights``.
        """


# from the start, (1, n), and the learning rates, (runs,)
Method = Callable[[Tensor, Tensor], Runs]


def _repeated(start: Tensor, rates: Tensor) -> Tensor:
    return start.expand(len(rates), *start.shape).clone()


@dataclass
class RuleRuns:
    r"""One vector under the end-to-end rule of depth N, :math:`w \leftarrow w - \eta P_w(g)`.

    Attributes:
        weights: w of every run, (runs, 1, n).
        rates: eta of every run, (runs, 1, 1).
        depth: number of layers N.
        without_gain: divide by the rule's largest gain, :math:`N \|w\|^{2-2/N}`: what remains is
            the change of direction.
        only_gain: :math:`\|w\|^{2-2/N} g` in place of :math:`P_w(g)`: a step schedule.
    """

    weights: Tensor
    rates: Tensor
    depth: float
    without_gain: bool = False
    only_gain: bool = False

    def step(self, grads: Tensor) -> None:
        """Move every run.

        Args:
            grads: of the loss by ``weights``.
        """
        gain = self.weights.norm(dim=-1, keepdim=True).pow(gain_exponent(self.depth))
        if self.only_gain:
            direction = gain * grads
        else:
            direction = preconditioned_gradient(self.weights, grads, self.depth).direction
        if self.without_gain:
            direction = direction / (self.depth * gain)
        self.weights = self.weights - self.rates * direction


def rule(depth: float, *, without_gain: bool = False, only_gain: bool = False) -> Method:
    """Make the method of :class:`RuleRuns`.

    Args:
        depth: number of layers N.
        without_gain: see there.
        only_gain: see there.

    Returns:
        The method.
    """
    return lambda start, rates: RuleRuns(
        _repeated(start, rates), rates.view(-1, 1, 1), depth, without_gain, only_gain
    )


class ExplicitRuns:
    """An explicit network of hidden width 1 from balanced factors, by plain gradient descent.

    Args:
        start: w, (1, n).
        rates: eta of every run, (runs,).
        depth: number of layers N.
    """

    def __init__(self, start: Tensor, rates: Tensor, depth: int) -> None:
        self.rates = rates.view(-1, 1, 1)
        self._factors = balanced_factors(_repeated(start, rates), depth)
        self._multiply()

    def _multiply(self) -> None:
        self._products = partial_products(self._factors)
        self.weights = self._products[-1]

    def step(self, grads: Tensor) -> None:
        """Move every run.

        Args:
            grads: of the loss by ``weights``.
        """
        gradients = factor_gradients(self._factors, self._products, grads)
        self._factors = [
            factor - self.rates * gradient
            for factor, gradient in zip(self._factors, gradients, strict=True)
        ]
        self._multiply()


def explicit(depth: int) -> Method:
    """Make the method of :class:`ExplicitRuns`.

    Args:
        depth: number of layers N.

    Returns:
        The method.
    """
    return lambda start, rates: ExplicitRuns(start, rates, depth)


@dataclass
class NormalisedRuns:
    r"""Gradient descent with one scalar normaliser: :math:`\eta / (\sqrt{\hat v} + 10^{-4})`.

    v is the running mean (0.99, bias-corrected) of the squared gradient norm: the step rule of the
    published matrix factorisation experiments, at depth 1.

    Attributes:
        weights: w of every run, (runs, 1, n).
        rates: eta of every run, (runs, 1, 1).
        mean: v, not corrected.
        steps: taken.
    """

    weights: Tensor
    rates: Tensor
    mean: Tensor
    steps: int = 0

    def step(self, grads: Tensor) -> None:
        """Move every run.

        Args:
            grads: of the loss by ``weights``.
        """
        self.steps += 1
        self.mean = 0.99 * self.mean + 0.01 * grads.square().sum(dim=-1, keepdim=True)
        size = (self.mean / (1 - 0.99**self.steps)).sqrt() + 1e-4
        self.weights = self.weights - self.rates * grads / size


def normalised(start: Tensor, rates: Tensor) -> Runs:
    """Make :class:`NormalisedRuns`.

    Args:
        start: w, (1, n).
        rates: eta of every run, (runs,).

    Returns:
        The runs.
    """
    column = rates.view(-1, 1, 1)
    return NormalisedRuns(_repeated(start, rates), column, torch.zeros_like(column))


class TorchRuns:
    """An optimizer of torch, each run a parameter in a group of its own learning rate.

    Args:
        start: w, (1, n).
        rates: eta of every run, (runs,).
        optimizer: from groups to the optimizer.
    """

    def __init__(
        self,
        start: Tensor,
        rates: Tensor,
        optimizer: Callable[[Sequence[dict[str, object]]], torch.optim.Optimizer],
    ) -> None:
        self.weights = _repeated(start, rates)
        # views of one tensor, so that nothing is gathered between steps
        self._rows = [row.requires_grad_() for row in self.weights]
        groups = zip(self._rows, rates.tolist(), strict=True)
        self._optimizer = optimizer([{"params": [row], "lr": rate} for row, rate in groups])

    def step(self, grads: Tensor) -> None:
        """Move every run.

        Args:
            grads: of the loss by ``weights``.
        """
        for row, grad in zip(self._rows, grads, strict=True):
            row.grad = grad
        self._optimizer.step()


def by_torch(
    optimizer: Callable[[Sequence[dict[str, object]]], torch.optim.Optimizer],
) -> Method:
    """Make the method of :class:`TorchRuns`.

    Args:
        optimizer: from groups to the optimizer.

    Returns:
        The method.
    """
    return lambda start, rates: TorchRuns(start, rates, optimizer)
