"""Fill in the image by the flow of one matrix at depths 1 to 4, and by two convex methods.

No claim that depth wins here: an image is not of low rank. What is measured is reported.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from time import process_time

import torch
from torch import Tensor

from virtualdepth.data import Completion, small_start
from virtualdepth.maths import effective_rank
from virtualdepth.theory import integrate_flow
from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm, soft_impute_held_out
from virtualdepth_lab.reproduce.image_inpainting.claims import PUBLISHED
from virtualdepth_lab.reproduce.image_inpainting.problem import SHARE, known_pixels, load_image
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays

TITLE = (
    "camera.png with 20 % of its pixels observed: the flow of one matrix at depths 1 to 4, nuclear "
    "norm minimisation and SoftImpute, by PSNR over the pixels that were not observed. The flow's "
    "time is chosen on a tenth of the observed pixels, and so is SoftImpute's threshold."
)
DEPTHS = (1, 2, 3, 4)
LOSSES = tuple(10 ** (-1 - k / 4) for k in range(11))


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each method, the pictures as arrays.

    The first seed draws the pixels; quick: 64 x 64 instead of 256 x 256.
    """
    size, seed = 64 if config.quick else 256, config.seeds[0]
    image, mask = load_image(config.data_dir, size), known_pixels(size, seed)
    known = float((image * mask).sum() / mask.sum())
    # every method sees the image centred by the mean of the known pixels
    problem = Completion(truth=image - known, mask=mask)

    def rows(method: str, fill: Callable[[], tuple[Tensor, str]]) -> list[Record]:
        begin = process_time()
        weight, chosen = fill()
        seconds = process_time() - begin
        filled = torch.where(mask > 0, problem.truth, weight.double())
        missing = (filled - problem.truth)[mask == 0].square().mean()
        picture = (filled + known).clamp(0, 1).float()
        row: Record = {
            "method": method,
            "psnr": -10 * math.log10(float(missing)),
            "effective_rank": float(effective_rank(weight.double())),
            "cpu_seconds": seconds,
            "chosen": chosen,
        }
        return [row | {"arrays": {method: picture.numpy()}}]

    methods = _methods(problem, seed + 1)
    measured = keep({method: partial(rows, method, fill) for method, fill in methods.items()})
    observed = torch.where(mask > 0, image, 1.0)
    arrays = {"truth": image.float().numpy(), "observed": observed.float().numpy()}
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"size": size, "share": SHARE},
        published=PUBLISHED,
        measured=measured,
        claims=[],
        arrays=arrays | take_arrays(measured),
    )


def _methods(problem: Completion, seed: int) -> dict[str, Callable[[], tuple[Tensor, str]]]:
    """Return, by name, what makes a method's matrix and says what it chose on held-out pixels."""

    def nuclear_norm() -> tuple[Tensor, str]:
        convex = minimise_nuclear_norm(problem.truth, problem.mask, gap=1e-3, max_iterations=500)
        return convex.weight, f"duality gap {convex.gap:.1e}"

    def soft_impute() -> tuple[Tensor, str]:
        imputed, threshold = soft_impute_held_out(problem.truth, problem.mask)
        return imputed, f"threshold {threshold:.3g}"

    def flow(depth: int) -> tuple[Tensor, str]:
        loss, weight = flow_held_out(problem, depth, seed)
        return weight, f"training loss {loss:.1e}"

    return {
        "mean of the known pixels": lambda: (torch.zeros_like(problem.truth), ""),
        **{f"one matrix, depth {depth}": partial(flow, depth) for depth in DEPTHS},
        "nuclear norm minimisation": nuclear_norm,
        "SoftImpute": soft_impute,
    }


def flow_held_out(problem: Completion, depth: int, seed: int) -> tuple[float, Tensor]:
    """Flow on nine tenths of the known pixels, and keep the W that fits the others best.

    Returns the training loss, relative to that of zeros, and W. The seed draws the start and the
    held-out pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    held = problem.mask * (torch.rand(problem.mask.shape, generator=generator) < 0.1)
    fitted = Completion(truth=problem.truth, mask=problem.mask - held).to(torch.float32)
    weight = small_start(len(problem.truth), 1, 1e-2, seed).float()
    zero = float(fitted.objective(torch.zeros_like(weight))[1])
    best = (math.inf, 1.0, weight)
    for level in LOSSES:
        end = integrate_flow(
            fitted.objective, weight, depth, stop_loss=zero * level, max_evaluations=500
        )
        weight = end.weight
        error = float((held * (weight.double() - problem.truth)).square().sum())
        best = min(best, (error, end.loss / zero, weight), key=lambda candidate: candidate[0])
        if not end.finished:
            break
    return best[1], best[2]
