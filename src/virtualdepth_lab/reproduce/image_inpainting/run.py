"""Fill in an image of which a fifth of the pixels is known, at several depths and convexly.

No claim that depth wins here: an image is not of low rank. What is measured is reported.
"""

import math
import os
from dataclasses import asdict
from pathlib import Path
from time import process_time

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor

from virtualdepth.data import DATA_VARIABLE, Completion, small_start
from virtualdepth.maths import effective_rank
from virtualdepth.runs import UnusableError
from virtualdepth.theory import integrate_flow
from virtualdepth_lab.reproduce.convex import minimise_nuclear_norm, soft_impute_held_out
from virtualdepth_lab.reproduce.result import (
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "camera.png with 20 % of its pixels observed: the flow of one matrix at depths 1 to 4, nuclear "
    "norm minimisation and SoftImpute, by PSNR over the pixels that were not observed. The flow's "
    "time is chosen on a tenth of the observed pixels, and so is SoftImpute's threshold."
)
PUBLISHED: list[Record] = [{"source": "none", "number": "no published number; measured only"}]
SIDE = 512  # pixels of camera.png
SHARE = 0.2
DEPTHS = (1, 2, 3, 4)
LOSSES = tuple(10 ** (-1 - k / 4) for k in range(11))


def load_image(data_dir: str | None, size: int) -> Tensor:
    """Load camera.png as grey values in [0, 1], averaged down to ``size`` x ``size``.

    Args:
        data_dir: the folder that holds images/camera.png; default VIRTUALDEPTH_DATA.
        size: a divisor of 512.

    Returns:
        (size, size), float64.

    Raises:
        UnusableError: if there is no such file, or it is no PNG of 512 x 512 grey pixels.
    """
    folder = data_dir or os.environ.get(DATA_VARIABLE)
    path = Path(folder or ".", "images", "camera.png")
    if not folder or not path.is_file():
        raise UnusableError(
            "data_dir",
            "expected a folder with images/camera.png (512 x 512, grey) but got "
            f"{folder or 'none'}; name it, or set {DATA_VARIABLE}",
        )
    try:
        pixels = imread(path)
    except (OSError, SyntaxError) as error:  # both of Pillow
        raise UnusableError(
            "data_dir", f"expected a PNG of 512 x 512 grey pixels but got {path}: {error}"
        ) from error
    # above 1: of a depth of bits that the reader does not scale
    if pixels.shape != (SIDE, SIDE) or pixels.max() > 1:
        raise UnusableError(
            "data_dir",
            "expected 512 x 512 grey pixels between 0 and 1 but got an array of shape "
            f"{pixels.shape} with values up to {pixels.max():g} from {path}",
        )
    image = torch.from_numpy(np.asarray(pixels, dtype=np.float64).copy())
    blocks = image.view(size, SIDE // size, size, SIDE // size)
    return blocks.mean((1, 3))


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Complete the image by every method.

    Args:
        config: the first seed draws the pixels; quick: 64 x 64 instead of 256 x 256.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        One row for each method; the pictures as arrays.
    """
    size = 64 if config.quick else 256
    image = load_image(config.data_dir, size)
    generator = torch.Generator().manual_seed(config.seeds[0])
    mask = (torch.rand(size, size, generator=generator) < SHARE).double()
    known = float((image * mask).sum() / mask.sum())
    # centred by what is known, for every method alike
    problem = Completion(truth=image - known, mask=mask)
    pictures: dict[str, Tensor] = {}
    measured: list[Record] = []

    def finish(method: str, weight: Tensor, begin: float, detail: str) -> None:
        filled = torch.where(mask > 0, problem.truth, weight.double())
        missing = (filled - problem.truth)[mask == 0].square().mean()
        pictures[method] = (filled + known).clamp(0, 1)
        row: Record = {
            "method": method,
            "psnr": -10 * math.log10(float(missing)),
            "effective_rank": float(effective_rank(weight.double())),
            "cpu_seconds": process_time() - begin,
            "chosen": detail,
        }
        measured.append(keep(row))

    finish("mean of the known pixels", torch.zeros_like(image), process_time(), "")
    for depth in DEPTHS:
        progress(f"flow, depth {depth}")
        begin = process_time()
        loss, weight = flow_held_out(problem, depth, config.seeds[0] + 1)
        finish(f"one matrix, depth {depth}", weight, begin, f"training loss {loss:.1e}")
    progress("nuclear norm minimisation")
    begin = process_time()
    convex = minimise_nuclear_norm(problem.truth, mask, gap=1e-3, max_iterations=500)
    finish("nuclear norm minimisation", convex.weight, begin, f"duality gap {convex.gap:.1e}")
    progress("SoftImpute")
    begin = process_time()
    imputed, threshold = soft_impute_held_out(problem.truth, mask)
    finish("SoftImpute", imputed, begin, f"threshold {threshold:.3g}")
    arrays = {"truth": image, "observed": torch.where(mask > 0, image, 1.0)} | pictures
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"size": size, "share": SHARE},
        published=PUBLISHED,
        measured=measured,
        claims=[],
        arrays={name: picture.float().numpy() for name, picture in arrays.items()},
    )


def flow_held_out(problem: Completion, depth: int, seed: int) -> tuple[float, Tensor]:
    """Flow on nine tenths of the known pixels, and keep what fits the rest of them best.

    Args:
        problem: to complete.
        depth: number of layers N.
        seed: of the start and of the pixels held out.

    Returns:
        The training loss, relative to that of zeros, and the matrix.
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


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the pictures side by side.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    scores = {row["method"]: f"{row['psnr']:.1f} dB" for row in result.measured}
    names = [name for name in result.arrays if name != "mean of the known pixels"]
    columns = 4
    figure = Figure(
        figsize=(3 * columns, 3.3 * math.ceil(len(names) / columns)), layout="constrained"
    )
    panels = figure.subplots(math.ceil(len(names) / columns), columns).flat
    for ax, name in zip(panels, names, strict=False):
        ax.imshow(result.arrays[name], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(f"{name}: {scores[name]}" if name in scores else name, fontsize=9)
    for ax in figure.axes:
        ax.set_axis_off()
    return {"The image, its known pixels, and what each method made of them, with PSNR.": figure}
