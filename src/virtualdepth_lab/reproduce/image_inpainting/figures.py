"""The pictures side by side."""

import math

from matplotlib.figure import Figure

from virtualdepth.plotting import figure_grid
from virtualdepth_lab.reproduce.result import Reproduction

COLUMNS = 4


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the image, its known pixels, and each method's picture."""
    scores = {row["method"]: f"{row['psnr']:.1f} dB" for row in result.measured}
    names = [name for name in result.arrays if name != "mean of the known pixels"]
    rows = math.ceil(len(names) / COLUMNS)
    figure, _ = figure_grid(rows, COLUMNS, size=(3, 3.3))
    for ax, name in zip(figure.axes, names, strict=False):
        ax.imshow(result.arrays[name], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(f"{name}: {scores[name]}" if name in scores else name, fontsize=9)
    for ax in figure.axes:
        ax.set_axis_off()
    return {"The image, its known pixels, and what each method made of them, with PSNR.": figure}
