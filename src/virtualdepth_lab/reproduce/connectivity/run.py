"""Join trained networks by paths on which the loss stays low, beside the straight line.

Source: arXiv 1906.06247 (dropout stability; the linear case has every condition in closed form).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from virtualdepth.theory import connecting_path
from virtualdepth_lab.reproduce.connectivity.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.connectivity.problem import (
    Network,
    draw_regression,
    largest_step,
    size_of,
    straight_line,
)
from virtualdepth_lab.reproduce.connectivity.relu import (
    Net,
    doubled,
    fitted,
    join,
    load_digits,
    straight,
    train,
)
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays

TITLE = (
    "Two linear networks that fit the same few samples, trained from different seeds: the loss on "
    "the straight line between their weights and on connecting_path, and the largest step of the "
    "path by its number of points; and two ReLU networks on digits, joined by dropout stability."
)
OUTPUTS, INPUTS, SAMPLES = 4, 10, 7
HIDDEN = ((6, 6), (5, 9), (5, 5, 5))
POINTS = (50, 100, 200, 400)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each pair of networks.

    Quick: two widths, fewer points and training steps; the ReLU networks are of the first seed.
    """
    measured = keep(_parts(config))
    arrays = take_arrays(measured)
    return Reproduction(
        name=config.name,
        config=asdict(config),
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured, quick=config.quick)),
        arrays=arrays,
    )


def _parts(config: ReproduceConfig) -> dict[str, Callable[[], Iterable[Record]]]:
    quick, seeds = config.quick, config.seeds
    parts: dict[str, Callable[[], Iterable[Record]]] = {}
    for hidden, seed in product(HIDDEN[:2] if quick else HIDDEN, seeds):
        points = POINTS[:2] if quick else POINTS
        parts[f"linear, widths {hidden}, seed {seed}"] = partial(linear_rows, hidden, seed, points)
    for width, seed in product((64,) if quick else (64, 256), seeds[:1] if quick else seeds):
        steps = 100 if quick else 600
        parts[f"ReLU, width {width}, seed {seed}"] = partial(relu_rows, width, seed, steps)
    return parts


def linear_rows(hidden: Sequence[int], seed: int, points: Sequence[int]) -> Iterator[Record]:
    """Yield the pair of two seeds, and one whose matrices differ by a sign of one output."""
    problem = draw_regression(OUTPUTS, INPUTS, SAMPLES, seed + 1000)
    first, second = (problem.train(hidden, 2 * seed + place) for place in (0, 1))
    losses = [problem.loss(factors) for factors in connecting_path(first, second)]
    line = [problem.loss(factors) for factors in straight_line(first, second, len(losses))]
    name = " ".join(map(str, hidden))
    row = {"part": "linear", "hidden": name, "seed": seed}
    judged = {
        "ends": [losses[0], losses[-1]],
        "straight_line": max(line),
        "path": max(losses),
        "arrays": {f"linear_{name}_{seed}": np.array([line, losses])},
    }
    yield row | judged | _steps(first, second, points)
    flipped = [*second[:-1], second[-1].clone()]
    flipped[-1][0] *= -1  # det of a square part changes its sign: the line of W meets rank m - 1
    yield row | {"part": "lower rank"} | _steps(second, flipped, points)


def _steps(first: Network, second: Network, points: Sequence[int]) -> Record:
    """Compute the largest steps of paths of different points, relative to all weights."""
    size = size_of(first)
    steps = [largest_step(connecting_path(first, second, count)) / size for count in points]
    slope = np.polyfit(np.log(points), np.log(steps), 1)[0]
    return {"points": list(points), "largest_steps": steps, "slope": float(slope)}


def relu_rows(width: int, seed: int, steps: int) -> Iterator[Record]:
    """Yield the straight line, and paths through halves whose outgoing weights double or train."""
    problem = load_digits()
    first, second = (train(problem, width, 2 * seed + place, steps) for place in (0, 1))

    def half(net: Net, kept: Any) -> Net:
        return fitted(problem, net, kept, steps)

    ways = {
        "straight line": straight(first, second, 101),
        "halves, doubled": join(first, second, doubled, 21),
        "halves, trained": join(first, second, half, 21),
    }
    for way, path in ways.items():
        nets = list(path)
        losses = [problem.loss(net) for net in nets]
        yield {
            "part": "ReLU",
            "width": width,
            "seed": seed,
            "way": way,
            "ends": [losses[0], losses[-1]],
            "highest": max(losses),
            "held_out_error_at_ends": [problem.errors(nets[0]), problem.errors(nets[-1])],
            "highest_held_out_error": max(map(problem.errors, nets)),
            "arrays": {f"relu_{width}_{seed}_{way}": np.array(losses)},
        }
