"""Two ReLU networks of one hidden layer, trained from different seeds, joined by dropout stability.

The loss is convex in the outgoing weights, and incoming weights of a unit without outgoing ones are
free. So a path is made of these moves, of which the free ones leave the function as it is:

1. A's outgoing weights go straight to those that use the first half of the units only;
2. the other units take B's incoming weights (free);
3. the outgoing weights go straight to those that use B's second half only;
4. the first half takes B's incoming weights (free);
5. the outgoing weights go straight to B's.

The highest loss is that of an end of a straight move: of A, A's first half, B's second half or B. A
network is dropout stable if half of it loses little.

Source: arXiv 1906.06247, Theorem 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import torch
from torch import Tensor
from torch.nn import functional

HELD_OUT = 500


@dataclass(frozen=True)
class Net:
    """Incoming weights and biases of hidden units, (h, n + 1), and outgoing ones, (h + 1, m)."""

    incoming: Tensor
    outgoing: Tensor

    def hidden(self, inputs: Tensor) -> Tensor:
        """Compute the units, and the constant of the output's biases, (samples, h + 1)."""
        return _with_ones(torch.relu(inputs @ self.incoming.T))

    def logits(self, inputs: Tensor) -> Tensor:
        """Compute the outputs, (samples, m)."""
        return self.hidden(inputs) @ self.outgoing


@dataclass(frozen=True)
class Digits:
    """scikit-learn's digits: inputs with a constant, (samples, 65), and labels, training first."""

    inputs: Tensor
    labels: Tensor

    def loss(self, net: Net) -> float:
        """Compute the mean cross-entropy of the training samples."""
        logits = net.logits(self.inputs[:-HELD_OUT])
        return float(functional.cross_entropy(logits, self.labels[:-HELD_OUT]))

    def errors(self, net: Net) -> float:
        """Compute the share of held-out samples that are wrong."""
        found = net.logits(self.inputs[-HELD_OUT:]).argmax(1)
        return float((found != self.labels[-HELD_OUT:]).double().mean())


def load_digits() -> Digits:
    """Load the digits, in an order that is the same for all."""
    from sklearn import datasets

    data, digits = datasets.load_digits(return_X_y=True)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    inputs = _with_ones(torch.from_numpy(data / 16))
    return Digits(inputs[order], torch.from_numpy(digits)[order])


def train(problem: Digits, width: int, seed: int, steps: int) -> Net:
    """Train by Adam on the whole training set."""
    generator = torch.Generator().manual_seed(seed)
    features = problem.inputs.shape[1]
    incoming = torch.randn(width, features, generator=generator, dtype=torch.float64)
    outgoing = torch.randn(width + 1, 10, generator=generator, dtype=torch.float64)
    parameters = [
        (incoming * (2 / features) ** 0.5).requires_grad_(),
        (outgoing / width**0.5).requires_grad_(),
    ]
    _minimise(problem, lambda: Net(*parameters), parameters, steps, lr=3e-3)
    return Net(*(parameter.detach() for parameter in parameters))


def _minimise(
    problem: Digits,
    net: Callable[[], Net],
    parameters: Sequence[Tensor],
    steps: int,
    lr: float,
) -> None:
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = net().logits(problem.inputs[:-HELD_OUT])
        loss = functional.cross_entropy(logits, problem.labels[:-HELD_OUT])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def doubled(net: Net, kept: Tensor) -> Net:
    """Drop all units but the kept ones, whose outgoing weights double, as dropout does."""
    outgoing = torch.zeros_like(net.outgoing)
    outgoing[kept], outgoing[-1] = 2 * net.outgoing[kept], net.outgoing[-1]
    return Net(net.incoming, outgoing)


def fitted(problem: Digits, net: Net, kept: Tensor, steps: int) -> Net:
    """Drop all units but the kept ones, whose outgoing weights are trained: a convex problem."""
    mask = torch.zeros(len(net.outgoing), 1, dtype=torch.float64)
    mask[kept] = 1
    mask[-1] = 1
    outgoing = (mask * net.outgoing).requires_grad_()
    _minimise(problem, lambda: Net(net.incoming, mask * outgoing), [outgoing], steps, lr=3e-2)
    return Net(net.incoming, (mask * outgoing).detach())


Half = Callable[[Net, Tensor], Net]


def join(first: Net, second: Net, half: Half, points: int) -> Iterator[Net]:
    """Yield the points of a path, both ends included."""
    units = len(first.incoming)
    part = half(first, torch.arange(units // 2))
    part_too = half(second, torch.arange(units // 2, units))
    both = torch.cat([first.incoming[: units // 2], second.incoming[units // 2 :]])
    corners = [
        first,
        part,
        Net(both, part.outgoing),
        Net(both, part_too.outgoing),
        part_too,
        second,
    ]
    for number, (start, end) in enumerate(pairwise(corners)):
        move = straight(start, end, points)
        yield from move if number == 0 else islice(move, 1, None)


def straight(first: Net, second: Net, points: int) -> Iterator[Net]:
    """Yield the points of the straight line."""
    for time in torch.linspace(0, 1, points, dtype=torch.float64):
        yield Net(
            torch.lerp(first.incoming, second.incoming, time),
            torch.lerp(first.outgoing, second.outgoing, time),
        )


def _with_ones(rows: Tensor) -> Tensor:
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=rows.dtype)], dim=1)
