"""Which of the separating directions does depth find? Logistic loss on separable data.

Sources: Soudry, Hoffer, Nacson, Gunasekar, Srebro, JMLR 2018, arXiv 1710.10345 (one layer); Ji and
Telgarsky, ICLR 2019, arXiv 1810.02032 (linear networks of any depth); Nacson, Lee, Gunasekar,
Savarese, Srebro, Soudry, AISTATS 2019, arXiv 1803.01905 (steps that grow as the loss falls).
"""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from virtualdepth_lab.reproduce.margin.descent import (
    PER_DECADE,
    RELATIVE_STEP,
    STEP,
    follow_network,
    follow_vector,
    recorded,
)
from virtualdepth_lab.reproduce.margin.problem import (
    Separable,
    angle,
    digits_problem,
    random_problem,
)
from virtualdepth_lab.reproduce.result import (
    Claim,
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "Logistic loss on linearly separable data: the direction of one vector under the end-to-end "
    "rule of depth 1, 2 and 3, and of the explicit network beside it, against the maximum-margin "
    "direction of scikit-learn's SVC. With constant steps the direction converges like "
    "1 / log(steps), too slowly to see; here a step descends the logarithm of the loss, which is "
    "the loss itself at a step size that grows as the loss falls, over N ||w||^{2-2/N}, the "
    "largest gain of depth N."
)
PUBLISHED: list[Record] = [
    {"source": "arXiv 1710.10345", "depth": "1", "direction tends to": "the maximum margin's"},
    {"source": "arXiv 1810.02032", "depth": "any", "direction tends to": "the maximum margin's"},
]
DEPTHS, EXPLICIT_DEPTHS = (1, 2, 3), (2, 3)
VECTOR, EXPLICIT = "one vector", "explicit network"
START = 0.1  # length of w(0)
STEPS = 20_000
# what the claims ask of the end; bounds written before the first run
ANGLE, SHORTFALL, APART = 0.01, 0.001, 0.05


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Train at every depth from one start, one vector and the explicit network.

    Args:
        config: seeds of the Gaussian problem and its start, the first also of the start on the
            digits; quick: one seed, fewer steps.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        A row for each problem, seed, depth and network; the curves as arrays.
    """
    seeds = config.seeds[:1] if config.quick else config.seeds
    steps = STEPS // 100 if config.quick else STEPS
    measured: list[Record] = []
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
    problems = [(random_problem(seed), seed) for seed in seeds] + [(digits_problem(), seeds[0])]
    for problem, seed in problems:
        for row, curve in _problem_rows(problem, seed, steps, progress):
            measured.append(keep(row))
            arrays[_name(row)] = curve.numpy()
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | {"steps": steps, "start": START, "step": STEP, "relative_step": RELATIVE_STEP},
        published=PUBLISHED,
        measured=measured,
        claims=list(_claims(measured, arrays)),
        arrays=arrays,
    )


def _problem_rows(
    problem: Separable, seed: int, steps: int, progress: Progress
) -> Iterator[tuple[Record, Tensor]]:
    best = problem.largest_margin()
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(best.shape, generator=generator, dtype=torch.float64)
    start *= START / start.norm()
    directions: dict[tuple[str, int], Tensor] = {}
    for network, depth in _runs():
        progress(f"{problem.name}, seed {seed}, {network}, depth {depth}")
        follow = follow_vector if network == VECTOR else follow_network
        weights = follow(problem, start, depth, steps)
        norms = weights.norm(dim=1)
        directions[network, depth] = weights / norms.unsqueeze(1)
        angles = angle(weights, best)
        margins = torch.tensor([problem.margin(weight.unsqueeze(0)) for weight in weights])
        row: Record = {"problem": problem.name, "seed": seed, "network": network, "depth": depth}
        row |= {"angle": float(angles[-1])}
        row |= {"margin": float(margins[-1]), "largest": problem.margin(best)}
        row |= {"shortfall": 1 - row["margin"] / row["largest"], "norm": float(norms[-1])}
        if network == EXPLICIT:
            row["apart"] = float(angle(weights, directions[VECTOR, depth]).max())
        curve = torch.stack([norms, angles, 1 - margins / row["largest"]])
        yield row, curve


def _runs() -> list[tuple[str, int]]:
    return [(VECTOR, depth) for depth in DEPTHS] + [(EXPLICIT, depth) for depth in EXPLICIT_DEPTHS]


def _claims(
    measured: list[Record], arrays: "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]"
) -> Iterator[Claim]:
    for network, depth in _runs():
        rows = [row for row in measured if (row["network"], row["depth"]) == (network, depth)]
        angles, shortfalls = ([row[name] for row in rows] for name in ("angle", "shortfall"))
        yield Claim(
            claim=f"{network}, depth {depth}: the direction ends within {ANGLE} rad of the maximum "
            f"margin's, the normalised margin within {100 * SHORTFALL:g} % of the largest",
            held=max(angles) <= ANGLE and max(shortfalls) <= SHORTFALL,
            evidence=f"angles {_range(angles)}, shortfalls {_range(shortfalls)}",
        )
        falls = [_last_decades(arrays[_name(row)][1]) for row in rows]
        yield Claim(
            claim=f"{network}, depth {depth}: the angle still falls over the last decade of steps",
            held=all(before > after for before, after in falls),
            evidence="times smaller: " + _range([before / after for before, after in falls]),
        )
    for depth in EXPLICIT_DEPTHS:
        apart = [row["apart"] for row in measured if row["depth"] == depth and "apart" in row]
        yield Claim(
            claim=f"depth {depth}: one vector and the explicit network keep within {APART} rad of "
            "each other all along",
            held=max(apart) <= APART,
            evidence=f"largest angle {_range(apart)}",
        )


def _last_decades(
    angles: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
) -> tuple[float, float]:
    return float(angles[-1 - PER_DECADE]), float(angles[-1])


def _range(values: list[float]) -> str:
    return f"{min(values):.2g} to {max(values):.2g}"


def _name(row: Record) -> str:
    return f"{row['problem']}, seed {row['seed']}, {row['network']}, depth {row['depth']}"


COLOURS = {1: "#000000", 2: "#D55E00", 3: "#0072B2"}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw angle and missing margin against steps, a row of panels for each problem.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    problems = dict.fromkeys(row["problem"] for row in result.measured)
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(len(problems), 2, sharex=True)
    steps = recorded(result.config["steps"])
    for pair, problem in zip(panels, problems, strict=True):
        for network, depth in _runs():
            rows = [
                row
                for row in result.measured
                if (row["problem"], row["network"], row["depth"]) == (problem, network, depth)
            ]
            curves = np.stack([result.arrays[_name(row)] for row in rows])
            style = "-" if network == VECTOR else (0, (2, 3))
            width = 1.5 if network == VECTOR else 3.0
            for ax, values in zip(pair, (curves[:, 1], curves[:, 2]), strict=True):
                ax.plot(
                    steps,
                    np.exp(np.log(values).mean(0)),
                    color=COLOURS[depth],
                    linestyle=style,
                    linewidth=width,
                    label=f"{network}, depth {depth}",
                )
        for ax in pair:
            ax.set(xscale="log", yscale="log", xlabel="step", title=problem)
            ax.tick_params(labelbottom=True)
            ax.grid(color="0.9")
        pair[0].set_ylabel("angle to the maximum-margin direction, rad")
        pair[1].set_ylabel("1 − normalised margin / largest margin")
    panels[0][0].legend(frameon=False)
    return {
        "Angle to the direction of the support vector machine, and how much of its margin is "
        "missing; above, geometric means over the seeds.": figure
    }
