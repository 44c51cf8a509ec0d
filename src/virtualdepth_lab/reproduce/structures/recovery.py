"""How often signals of few active blocks are found from too few measurements."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from virtualdepth.maths import StructureName
from virtualdepth_lab.reproduce.result import Progress, Record
from virtualdepth_lab.reproduce.structures.descent import descend_by_rule
from virtualdepth_lab.reproduce.structures.problem import ACTIVE, Signals, draw_signals, joined
from virtualdepth_lab.reproduce.structures.programmes import least_block_norms

FOUND = 0.05  # relative error
# chosen on draws of seed 99
IMBALANCES: Mapping[float, float] = {1: 0.0, 2: 1e-12, 3: 1e-3, 4: 1e-2}


def recovery_rows(
    structure: StructureName, seeds: Sequence[int], draws: int, steps: int, progress: Progress
) -> Iterator[Record]:
    """Yield a row for each method, number of active blocks and seed, of one kind of signal."""
    keys, drawn = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for active in ACTIVE[structure]:
            keys.append((active, seed))
            drawn.append(draw_signals(structure, active, draws, generator))
    signals = joined(drawn)
    for method, errors in _errors(signals, steps, progress):
        for (active, seed), of_active in zip(keys, torch.split(errors, draws), strict=True):
            yield {
                "part": "recovery",
                "structure": structure,
                "active": active,
                "method": method,
                "seed": seed,
                "draws": draws,
                "share": float((of_active < FOUND).double().mean()),
                "median_error": float(of_active.median()),
            }


def _errors(signals: Signals, steps: int, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    """Yield the relative error of every draw, by method."""
    for depth, imbalance in IMBALANCES.items():
        progress(f"recovery, {signals.structure}, depth {depth:g}")
        yield f"depth {depth:g}", signals.errors(follow_rule(signals, depth, imbalance, steps))
    progress(f"recovery, {signals.structure}, convex")
    blocks = signals.truth.shape[1]
    found = [
        least_block_norms(maps, values, blocks)
        for maps, values in zip(signals.maps, signals.values, strict=True)
    ]
    for method, each in zip(("convex", "reweighted"), zip(*found, strict=True), strict=True):
        yield method, signals.errors(torch.stack(each))


def follow_rule(signals: Signals, depth: float, imbalance: float, steps: int) -> Tensor:
    """Train all draws as one weight, from zero; return their coefficients, shaped as the truth.

    The draws share no block, so none moves another. The rate is 1 over the largest gain of a block
    of norm 1 and the smoothness of the loss; blocks may overshoot, so twice that can diverge.
    """
    smoothness = float(torch.linalg.matrix_norm(signals.weight_maps, 2).max()) ** 2
    weights = descend_by_rule(
        torch.zeros_like(signals.weight(signals.truth)),
        signals.gradient,
        lr=1 / (depth * smoothness),
        depth=depth,
        structure=signals.structure,
        imbalance=imbalance,
        momentum=0.9,
    )
    return signals.coefficients(next(islice(weights, steps, None)))
