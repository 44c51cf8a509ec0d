"""Does the bias to low rank survive mini-batches, with step_scale="unit"?

A 100 x 100 matrix of rank 5 with 2000 entries observed, batches of 200, depth 3, 1500 steps on
sum (W - W*)^2 / 2 over the batch. A grid of rate, start and cap on one seed; its best three
settings, by the error, on three other seeds. error = mean (W - W*)^2 over all entries, where the
mean square of W* is 1.
"""

from itertools import product

import torch
from common import Row, arguments, parse, report, save_figure
from matplotlib.figure import Figure

from virtualdepth import EndToEndSGD, effective_rank, init
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

SIZE, RANK, OBSERVED, BATCH = 100, 5, 2000, 200
RATES = (3.0, 10.0, 30.0)
STARTS = (1e-2, 3e-2)
CAPS = (0.02, 0.05)
TICKS = {"error": (0.003, 0.01, 0.03), "effective rank": (6, 7, 8, 10)}


def run(
    lr: float,
    start: float,
    cap: float,
    seed: int,
    steps: int,
    depth: float = 3,
    scale: str = "unit",
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, SIZE, RANK, generator=generator)
    truth = left @ right.T
    truth = truth / truth.square().mean().sqrt()
    observed = torch.randperm(SIZE * SIZE, generator=generator)[:OBSERVED]
    layer = init.balanced_(torch.nn.Linear(SIZE, SIZE, bias=False), start, generator=generator)
    optimizer = EndToEndSGD(layer.parameters(), lr=lr, depth=depth, step_scale=scale, cap=cap)
    for _ in range(steps):
        batch = observed[torch.randperm(OBSERVED, generator=generator)[:BATCH]]
        optimizer.zero_grad()
        residual = (layer.weight - truth).flatten()[batch]
        (residual.square().sum() / 2).backward()
        try:
            optimizer.step()
        except FloatingPointError:
            break
    weight = layer.weight.detach()
    return {
        "error": (weight - truth).square().mean().item(),
        "training": (weight - truth).flatten()[observed].square().mean().item(),
        "effective rank": effective_rank(weight).item(),
    }


def draw(grid: list[Row]) -> Figure:
    figure, [panels] = figure_grid(1, 2, size=(4.5, 3.6))
    for ax, key in zip(panels, ("error", "effective rank"), strict=True):
        for (start, cap), color in zip(product(STARTS, CAPS), PALETTE, strict=False):
            own = [c for c in grid if (c["start"], c["cap"]) == (start, cap)]
            look = {"ls": "--" if start == STARTS[0] else "-", "marker": "o", "color": color}
            label = f"start {start:g}, cap {cap:g}"
            ax.loglog([c["lr"] for c in own], [c[key] for c in own], label=label, **look)
        ax.set_xlabel("learning rate")
        ax.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        ax.set_yticks(TICKS[key], [f"{tick:g}" for tick in TICKS[key]])
        ax.minorticks_off()
        ax.set_title(key)
        draw_grid(ax)
    panels[0].axhline(1e-2, color="k", lw=0.8)
    panels[1].axhline(6, color="k", lw=0.8)
    panels[0].legend(fontsize=8)
    return figure


def main() -> None:
    options = parse(arguments(__doc__), "minibatch_completion.json", "minibatch_completion.png")
    steps = 20 if options.quick else 1500
    grid = []
    for lr, start, cap in product(RATES, STARTS, CAPS):
        grid.append({"lr": lr, "start": start, "cap": cap, **run(lr, start, cap, 0, steps)})
        print(grid[-1], flush=True)
    plain = [
        {"lr": lr, "start": 1e-3, "cap": 0.0, **run(lr, 1e-3, 1.0, 0, steps, 1, "raw")}
        for lr in (0.3, 1.0)
    ]
    rows = []
    for best in sorted(grid, key=lambda c: c["error"])[:3]:
        setting = {name: best[name] for name in ("lr", "start", "cap")}
        for seed in (1, 2, 3):
            rows.append({**setting, "seed": seed, **run(**setting, seed=seed, steps=steps)})
            print(rows[-1], flush=True)
    report("minibatch_completion", options.output, rows, grid=grid, depth_1=plain, steps=steps)
    save_figure(options.output, "minibatch_completion.png", draw(grid))


if __name__ == "__main__":
    main()
