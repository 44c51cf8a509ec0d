"""Ways to descend on one weight vector, each for a batch of runs that differ in learning rate.

A method holds its runs' weights, (runs, 1, n), and moves all of them by one step.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from virtualdepth.maths import (
    balanced_factors,
    gain_exponent,
    partial_products,
    preconditioned_gradient,
)
from virtualdepth_lab.reproduce.network import layer_step


class Runs(Protocol):
    """Runs of one method; ``weights`` are the w of every run, (runs, 1, n)."""

    weights: Tensor

    def step(self, grads: Tensor) -> None:
        """Move every run, given the gradients at ``weights``."""


# from the weights at the start, (runs, 1, n), and the learning rates, (runs, 1, 1)
Method = Callable[[Tensor, Tensor], Runs]


class RuleRuns:
    r"""One vector under the end-to-end rule of depth N, :math:`w \leftarrow w - \eta P_w(g)`.

    ``without_gain`` divides by the rule's largest gain, :math:`N \|w\|^{2-2/N}`: what remains is
    the change of direction. ``only_gain`` takes :math:`\|w\|^{2-2/N} g` in place of
    :math:`P_w(g)`: a step schedule.
    """

    def __init__(
        self,
        weights: Tensor,
        rates: Tensor,
        depth: float,
        *,
        without_gain: bool = False,
        only_gain: bool = False,
    ) -> None:
        self.weights, self.rates, self.depth = weights, rates, depth
        self.without_gain, self.only_gain = without_gain, only_gain

    def step(self, grads: Tensor) -> None:
        """Move every run."""
        gain = self.weights.norm(dim=-1, keepdim=True).pow(gain_exponent(self.depth))
        if self.only_gain:
            direction = gain * grads
        else:
            direction = preconditioned_gradient(self.weights, grads, self.depth).direction
        if self.without_gain:
            direction = direction / (self.depth * gain)
        self.weights = self.weights - self.rates * direction


class ExplicitRuns:
    """An explicit network of hidden width 1 from balanced factors, by plain gradient descent."""

    def __init__(self, weights: Tensor, rates: Tensor, depth: int) -> None:
        self.rates = rates
        self._factors = balanced_factors(weights, depth)
        self._multiply()

    def _multiply(self) -> None:
        self._products = partial_products(self._factors)
        self.weights = self._products[-1]

    def step(self, grads: Tensor) -> None:
        """Move every run."""
        self._factors = layer_step(self._factors, self._products, grads, self.rates)
        self._multiply()


class NormalisedRuns:
    r"""Gradient descent with one scalar normaliser: :math:`\eta / (\sqrt{\hat v} + 10^{-4})`.

    v is the running mean (0.99, bias-corrected) of the squared gradient norm: the step rule of the
    published matrix factorisation experiments, at depth 1.
    """

    def __init__(self, weights: Tensor, rates: Tensor) -> None:
        self.weights, self.rates = weights, rates
        self._mean, self._steps = torch.zeros_like(rates), 0

    def step(self, grads: Tensor) -> None:
        """Move every run."""
        self._steps += 1
        self._mean = 0.99 * self._mean + 0.01 * grads.square().sum(dim=-1, keepdim=True)
        size = (self._mean / (1 - 0.99**self._steps)).sqrt() + 1e-4
        self.weights = self.weights - self.rates * grads / size


class TorchRuns:
    """An optimizer of torch; each run is a parameter in a group with a learning rate of its own."""

    def __init__(
        self,
        weights: Tensor,
        rates: Tensor,
        optimizer: Callable[[Sequence[dict[str, Any]]], torch.optim.Optimizer],
    ) -> None:
        self.weights = weights
        # views of one tensor, so that nothing has to be gathered between steps
        self._rows = [row.requires_grad_() for row in self.weights]
        groups = zip(self._rows, rates.flatten().tolist(), strict=True)
        self._optimizer = optimizer([{"params": [row], "lr": rate} for row, rate in groups])

    def step(self, grads: Tensor) -> None:
        """Move every run."""
        for row, grad in zip(self._rows, grads, strict=True):
            row.grad = grad
        self._optimizer.step()
