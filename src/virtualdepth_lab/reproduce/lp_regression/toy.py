"""Two samples, one for each weight: where depth provably accelerates, and where it does not.

Source: arXiv 1802.06509, section 5 (the l_4 illustration); the slides of 2019, page 21.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from virtualdepth_lab.reproduce.lp_regression.methods import RuleRuns
from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression
from virtualdepth_lab.reproduce.result import Record

START, LOSS, MOST = 1e-2, 1e-6, 40_000
DEPTHS = (1, 2, 3)
CASES = ((2, 3.0, 0.5), (4, 3.0, 0.5), (4, 10.0, 0.5))  # p, y_1, y_2
# learning rates {1, 2, 3, 5, 7} * 10^k
RATES = tuple(digit * 10.0**k for k in range(-5, 1) for digit in (1, 2, 3, 5, 7))


def two_samples(power: int, first: float, second: float) -> LpRegression:
    r"""Build samples ([1, 0], first) and ([0, 1], second).

    The loss of the source is the sum :math:`\frac1p \sum_i (w_i - y_i)^p`, twice the mean that
    :class:`LpRegression` takes: its learning rates are to be doubled.

    Args:
        power: p.
        first: y_1.
        second: y_2.

    Returns:
        The problem.
    """
    targets = torch.tensor([first, second], dtype=torch.float64)
    return LpRegression(inputs=torch.eye(2, dtype=torch.float64), targets=targets, power=power)


def starts(seeds: Sequence[int]) -> Tensor:
    """Make starts: equal entries first, then Gaussian ones of the same scale.

    Args:
        seeds: of the Gaussian ones.

    Returns:
        (1 + seeds, 1, 2).
    """
    drawn = [
        START * torch.randn(1, 2, generator=_generator(seed), dtype=torch.float64) for seed in seeds
    ]
    return torch.stack([torch.full((1, 2), START, dtype=torch.float64), *drawn])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def steps_to_converge(
    problem: LpRegression, depth: float, begin: Tensor
) -> list[tuple[int, float] | None]:
    """Count steps to a sum of losses of 1e-6, at the best learning rate of the grid.

    Args:
        problem: of :func:`two_samples`.
        depth: number of layers N.
        begin: w of every start, (starts, 1, 2).

    Returns:
        For each start, steps and learning rate of the run that is first to converge; None if none
        does.
    """
    rates = 2 * torch.tensor(RATES, dtype=torch.float64)
    runs = RuleRuns(
        begin.repeat_interleave(len(rates), dim=0), rates.repeat(len(begin)).view(-1, 1, 1), depth
    )
    found: list[tuple[int, float] | None] = [None] * len(begin)
    for step in range(MOST + 1):
        grads, losses = problem.objective(runs.weights)
        done = 2 * losses.view(len(begin), -1) <= LOSS
        for index in done.any(1).nonzero().flatten().tolist():
            if found[index] is None:
                found[index] = step, RATES[int(done[index].nonzero()[0])]
        if None not in found:
            break
        runs.step(grads)
    return found


def toy_rows(seeds: Sequence[int]) -> Iterator[Record]:
    """Run the three cases of the table.

    Args:
        seeds: of the further starts, whose range of steps is given.

    Yields:
        A row for each case and depth.
    """
    for power, first, second in CASES:
        problem = two_samples(power, first, second)
        for depth in DEPTHS:
            found = steps_to_converge(problem, depth, starts(seeds))
            counts = [end[0] for end in found if end is not None]
            yield {
                "part": "two samples",
                "targets": f"({first:g}, {second:g})",
                "power": power,
                "depth": depth,
                "rate": found[0][1] if found[0] else None,
                "inside": all(end and RATES[0] < end[1] < RATES[-1] for end in found),
                "steps": found[0][0] if found[0] else None,
                "from": min(counts, default=None),
                "to": max(counts, default=None),
            }
