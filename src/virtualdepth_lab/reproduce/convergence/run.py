"""Check every statement about convergence.

Source: Arora, Cohen, Golowich, Hu, arXiv 1810.02281.
"""

from collections.abc import Iterator
from dataclasses import asdict

from torch import Tensor

from virtualdepth_lab.reproduce.convergence.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.convergence.deviations import deviation_rows
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
    measured = list(map(keep, _rows(config, target, progress)))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64"},
        published=PUBLISHED,
        measured=measured,
        claims=[] if config.quick else claims(measured),
    )


def _rows(config: ReproduceConfig, target: Tensor, progress: Progress) -> Iterator[Record]:
    quick = config.quick
    progress("scalar runs")
    yield from scalar_rows()
    progress("Lemma 1")
    yield from lemma_rows(config.seeds, 300 if quick else 3000)
    progress("without an assumption")
    yield from unbalanced_rows()
    yield from identity_rows(1000 if quick else 10_000)
    progress("saddle at 0")
    yield from saddle_rows(config.seeds)
    progress("random balanced starts")
    yield from probability_rows(50 if quick else 1000, config.seeds[0])
    if quick:
        yield from deviation_rows(target, config.seeds, progress, most=50, deviations=(0.01,))
    else:
        yield from deviation_rows(target, config.seeds, progress)
