"""Choose each network's learning rate, and train all networks side by side.

Source: arXiv 1802.06509, section 8, and the authors' account of it (offconvex.org, 2 March 2018):
"With an addition of roughly 15% in number of parameters, optimization accelerated by orders of
magnitude." Beside it, the same depth on the plain network, without the parameters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import mean

import numpy as np

from virtualdepth.data import load_mnist
from virtualdepth_lab.reproduce.mnist.claims import BEST, PUBLISHED, TUTORIAL, claims
from virtualdepth_lab.reproduce.mnist.problem import (
    BALANCED_START,
    DECAY,
    DRAWN_START,
    MOMENTUM,
    NETWORKS,
    PLAIN,
    VIRTUAL,
    Sizes,
)
from virtualdepth_lab.reproduce.mnist.tables import curve_name, rows, summary
from virtualdepth_lab.reproduce.mnist.training import BATCH, Curve, Data, train
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays
from virtualdepth_lab.reproduce.search import best_of, decades, search

TITLE = (
    "The convolutional network of TensorFlow's MNIST tutorial of 2018, its dense layers plain, "
    "explicitly two layers deep, or virtually two layers deep: cross-entropy of the training "
    "batches, on one thread. An explicit network starts with every matrix drawn as the tutorial "
    "draws, or with balanced factors of the plain network's matrices. All networks but those with "
    "drawn matrices compute the same function at the start. Only the first of the tutorial's 8593 "
    "steps are taken (how many: below), so its decay of the learning rate by the epoch plays no "
    "part."
)
RATE = 0.01  # the tutorial's; it decays by the epoch, which does not end here
RATES = decades(range(-5, 0), (1, 5))


@dataclass(frozen=True, kw_only=True)
class _Extent:
    """How large the networks are, and how long they are trained."""

    sizes: Sizes = field(default_factory=Sizes)
    steps: int = 300
    grid_steps: int = 60
    span: int = 50  # batches in the mean that stands for the loss at a step


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each setting, network and seed, the curves as arrays.

    The learning rates are chosen on a seed of their own. Quick: a narrow network, few
    steps.
    """
    data = load_mnist(config.data_dir)
    extent = _Extent()
    if config.quick:
        extent = _Extent(sizes=Sizes(first=4, second=8, hidden=48), steps=30, grid_steps=6, span=5)
    grids = {
        f"learning rates, {kind}": partial(
            _grid_rows, data, kind, max(config.seeds) + 1, extent, progress
        )
        for kind in NETWORKS
    }
    tried: dict[str, dict[float, float]] = {kind: {} for kind in NETWORKS}
    for row in keep(grids, later=len(config.seeds)):
        tried[row["kind"]][row["lr"]] = row["loss"]
    best = {kind: best_of(losses, float) for kind, losses in tried.items()}
    settings = {
        TUTORIAL: [(kind, RATE) for kind in (PLAIN, DRAWN_START)],
        BEST: list(best.items()),
    }
    twins = [(VIRTUAL, best[VIRTUAL]), (BALANCED_START, best[VIRTUAL])]
    pairs = list(dict.fromkeys([*settings[TUTORIAL], *settings[BEST], *twins]))

    def trained(seed: int) -> Iterator[Record]:
        curves = _train(data, pairs, seed, extent.steps, extent.sizes, progress)
        arrays = {
            curve_name(kind, lr, seed): _array(curve, extent.steps)
            for (kind, lr), curve in curves.items()
        }
        for setting, chosen in settings.items():
            compared = [curves[pair] for pair in chosen]
            for row in rows(setting, compared, seed, extent.steps, extent.span):
                yield row | {"arrays": arrays}
                arrays = {}

    measured = keep({f"training, seed {seed}": partial(trained, seed) for seed in config.seeds})
    arrays = take_arrays(measured)

    def losses(twin: tuple[str, float], seed: int) -> list[float]:
        loss = arrays[curve_name(*twin, seed)][0]
        return [float(value) for value in loss[np.isfinite(loss)]]

    followed = [(losses(twins[0], seed), losses(twins[1], seed)) for seed in config.seeds]
    grid = {
        kind: {f"{lr:g}": loss for lr, loss in losses.items()} for kind, losses in tried.items()
    }
    return Reproduction(
        name=config.name,
        config=asdict(config)
        | asdict(extent)
        | {"batch": BATCH, "momentum": MOMENTUM, "dense_decay": DECAY, "losses_on_the_grid": grid},
        published=PUBLISHED,
        measured=measured,
        summary=summary(measured),
        claims=claims(measured, followed),
        arrays=arrays,
    )


def _grid_rows(
    data: Data, kind: str, seed: int, extent: _Extent, progress: Progress
) -> list[Record]:
    """Return, by learning rate, the mean loss of a network over the last third of few steps.

    The grid grows from the tutorial's rate downhill, until both neighbours of the best rate are
    worse; the loss of training that diverges is infinite.
    """

    def loss(lr: float) -> float:
        progress(f"{kind}, learning rate {lr:g}")
        curves = _train(data, [(kind, lr)], seed, extent.grid_steps, extent.sizes, progress)
        by_step = curves[kind, lr].loss
        finished = len(by_step) == extent.grid_steps
        return round(mean(by_step[-(extent.grid_steps // 3) :]), 4) if finished else math.inf

    def losses(grids: Mapping[str, Sequence[int]]) -> dict[str, list[float]]:
        return {name: [loss(RATES[place]) for place in grids[name]] for name in grids}

    first, places = RATES.index(RATE), range(len(RATES))
    grids = {kind: range(first - 1, first + 2)}
    tried = search(losses, grids, [float], by=1, most=len(RATES), within=places)
    return [{"kind": kind, "lr": RATES[place], "loss": loss} for place, loss in tried[kind].items()]


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


def _array(curve: Curve, steps: int) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Put loss, CPU and wall seconds since the start in rows, NaN after divergence."""
    table = np.full((3, steps), math.nan)
    done = len(curve.loss)
    table[0, :done] = curve.loss
    table[1, :done] = np.cumsum(curve.cpu_seconds)
    table[2, :done] = np.cumsum(curve.wall_seconds)
    return table
