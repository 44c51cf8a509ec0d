"""Does one learning rate serve every depth and every scale of W, with step_scale="unit"?

A quadratic with curvatures from 0.01 to 1: ||(W - W*) H^{1/2}||^2 / 2, the start scaled by 1e-3 to
1e3. Plain gradient descent is stable below a learning rate of 2; 1 and 1.9 are tried.
"""

import math

import torch
from common import arguments, report

from virtualdepth import EndToEndSGD

DEPTHS = (1.0, 2.0, 4.0, 8.0, math.inf)
SCALES = tuple(10.0**power for power in range(-3, 4))
SIZE = 20


def run(depth: float, scale: float, lr: float, step_scale: str, steps: int) -> dict[str, float]:
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


def figure(cells: list[dict], path) -> None:
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, step_scale in zip(axes, ("raw", "unit"), strict=True):
        for depth in DEPTHS:
            own = [
                c
                for c in cells
                if (c["depth"], c["step_scale"], c["lr"]) == (depth, step_scale, 1.0)
            ]
            ends = [min(c["end"], 1e9) for c in own]
            ax.loglog([c["scale"] for c in own], ends, marker="o", label=f"depth {depth:g}")
        ax.set_title(f'step_scale="{step_scale}", lr = 1')
        ax.set_xlabel("scale of the start")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("loss at the end (diverged: top)")
    axes[1].legend()
    plt.savefig(path, dpi=110)


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    steps = 20 if options.quick else 800
    cells = [
        {
            "step_scale": step_scale,
            "lr": lr,
            "depth": depth,
            "scale": scale,
            **run(depth, scale, lr, step_scale, steps),
        }
        for step_scale, lr in (("raw", 1.0), ("unit", 1.0), ("unit", 1.9))
        for depth in DEPTHS
        for scale in SCALES
    ]
    rows = []
    for step_scale, lr in (("raw", 1.0), ("unit", 1.0), ("unit", 1.9)):
        for depth in DEPTHS:
            own = [
                c
                for c in cells
                if (c["step_scale"], c["lr"], c["depth"]) == (step_scale, lr, depth)
            ]
            rows.append(
                {
                    "step_scale": step_scale,
                    "lr": lr,
                    "depth": depth,
                    "diverged": sum(not c["peak"] < 1.01 for c in own),
                    "scales": len(own),
                    "largest rise of the loss": max(c["peak"] for c in own),
                    "worst loss at the end": max(c["end"] for c in own),
                }
            )
    report("learning_rate_transfer", options.output, rows, cells=cells, steps=steps)
    figure(cells, options.output / "learning_rate_transfer.png")


if __name__ == "__main__":
    main()
