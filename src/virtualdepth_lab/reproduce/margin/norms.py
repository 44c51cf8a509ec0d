"""Which margin does each depth enlarge? A structured weight under the rule, and convex solvers.

Sources: arXiv 1806.00468, theorems 1 and 2; arXiv 1810.02032; arXiv 1906.05890.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from virtualdepth.maths import depth_kernel, margin_residual, singular_values
from virtualdepth.maths import precondition as preconditioned
from virtualdepth_lab.reproduce.margin.constrained import Margins, one_vector, vector_outputs
from virtualdepth_lab.reproduce.margin.methods import RELATIVE_STEP, STEP
from virtualdepth_lab.reproduce.result import Progress, Record

DEPTHS = (1, 2, 3)
IMBALANCES = {1: 0.0, 2: 1e-4, 3: 1e-3}  # so that a weight of zeros moves
NEAR = 0.05  # margins within this share of the least one are active
COUNTS = 0.01  # of the largest size: smaller ones do not count


PROBLEMS = (
    vector_outputs,
    partial(one_vector, structure="diagonal"),
    partial(one_vector, structure="circulant"),
)


def norm_rows(problem: Margins, seed: int, steps: int, progress: Progress) -> Iterator[Record]:
    """Yield a row for each depth, with the sizes of W, falling, over the largest as an array.

    The convex optima are rows too: "depth" is then that of the norm they are the best in.
    """
    best = {depth: problem.largest(depth) for depth in (1, 2)}
    for depth, weight in best.items():
        found = {"method": f"least {problem.norms[depth - 1]} norm", "depth": depth}
        yield _row(problem, seed, found, weight, best)
    for depth in DEPTHS:
        progress(f"{problem.name}, seed {seed}, depth {depth}")
        weight = descend(problem, depth, steps)
        yield _row(problem, seed, {"method": f"depth {depth}", "depth": depth}, weight, best)


def sizes_name(row: Record) -> str:
    """Return the name under which the sizes of a row are kept."""
    return f"{row['problem']}, seed {row['seed']}, {row['method']}"


def _row(
    problem: Margins, seed: int, found: Record, weight: Tensor, best: dict[int, Tensor]
) -> Record:
    """Compare the margins of a weight, in the norms of depth 1 and 2, with the largest ones."""
    depth, margins = found["depth"], problem.margins(weight)
    active = problem.gradients[margins <= margins.min() + NEAR * margins.min().abs()]
    ratios = [
        problem.normalised(weight, each) / problem.normalised(best[each], each) for each in (1, 2)
    ]
    relative = relative_sizes(problem, weight)
    row: Record = {"part": "norms", "problem": problem.name, "seed": seed, **found}
    row |= {
        "of_largest_1": ratios[0],
        "of_largest_2": ratios[1],
        "margin_3": problem.normalised(weight, 3),
        "residual": float(margin_residual(weight, active, depth, structure=problem.structure)),
        "counting": int((relative > COUNTS).sum()),
    }
    return row | {"arrays": {sizes_name(row): relative.numpy()}}


def descend(problem: Margins, depth: int, steps: int) -> Tensor:
    r"""Descend the logarithm of :math:`\\sum_i e^{-m_i}` by the rule, from W = 0 or near it.

    A step changes W by at most its twentieth. Depth 1 starts at 0; at others the imbalance of the
    layers makes a weight of zeros move.
    """
    weight = torch.zeros_like(problem.gradients[0])
    imbalance = IMBALANCES[depth]
    floor = max(imbalance ** (depth / 2), 1e-6)  # the size of a weight of zeros
    for _ in range(steps):
        shares = torch.softmax(-problem.margins(weight), 0)
        grad = -torch.tensordot(shares, problem.gradients, 1)
        direction = preconditioned(
            weight, grad, depth, structure=problem.structure, imbalance=imbalance
        )
        largest = sizes(problem, weight).amax()
        gain = float(depth_kernel(largest, largest, depth, imbalance))
        length = min(STEP, RELATIVE_STEP * max(float(weight.norm()), floor))
        weight = weight - length / gain * direction
    return weight


def sizes(problem: Margins, weight: Tensor) -> Tensor:
    """Compute singular values, entries or frequencies, as the rule sees them."""
    if problem.structure == "matrix":
        return singular_values(weight)
    return weight.abs() if problem.structure == "diagonal" else torch.fft.rfft(weight).abs()


def relative_sizes(problem: Margins, weight: Tensor) -> Tensor:
    """Sort the sizes, the largest first, and divide by it."""
    found = sizes(problem, weight).sort(descending=True).values
    return found / found[0]
