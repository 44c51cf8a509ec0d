"""Two matrices in place of each dense layer's: does a convolutional network train faster?

Source: arXiv 1802.06509, section 8, and the authors' account of it (offconvex.org, 2 March 2018):
"With an addition of roughly 15% in number of parameters, optimization accelerated by orders of
magnitude." Beside it, the same depth on the plain network, without the parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from virtualdepth.data import load_mnist
from virtualdepth_lab.reproduce.mnist.claims import BEST, TUTORIAL, claims, rows, smoothed, summary
from virtualdepth_lab.reproduce.mnist.networks import (
    BALANCED_START,
    DECAY,
    DRAWN_START,
    MOMENTUM,
    NETWORKS,
    PLAIN,
    VIRTUAL,
    Sizes,
)
from virtualdepth_lab.reproduce.mnist.training import BATCH, Curve, Data, best_rate, train
from virtualdepth_lab.reproduce.result import (
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "The convolutional network of TensorFlow's MNIST tutorial of 2018, its dense layers plain, "
    "explicitly two layers deep, or virtually two layers deep: cross-entropy of the training "
    "batches, on one thread. An explicit network starts with every matrix drawn as the tutorial "
    "draws, or with balanced factors of the plain network's; but for the former, all compute one "
    "function at the start. Only the first of the tutorial's 8593 steps (how many: below), so that "
    "its decay of the learning rate by the epoch plays no part."
)
PUBLISHED: list[Record] = [
    {
        "network": "explicit, two matrices in each dense layer",
        "added parameters": "roughly 15 %",
        "optimization": "accelerated by orders of magnitude",
    }
]
RATE = 0.01  # the tutorial's; it decays by the epoch, which does not end here
RATES = tuple(float(f"{factor}e{power}") for power in range(-5, 0) for factor in (1, 5))


@dataclass(frozen=True, kw_only=True)
class _Extent:
    sizes: Sizes = field(default_factory=Sizes)
    steps: int = 300
    grid_steps: int = 60
    span: int = 50  # batches in the mean that stands for the loss at a step


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Choose each network's learning rate on a seed of its own, then train all on every seed.

    Args:
        config: seeds of weights, batches and dropout; quick: one seed, a narrow network, few steps.
        progress: told what begins, and how far it is.
        keep: handed each row as it is done.

    Returns:
        Rows for each setting, network and seed; the curves as arrays.
    """
    data = load_mnist(config.data_dir)
    extent = _Extent()
    if config.quick:
        extent = _Extent(sizes=Sizes(first=4, second=8, hidden=48), steps=30, grid_steps=6, span=5)
    seeds = config.seeds[:1] if config.quick else config.seeds
    found = {kind: _best(data, kind, max(config.seeds) + 1, extent, progress) for kind in NETWORKS}
    best = {kind: rate for kind, (rate, _) in found.items()}
    settings = {
        TUTORIAL: [(kind, RATE) for kind in (PLAIN, DRAWN_START)],
        BEST: list(best.items()),
    }
    twins = [(VIRTUAL, best[VIRTUAL]), (BALANCED_START, best[VIRTUAL])]
    pairs = list(dict.fromkeys([*settings[TUTORIAL], *settings[BEST], *twins]))
    measured: list[Record] = []
    arrays: dict[str, Any] = {}
    followed: list[tuple[Curve, Curve]] = []
    for seed in seeds:
        curves = _train(data, pairs, seed, extent.steps, extent.sizes, progress)
        for setting, chosen in settings.items():
            compared = [curves[pair] for pair in chosen]
            measured += map(keep, rows(setting, compared, seed, extent.steps, extent.span))
        followed.append((curves[twins[0]], curves[twins[1]]))
        arrays |= {
            _name(kind, lr, seed): _array(curve, extent.steps)
            for (kind, lr), curve in curves.items()
        }
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | asdict(extent)
        | {"batch": BATCH, "momentum": MOMENTUM, "dense_decay": DECAY}
        | {
            "losses_on_the_grid": {
                kind: {f"{rate:g}": loss for rate, loss in losses.items()}
                for kind, (_, losses) in found.items()
            }
        },
        published=PUBLISHED,
        measured=measured,
        summary=summary(measured),
        claims=claims(measured, followed),
        arrays=arrays,
    )


