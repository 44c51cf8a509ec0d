"""From depth 1 to depth 4: how depth finds a matrix of low rank from 40 % of its entries.

A single 40 x 40 layer is trained on the entries that are seen, from a small start. Depth 1 is
torch.optim.SGD, which fits them and learns nothing about the others.

Usage: python depth_finds_the_rank.py [folder for the figure]
"""

import statistics
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

SIZE, RANK, SEEN = 40, 3, 0.4
STEPS, EVERY = 1500, 5
DEPTHS, SEEDS = (1, 1.5, 2, 2.5, 3, 4), (0, 1, 2)


def problem(seed: int) -> tuple[Tensor, Tensor]:
    """Return a matrix of rank 3 and mean square 1, and a mask of the entries that are seen."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, SIZE, RANK, generator=generator)
    truth = left @ right.T
    return truth / truth.square().mean().sqrt(), torch.rand(SIZE, SIZE, generator=generator) < SEEN


def train(depth: float, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Return the trained matrix, and its singular values along the run."""
    truth, seen = problem(seed)
    layer = nn.Linear(SIZE, SIZE, bias=False)
    vd.init.balanced_(layer, 1e-3, generator=torch.Generator().manual_seed(seed + 100))
    optimizer = vd.EndToEndSGD(layer.parameters(), lr=1.0, depth=depth, step_scale="unit")
    spectra = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = (layer.weight - truth)[seen].square().sum() / 2
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            spectra.append(torch.linalg.svdvals(layer.weight.detach()))
    return layer.weight.detach(), spectra


def unseen_error(weight: Tensor, seed: int) -> float:
    """Root mean square of the error on the entries that were not seen; the truth's is 1."""
    truth, seen = problem(seed)
    return (weight - truth)[~seen].square().mean().sqrt().item()


def draw(spectra: dict[float, list[Tensor]], errors: dict[float, list[float]]) -> Figure:
    figure, [panels] = figure_grid(1, 3, size=(3.7, 3.2))
    for ax, (depth, own) in zip(panels, spectra.items(), strict=False):
        curves = torch.stack(own).T[:8]
        for index, curve in enumerate(curves):
            color = PALETTE[index] if index < RANK else "0.6"
            ax.plot(range(0, STEPS, EVERY), curve, color=color)
        for value in torch.linalg.svdvals(problem(0)[0])[:RANK]:
            ax.axhline(value, color="k", ls=":", lw=0.8)
        ax.set_title(f"depth {depth:g}" + (" (SGD)" if depth == 1 else ""), fontsize=10)
        ax.set_xlabel("step")
        draw_grid(ax)
        ax.set_xlim(-20, 600)
        ax.set_ylim(-0.5, 32)
    panels[0].set_ylabel("eight largest singular values of W\n(dotted: the three of the truth)")
    last = panels[2]
    for place, depth in enumerate(errors):
        last.semilogy([place] * len(SEEDS), errors[depth], "o", color=PALETTE[0], mfc="none")
    last.semilogy([statistics.median(own) for own in errors.values()], color=PALETTE[0])
    last.set_xticks(range(len(errors)), [f"{depth:g}" for depth in errors])
    last.set_xlabel("depth")
    last.set_ylabel("error on unseen entries\n(truth: 1)")
    draw_grid(last)
    return figure


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # more threads are slower for such small matrices
    spectra: dict[float, list[Tensor]] = {}
    errors: dict[float, list[float]] = {}
    print("depth  error on unseen entries  effective rank  (medians of 3 problems)")
    for depth in DEPTHS:
        runs = {seed: train(depth, seed) for seed in SEEDS}
        errors[depth] = [unseen_error(weight, seed) for seed, (weight, _) in runs.items()]
        rank = statistics.median(vd.effective_rank(weight).item() for weight, _ in runs.values())
        print(f"{depth:5g}  {statistics.median(errors[depth]):23.4f}  {rank:14.2f}")
        if depth in (1, 3):
            spectra[depth] = runs[SEEDS[0]][1]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "depth-finds-the-rank.png"
    draw(spectra, errors).savefig(path, dpi=110)
    print(f"figure in {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/depth_finds_the_rank"))
