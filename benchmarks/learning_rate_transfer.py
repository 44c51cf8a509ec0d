"""Does one learning rate serve every depth and every scale of W, with step_scale="unit"?

A quadratic with curvatures from 0.01 to 1: ||(W - W*) H^{1/2}||^2 / 2, the start scaled by 1e-3 to
1e3. Plain gradient descent is stable below a learning rate of 2; 1 and 1.9 are tried.
"""

import math

import torch
from common import Row, arguments, parse, report, save_figure
from matplotlib.figure import Figure

from virtualdepth import EndToEndSGD
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

DEPTHS = (1.0, 2.0, 4.0, 8.0, math.inf)
SCALES = tuple(10.0**power for power in range(-3, 4))
SIZE = 20


def run(*, depth: float, scale: float, lr: float, step_scale: str, steps: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    target, start = torch.randn(2, SIZE, SIZE, generator=generator, dtype=torch.float64)
    curvature = torch.logspace(-2, 0, SIZE, dtype=torch.float64)
    weight = torch.nn.Parameter(start * scale)
    optimizer = EndToEndSGD([weight], lr=lr, depth=depth, step_scale=step_scale)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((weight - target).square() * curvature).sum() / 2
        loss.backward()
        losses.append(loss.item())
        try:
            optimizer.step()
        except FloatingPointError:
            losses.append(math.inf)
            break
    return {"peak": max(losses) / losses[0], "end": losses[-1]}


def draw(cells: list[Row]) -> Figure:
    figure, [panels] = figure_grid(1, 2, size=(4.5, 3.6), sharey=True)
    for ax, step_scale in zip(panels, ("raw", "unit"), strict=True):
        for depth, color in zip(DEPTHS, PALETTE, strict=False):
            own = cells_of(cells, step_scale, 1.0, depth)
            scales, ends = [c["scale"] for c in own], [min(c["end"], 1e9) for c in own]
            ax.loglog(scales, ends, marker="o", color=color, label=f"depth {depth:g}")
        ax.set_title(f'step_scale="{step_scale}", lr = 1')
        ax.set_xlabel("scale of the start")
        draw_grid(ax)
    panels[0].set_ylabel("loss at the end (diverged: top)")
    panels[1].legend()
    return figure


def cells_of(cells: list[Row], step_scale: str, lr: float, depth: float) -> list[Row]:
    key = (step_scale, lr, depth)
    return [c for c in cells if (c["step_scale"], c["lr"], c["depth"]) == key]


def main() -> None:
    options = parse(arguments(__doc__), "learning_rate_transfer.json", "learning_rate_transfer.png")
    steps = 20 if options.quick else 800
    settings = [
        {"step_scale": step_scale, "lr": lr, "depth": depth}
        for step_scale, lr in (("raw", 1.0), ("unit", 1.0), ("unit", 1.9))
        for depth in DEPTHS
    ]
    cells = [
        {**setting, "scale": scale, **run(scale=scale, steps=steps, **setting)}
        for setting in settings
        for scale in SCALES
    ]
    rows = []
    for setting in settings:
        own = cells_of(cells, **setting)
        rows.append(
            {
                **setting,
                "diverged": sum(not c["peak"] < 1.01 for c in own),
                "scales": len(own),
                "largest rise of the loss": max(c["peak"] for c in own),
                "worst loss at the end": max(c["end"] for c in own),
            }
        )
    report("learning_rate_transfer", options.output, rows, cells=cells, steps=steps)
    save_figure(options.output, "learning_rate_transfer.png", draw(cells))


if __name__ == "__main__":
    main()
