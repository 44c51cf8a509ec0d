"""Train a factorised tensor on the entries seen, and follow the norms of its components."""

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.maths import Node, component_slopes, component_velocity, vector_norms
from virtualdepth.networks import FactorizedTensor
from virtualdepth_lab.reproduce.tensor_factorization.problem import Completion

TOP = 8  # components of a node that are recorded
RECORDS = 300
MEMORY = 0.99  # of the mean squared gradient


@dataclass(frozen=True)
class Growth:
    """The components of a run.

    Attributes:
        steps: of the records.
        norms: node -> (records, TOP), the largest at the end first.
        law: node -> the same by the law, integrated from the first step on; of plain steps only.
        share: squared residual of the seen entries over their squares, at the end.
        error: relative distance from the whole truth, at the end.
        finished: whether the share fell below what was asked.
        cpu_s: CPU seconds.
    """

    steps: list[int]
    norms: dict[Node, Tensor]
    law: dict[Node, Tensor]
    share: float
    error: float
    finished: bool
    cpu_s: float


def grow(
    model: FactorizedTensor,
    problem: Completion,
    *,
    lr: float,
    most: int,
    share: float = 0.0,
    least: float | None = None,
) -> Growth:
    """Train until the share left is below ``share``, for ``most`` steps at most.

    With ``least`` the steps are the published loop's: gradients of the share over ``least`` plus
    the root of their mean squared norm. Without, they are those of gradient descent, and the law
    is integrated along them.

    Source: arXiv 2102.09972, appendix.
    """
    tick = time.process_time()
    mean, every = 0.0, max(1, most // RECORDS)
    law = _sizes(model) if least is None else {}
    steps: list[int] = []
    measured: list[dict[Node, Tensor]] = []
    predicted: list[dict[Node, Tensor]] = []
    for step in range(most + 1):
        for factor in model.factors:
            factor.grad = None
        tensor = model.tensor()
        left = problem.observed_share(tensor)
        done = step == most or float(left.detach()) < share
        if step % every == 0 or done:
            steps.append(step)
            measured.append(_sizes(model))
            predicted.append(law)
        if done:
            break
        left.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            length = lr
            if least is None:
                velocities = _velocities(model)
                law = {node: law[node] + lr * velocities[node] for node in law}
            else:
                squares = sum(float(factor.grad.square().sum()) for factor in model.factors)
                mean = MEMORY * mean + (1 - MEMORY) * squares
                length /= (mean / (1 - MEMORY ** (step + 1))) ** 0.5 + least
            for factor in model.factors:
                factor -= length * factor.grad
    largest = {
        node: torch.topk(sizes, min(TOP, len(sizes))).indices
        for node, sizes in measured[-1].items()
    }
    return Growth(
        steps=steps,
        norms={n: torch.stack([each[n][at] for each in measured]) for n, at in largest.items()},
        law={n: torch.stack([each[n][largest[n]] for each in predicted]) for n in law},
        share=float(left.detach()),
        error=problem.error(tensor.detach()),
        finished=float(left.detach()) < share,
        cpu_s=time.process_time() - tick,
    )


@torch.no_grad()
def _sizes(model: FactorizedTensor) -> dict[Node, Tensor]:
    nodes = model.component_vectors(list(model.factors))
    return {node: vector_norms(vectors).prod(0) for node, vectors in nodes.items()}


def _velocities(model: FactorizedTensor) -> dict[Node, Tensor]:
    """Compute the law's velocities, from the gradients of the factors."""
    factors = list(model.factors)
    grads = model.component_vectors([factor.grad for factor in factors])
    return {
        node: component_velocity(vector_norms(vectors), component_slopes(vectors, grads[node]))
        for node, vectors in model.component_vectors(factors).items()
    }


def rising(curves: Tensor, count: int) -> list[int]:
    """Return for the largest components the record at which each passes half of its end.

    >>> rising(torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0]]), 2)
    [1, 2]
    """
    above = curves[:, :count] >= curves[-1, :count] / 2
    return [int(column.int().argmax()) for column in above.T]


def most_at_once(curves: Tensor, count: int) -> int:
    """Count how many components are between a tenth and nine tenths of their ends at one time.

    >>> most_at_once(torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.5], [2.0, 1.0]]), 2)
    1
    """
    ends = curves[-1, :count]
    between = (curves[:, :count] > ends / 10) & (curves[:, :count] < 0.9 * ends)
    return int(between.sum(1).max())
