"""Check kernels of infinite width, of deep twins and of imbalance; predict digits with them.

Sources: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv 1806.07572; Arora, Du, Hu, Li, Salakhutdinov,
Wang, NeurIPS 2019, arXiv 1904.11955; Lee et al., NeurIPS 2019, arXiv 1902.06720.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial

from virtualdepth_lab.reproduce.kernels.claims import PUBLISHED, claims, summarised
from virtualdepth_lab.reproduce.kernels.regression import digit_rows
from virtualdepth_lab.reproduce.kernels.width import (
    imbalance_rows,
    twin_rows,
    width_rows,
    zero_rows,
)
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction

TITLE = (
    "The tangent kernel, by which gradient descent moves the outputs of a network. Its limit at "
    "infinite width, against networks of growing width. The kernel of a network under the "
    "end-to-end rule, against that of the network with deep layers. A layer with imbalance, "
    "against two wide Gaussian layers, before and after training. And digits: regression with the "
    "kernel of infinite width, beside trained ReLU networks of growing width (500 training "
    "images, the same number of steps)."
)
WIDTHS = (16, 64, 256, 1024)
DIGIT_WIDTHS, DIGIT_STEPS = (32, 128, 512), 200


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return the rows of every part; quick: smaller widths and fewer steps."""
    measured = keep(_parts(config, progress))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64"},
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured)),
        summary=list(summarised(measured)),
    )


def _parts(
    config: ReproduceConfig, progress: Progress
) -> dict[str, Callable[[], Iterable[Record]]]:
    quick, seeds = config.quick, config.seeds
    widths = WIDTHS[:3] if quick else WIDTHS
    parts: dict[str, Callable[[], Iterable[Record]]] = {
        "width": partial(width_rows, seeds, widths),
        "deep twins": partial(twin_rows, seeds),
        "zeros": zero_rows,
        "imbalance": partial(imbalance_rows, seeds, widths),
    }
    of_digits = DIGIT_WIDTHS[:2] if quick else DIGIT_WIDTHS
    steps = 50 if quick else DIGIT_STEPS
    for seed in seeds:
        parts[f"digits, seed {seed}"] = partial(digit_rows, seed, of_digits, steps, progress)
    return parts
