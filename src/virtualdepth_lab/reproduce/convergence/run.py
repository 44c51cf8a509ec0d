"""Check every statement about convergence.

Source: Arora, Cohen, Golowich, Hu, arXiv 1810.02281.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

from torch import Tensor

from virtualdepth_lab.reproduce.convergence.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.convergence.deviations import STARTS, deviation_rows
from virtualdepth_lab.reproduce.convergence.probability import probability_rows
from virtualdepth_lab.reproduce.convergence.problem import ethanol_target
from virtualdepth_lab.reproduce.convergence.theorem import (
    identity_rows,
    lemma_rows,
    saddle_rows,
    scalar_rows,
    unbalanced_rows,
)
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction

TITLE = (
    "Gradient descent on the layers of a linear network, whitened l_2 loss: the convergence "
    "theorem with its constants, both of its assumptions taken away, how often random balanced "
    "starts satisfy it, the saddle at 0, and iterations to an excess loss of 1e-5 on the whitened "
    "ethanol data from balanced and from independent Gaussian layers (hidden width 16), each at "
    "the best constant learning rate of a quarter-decade grid."
)


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return the rows of every part; quick: fewer steps and starts, and no claims."""
    target = ethanol_target(config.data_dir)
    measured = keep(_parts(config, target))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64"},
        published=PUBLISHED,
        measured=measured,
        claims=[] if config.quick else claims(measured),
    )


def _parts(config: ReproduceConfig, target: Tensor) -> dict[str, Callable[[], Iterable[Record]]]:
    quick, seeds = config.quick, config.seeds
    parts: dict[str, Callable[[], Iterable[Record]]] = {
        "scalar runs": scalar_rows,
        "Lemma 1": partial(lemma_rows, seeds, 300 if quick else 3000),
        "without balance": unbalanced_rows,
        "without a margin": partial(identity_rows, 1000 if quick else 10_000),
        "saddle at 0": partial(saddle_rows, seeds),
        "random balanced starts": partial(probability_rows, 50 if quick else 1000, seeds[0]),
    }
    for depth in (3, 8):
        for kind in STARTS:
            rows = partial(deviation_rows, target, seeds, depth, kind)
            if quick:
                rows = partial(rows, most=50, deviations=(0.01,))
            parts[f"depth {depth}, {kind} starts"] = rows
    return parts