def _train(
    data: Data,
    pairs: Sequence[tuple[str, float]],
    seed: int,
    steps: int,
    sizes: Sizes,
    progress: Progress,
) -> dict[tuple[str, float], Curve]:
    def tell(step: int) -> None:
        if step % 10 == 0:
            progress(f"seed {seed}, step {step} of {steps}")

    curves = train(data, pairs, seed=seed, steps=steps, sizes=sizes, on_step=tell)
    return dict(zip(pairs, curves, strict=True))


def _best(
    data: Data, kind: str, seed: int, extent: _Extent, progress: Progress
) -> tuple[float, dict[float, float]]:
    """Find the rate of the lowest loss after few steps, as a mean over the last third of them."""

    def loss(rate: float) -> float:
        progress(f"{kind}, learning rate {rate:g}")
        curves = _train(data, [(kind, rate)], seed, extent.grid_steps, extent.sizes, progress)
        losses = curves[kind, rate].loss
        finished = len(losses) == extent.grid_steps
        return round(mean(losses[-(extent.grid_steps // 3) :]), 4) if finished else math.inf

    return best_rate(loss, RATES, RATE)


def _name(kind: str, lr: float, seed: int) -> str:
    return f"{kind}, rate {lr:g}, seed {seed}"


def _array(curve: Curve, steps: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Put loss, CPU and wall seconds since the start in rows, NaN after divergence."""
    table = np.full((3, steps), math.nan)
    columns = (
        np.asarray(curve.loss),
        np.cumsum(curve.cpu_seconds),
        np.cumsum(curve.wall_seconds),
    )
    for row, values in zip(table, columns, strict=True):
        row[: len(values)] = values
    return table


SHOWN_SPAN = 15  # short, so that the steep beginning shows
COLOURS = {
    PLAIN: "#000000",
    DRAWN_START: "#E69F00",
    BALANCED_START: "#D55E00",
    VIRTUAL: "#0072B2",
}


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the loss against steps and against CPU time, a row of panels for each setting.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for pair, setting in zip(panels, (TUTORIAL, BEST), strict=True):
        of_setting = [row for row in result.measured if row["setting"] == setting]
        for kind, lr in dict.fromkeys((row["network"], row["lr"]) for row in of_setting):
            seeds = [row["seed"] for row in of_setting if row["network"] == kind]
            tables = np.stack([result.arrays[_name(kind, lr, seed)] for seed in seeds])
            _draw_network(pair, kind, lr, tables)
        pair[0].set(xlabel="step", ylabel="cross-entropy of the training batches, nats")
        pair[1].set(xlabel="CPU time on one thread, s")
        for ax in pair:
            ax.set(yscale="log", title=f"at {setting}")
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.grid(color="0.9")
        pair[0].legend(frameon=False)
    return {
        f"Training loss as a mean over the last {SHOWN_SPAN} batches, units dropped, without the "
        "decay's share: mean over the seeds, shaded from the least to the greatest.": figure
    }


def _draw_network(
    panels: Sequence[Axes],
    kind: str,
    lr: float,
    tables: "np.ndarray[tuple[int, int, int], np.dtype[np.float64]]",
) -> None:
    loss = np.stack([smoothed(losses, SHOWN_SPAN) for losses in tables[:, 0]])[:, SHOWN_SPAN - 1 :]
    seconds = tables[:, 1, SHOWN_SPAN - 1 :].mean(0)
    steps = SHOWN_SPAN + np.arange(loss.shape[1])
    style = (0, (5, 3)) if kind == VIRTUAL else "-"  # lies on the explicit one
    colour, label = COLOURS[kind], f"{kind}, rate {lr:g}"
    for ax, across in zip(panels, (steps, seconds), strict=True):
        ax.plot(across, loss.mean(0), color=colour, linestyle=style, label=label)
        ax.fill_between(across, loss.min(0), loss.max(0), color=colour, alpha=0.15, lw=0)
