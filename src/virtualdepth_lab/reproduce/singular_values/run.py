"""How singular values grow: measured, against the theory's differential equation.

Source: arXiv 1905.13655, section 3, Theorem 3; the slides of 2019, pages 30 and 31.
"""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from virtualdepth.data import Completion, low_rank_problem, small_start
from virtualdepth.maths import balanced_factors, factor_gradients, partial_products
from virtualdepth.optim import EndToEndSGD
from virtualdepth_lab.reproduce.result import (
    Claim,
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "The ten largest singular values of a completion from a small balanced start: one matrix under "
    "EndToEndSGD, the explicit network beside it, and the theory's equation over them; and the "
    "one-measurement example with its closed forms."
)
PUBLISHED: list[Record] = [
    {"example": "one measurement", "depth": depth, "s_1": first, "s_2": second}
    for depth, first, second in (
        (1, 2.2088, 3.6747),
        (2, 0.40429, 4.7574),
        (3, 0.09287, 4.9443),
        (4, 0.05491, 4.9671),
    )
]
RHO, START, TARGET = (0.6, 1.0), 0.01, 5.0
DEPTHS = (1, 2, 3, 4)
TOP = 10
# learning rate and steps at each depth, for as long as the values of the truth need to grow; the
# distance to the theory's continuous time is of the first order in the rate
PLAN = {1: (1.0, 6000), 2: (0.1, 12_000), 3: (0.025, 36_000), 4: (0.015, 54_000)}
# a smaller matrix moves faster
QUICK_PLAN = {1: (0.25, 2000), 2: (0.025, 4000), 3: (0.0125, 6000), 4: (0.0075, 9000)}
EVERY = 10


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Train at every depth, and solve the example.

    Args:
        config: the first seed counts; quick: a 20 x 20 matrix.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        Rows of the example and of the agreement at each depth; trajectories as arrays.
    """
    arrays: dict[str, object] = {}
    measured: list[Record] = list(map(keep, _example(1e-3 if config.quick else 1e-5)))
    size, rank, observed = (20, 1, 200) if config.quick else (60, 3, 1080)
    problem = low_rank_problem(size, rank, observed, config.seeds[0])
    # the same start for every depth
    start = small_start(size, 1, 1e-2, config.seeds[0] + 1)
    for depth in DEPTHS:
        progress(f"trajectories, depth {depth}")
        lr, steps = (QUICK_PLAN if config.quick else PLAN)[depth]
        single, slopes = _single(problem, start, depth, lr, steps)
        deep = _explicit(problem, start, depth, lr, steps)
        theory = theory_trajectory(single[0], slopes, depth, lr * EVERY)
        scale = float(single.max())
        for name, value in (("single", single), ("deep", deep), ("theory", theory)):
            arrays[f"{name}_{depth}"] = value.numpy()
        arrays[f"time_{depth}"] = lr * EVERY * np.arange(len(single))
        row: Record = {
            "example": "completion",
            "depth": depth,
            "lr": lr,
            "steps": steps,
            "explicit_gap": float((single - deep).abs().max()) / scale,
            "theory_gap": float((single - theory).abs().max()) / scale,
            "next_to_last": float(single[-1, rank] / single[-1, rank - 1]),
        }
        measured.append(keep(row))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"size": size, "rank": rank, "observed": observed},
        published=PUBLISHED,
        measured=measured,
        claims=_claims(measured),
        arrays=arrays,
    )


def _single(
    problem: Completion, start: Tensor, depth: int, lr: float, steps: int
) -> tuple[Tensor, Tensor]:
    """Train one matrix; return its top singular values and the slopes along them, by step."""
    weight = torch.nn.Parameter(start.clone())
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, step_scale="raw")
    values, slopes = [], []
    for step in range(steps + 1):
        weight.grad, _ = problem.objective(weight.detach())
        if step % EVERY == 0:
            u, sigma, vh = torch.linalg.svd(weight.detach(), full_matrices=False)
            values.append(sigma[:TOP])
            slopes.append((u * (weight.grad @ vh.mT)).sum(0)[:TOP])
        if step < steps:
            optimizer.step()
    return torch.stack(values), torch.stack(slopes)


def _explicit(problem: Completion, start: Tensor, depth: int, lr: float, steps: int) -> Tensor:
    """Train balanced factors by plain gradient descent; return the top singular values."""
    factors = balanced_factors(start, depth)
    values = []
    for step in range(steps + 1):
        products = partial_products(factors)
        if step % EVERY == 0:
            values.append(torch.linalg.svdvals(products[-1])[:TOP])
        grads = factor_gradients(factors, products, problem.objective(products[-1])[0])
        factors = [f - lr * g for f, g in zip(factors, grads, strict=True)]
    return torch.stack(values)


def theory_trajectory(start: Tensor, slopes: Tensor, depth: int, lr: float) -> Tensor:
    r"""Solve :math:`\dot\sigma_r = -N \sigma_r^{2-2/N} c_r(t)` for the slopes that were measured.

    In the variable :math:`\sigma^{2/N - 1}` (its logarithm at N = 2) the right-hand side is free of
    :math:`\sigma`, so that only the integral of the slopes remains, taken by the trapezoidal rule.

    Args:
        start: singular values at time 0, (k,).
        slopes: c_r = <G, u_r v_r^T> at each step, (steps + 1, k).
        depth: number of layers N.
        lr: time between steps.

    Returns:
        (steps + 1, k).

    Source: arXiv 1905.13655, Theorem 3.

    >>> theory_trajectory(torch.tensor([1.0]), -torch.ones(3, 1), 2, 0.5)[-1]  # exp(2 t), t = 1
    tensor([7.3891])
    """
    area = torch.cat([torch.zeros_like(slopes[:1]), torch.cumulative_trapezoid(slopes, dim=0)]) * lr
    if depth == 2:
        return start * torch.exp(-2 * area)
    power = 2 / depth - 1
    # a singular value that the theory sends through 0 (at N = 1 alone) shows as its absolute value
    transformed = start.pow(power) - (2 - depth) * area
    return transformed.abs().pow(1 / power)


def _example(most: float) -> Iterator[Record]:
    # by the rule's discrete steps, to a residual of `most`, beside its closed forms
    matrix = torch.diag(torch.tensor(RHO, dtype=torch.float64))
    for depth in DEPTHS:
        weight = torch.nn.Parameter(START * torch.eye(2, dtype=torch.float64))
        # gradient descent itself moves on a straight line, whatever its rate
        optimizer = EndToEndSGD([weight], lr=1e-2 if depth == 1 else 1e-4, depth=depth)
        residual = -TARGET
        while abs(residual) > most:
            residual = float((matrix * weight.detach()).sum() - TARGET)
            weight.grad = residual * matrix
            optimizer.step()
        first, second = weight.detach().diagonal().tolist()
        yield {
            "example": "one measurement",
            "depth": depth,
            "s_1": first,
            "s_2": second,
            "closed_form": closed_form(second, depth),
        }


def closed_form(second: float, depth: int) -> float:
    """Give s_1 as the theory's function of s_2, for the constants of the example.

    Args:
        second: s_2.
        depth: number of layers N.

    Returns:
        s_1.

    Source: the slides of 2019, page 31.

    >>> closed_form(4.9443, 3)
    0.0928
    """
    alpha = RHO[0] / RHO[1]
    if depth == 1:
        return START + alpha * (second - START)
    if depth == 2:
        return float(START * (second / START) ** alpha)
    power = (depth - 2) / depth
    inverse = START**-power + alpha * (second**-power - START**-power)
    return float(inverse ** (-1 / power))


def _claims(measured: list[Record]) -> list[Claim]:
    claims = []
    example = [row for row in measured if row["example"] == "one measurement"]
    for row, published in zip(example, PUBLISHED, strict=True):
        gaps = [
            abs(row["s_1"] / row["closed_form"] - 1),
            abs(row["s_1"] / published["s_1"] - 1),
            abs(row["s_2"] / published["s_2"] - 1),
        ]
        claims.append(
            Claim(
                claim=f"one measurement, depth {row['depth']}: closed form and published numbers "
                "met to 1e-3",
                held=max(gaps) < 1e-3,
                evidence=f"(s_1, s_2) = ({row['s_1']:.5f}, {row['s_2']:.4f}), closed form "
                f"s_1 = {row['closed_form']:.5f}",
            )
        )
    for row in measured:
        if row["example"] == "completion":
            claims.append(
                Claim(
                    claim=f"depth {row['depth']}: trajectories of the single matrix, the explicit "
                    "network and the theory lie within 5 % of the largest singular value",
                    held=max(row["explicit_gap"], row["theory_gap"]) < 0.05,
                    evidence=f"explicit {row['explicit_gap']:.1e}, theory {row['theory_gap']:.1e}",
                )
            )
    ratios = [row["next_to_last"] for row in measured if row["example"] == "completion"]
    claims.append(
        Claim(
            claim="depth widens the gap between what grows and what stays small",
            held=all(a > b for a, b in pairwise(ratios)),
            evidence="(rank + 1)-th over rank-th singular value at the end, depth 1 to 4: "
            + ", ".join(f"{ratio:.2e}" for ratio in ratios),
        )
    )
    return claims


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the trajectories, a panel for each depth.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    for ax, depth in zip(figure.subplots(2, 2).flat, DEPTHS, strict=True):
        time = result.arrays[f"time_{depth}"]
        for name, style in (
            ("single", {"color": "#56B4E9", "linewidth": 4}),
            ("deep", {"color": "#000000", "linewidth": 1.2}),
            ("theory", {"color": "#D55E00", "linewidth": 1.2, "linestyle": (0, (4, 4))}),
        ):
            label = {"single": "one matrix", "deep": "explicit network", "theory": "theory"}[name]
            lines = ax.plot(time, result.arrays[f"{name}_{depth}"], **style)
            lines[0].set_label(label)
        ax.set(title=f"depth {depth}", xlabel="time = learning rate × step", xlim=(0, time[-1]))
        ax.set_ylabel("singular values")
        ax.grid(color="0.9")
    figure.axes[0].legend(frameon=False)
    return {"The ten largest singular values along training.": figure}
