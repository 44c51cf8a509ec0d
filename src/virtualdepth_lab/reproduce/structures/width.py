"""Two Gaussian layers of growing width against the rule with imbalance 2 s^2 width."""

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from virtualdepth_lab.reproduce.network import descend
from virtualdepth_lab.reproduce.result import Record
from virtualdepth_lab.reproduce.structures.descent import descend_by_rule
from virtualdepth_lab.reproduce.structures.problem import quadratic

ROWS, COLUMNS = 5, 8
VARIANCE = 0.3  # s^2 width, whatever the width
RATE, TIME = 2e-3, 1.0


def width_rows(seeds: Sequence[int], widths: Sequence[int]) -> Iterator[Record]:
    """Yield a row for each width and seed: the largest gap relative to the network's end."""
    for width in widths:
        for seed in seeds:
            gap, balanced = (_gap(seed, width, imbalance) for imbalance in (2 * VARIANCE, 0.0))
            yield {
                "part": "infinite width",
                "width": width,
                "imbalance": 2 * VARIANCE,
                "seed": seed,
                "gap": gap,
                "gap_without_imbalance": balanced,
            }


def _gap(seed: int, width: int, imbalance: float) -> float:
    gradient = quadratic((ROWS, COLUMNS), seed + 1000)
    generator = torch.Generator().manual_seed(seed)
    deviation = (VARIANCE / width) ** 0.5
    layers = [
        deviation * torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((width, COLUMNS), (ROWS, width))
    ]
    network = descend(layers, gradient, RATE)
    by_rule = descend_by_rule(
        layers[1] @ layers[0], gradient, lr=RATE, depth=2, imbalance=imbalance
    )
    largest = 0.0
    for weight, deep in islice(zip(by_rule, network, strict=False), round(TIME / RATE) + 1):
        largest = max(largest, float((weight - deep).norm()))
    return largest / float(deep.norm())
