"""What decomposing W at every so many steps saves, and what it costs.

    python benchmarks/precondition_frequency.py      # under four minutes on one idle core
    python benchmarks/precondition_frequency.py --quick

steps: mean time of a step of one square matrix, in products of the same run; gradients, rates and
clock as in speed_steps.py. transformer: the whole optimizer step of a character transformer of 0.8
million parameters, with fixed gradients. cost: along the runs of solver_accuracy.py, the error of
the direction, ||D - P||_F / ||P||_F, at 20 points, and how far the run goes from that of exact
steps, relative to how far that has moved.
"""

import argparse
from functools import partial
from statistics import median

import torch
from common import Row
from matplotlib.figure import Figure
from solver_accuracy import TRAJECTORIES, Problem, direction, exact, measure
from speed_common import PRODUCT, Job, Sample, alone, interleaved, product, seconds, spread
from speed_figures import label_ends, plain_ticks
from speed_steps import Stepper
from torch import Tensor, nn

import virtualdepth as vd
from virtualdepth.plotting import PALETTE, draw_grid, figure_grid

FREQUENCIES = (1, 10, 30, 100)
TARGETS = {(256, 10): 7.5, (512, 10): 6.5, (1024, 10): 6.5}
TARGET_AT_30 = 5.5
RIVALS = (*((3, "svd", frequency) for frequency in (1, 2, 3, 10)), (3, "tracked", 1))


def steps(size: int, device: str, budget: float) -> list[Row]:
    shape = (size, size)
    steppers = {
        f"{frequency}": Stepper(
            lambda p, f=frequency: vd.EndToEndSGD(p, 1e-3, depth=3, precondition_frequency=f),
            shape,
            device,
            period=frequency,
        )
        for frequency in FREQUENCIES[:3]
    }
    times = interleaved(product(shape, device), dict(steppers), budget)
    unit = median(times.pop(PRODUCT))
    rows = []
    for name, own in times.items():
        limit = TARGET_AT_30 if name == "30" else TARGETS.get((size, int(name)))
        between = [took for took, quiet in steppers[name].steps if quiet]
        rows.append(
            {
                "d": size,
                "frequency": int(name),
                "mean step, products": median(own) / unit,
                "middle half": spread([value / unit for value in own]),
                "step between, products": median(between) / unit if between else None,
                "wanted": limit,
                "met": None if limit is None else median(own) / unit <= limit,
                "product, ms": 1e3 * unit,
            }
        )
    return rows


class Characters(nn.Module):
    """Predicts the next of 65 characters; as it comes 0.8 million parameters."""

    def __init__(self, width: int = 128, blocks: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(65, width)
        block = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, blocks)
        self.head = nn.Linear(width, 65)

    def forward(self, text: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        result: Tensor = self.head(self.blocks(self.embedding(text), mask=mask, is_causal=True))
        return result


def with_gradients() -> Characters:
    torch.manual_seed(0)
    model = Characters()
    text = torch.randint(65, (8, 33))
    logits = model(text[:, :-1])
    nn.functional.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten()).backward()
    return model


class Muon:
    """torch.optim.Muon on the matrices of the blocks, AdamW on the rest."""

    def __init__(self, model: nn.Module) -> None:
        blocks = [p for name, p in model.named_parameters() if "blocks" in name and p.ndim == 2]
        others = [p for p in model.parameters() if all(p is not each for each in blocks)]
        self.both = torch.optim.Muon(blocks, lr=1e-3), torch.optim.AdamW(others, lr=1e-3)

    def step(self) -> None:
        for optimizer in self.both:
            optimizer.step()


def sample_of(step: object, period: int, device: str) -> Sample:
    def run() -> None:
        for _ in range(period):
            step()  # type: ignore[operator]

    return lambda: seconds(run, device) / period


def transformer(device: str, budget: float) -> list[Row]:
    samples = {}
    made: dict[str, tuple[int, object]] = {
        "AdamW": (1, torch.optim.AdamW(with_gradients().parameters(), lr=1e-3)),
        "Muon": (1, Muon(with_gradients())),
    }
    for f in (1, 10, 30):
        groups = vd.param_groups(with_gradients(), 3, precondition_frequency=f)
        made[f"EndToEndSGD, {f}"] = (f, vd.EndToEndSGD(groups, lr=1e-4))
        adamw = torch.optim.AdamW((model := with_gradients()).parameters(), lr=1e-4)
        vd.with_depth(
            adamw, 3, model=model, precondition_frequency=f, step_scale="raw", on="gradient"
        )
        made[f"with_depth(AdamW), {f}"] = (f, adamw)
    for name, (period, optimizer) in made.items():
        samples[name] = sample_of(optimizer.step, period, device)  # type: ignore[attr-defined]
    times = interleaved(product((128, 128), device), samples, budget, most=60)
    times.pop(PRODUCT)
    return [
        {"optimizer": name, "whole step, ms": 1e3 * median(own), "samples": len(own)}
        for name, own in times.items()
    ]


def cost(name: str, size: int, depth: int, count: int, device: str) -> list[Row]:
    """Errors of each frequency along one kind of run."""
    problem = Problem(name, size, None, device)
    runs = {}
    for frequency in FREQUENCIES:
        weight = nn.Parameter(problem.weight.clone())
        runs[frequency] = vd.EndToEndSGD(
            [weight], problem.lr, depth=depth, precondition_frequency=frequency
        )
    errors: dict[int, list[float]] = {frequency: [] for frequency in FREQUENCIES}
    gaps: dict[int, list[float]] = {frequency: [] for frequency in FREQUENCIES}
    for step in range(count):
        weights = {f: run.param_groups[0]["params"][0] for f, run in runs.items()}
        for frequency, run in runs.items():
            weight = weights[frequency]
            grad = problem.gradient(weight.detach(), step)
            if step % (count // 20) == count // 20 - 1:
                truth = exact(weight.detach(), grad, depth)
                errors[frequency].append(
                    float((direction(run, grad) - truth).norm() / truth.norm())
                )
            weight.grad = grad
            run.step()
        moved = (weights[1].detach() - problem.weight).norm()
        for frequency in FREQUENCIES:
            gap = (weights[frequency].detach() - weights[1].detach()).norm()
            gaps[frequency].append(float(gap / moved))
    return [
        {
            "run": name,
            "N": depth,
            "frequency": frequency,
            "error, median": median(errors[frequency]),
            "largest": max(errors[frequency]),
            "gap, largest": max(gaps[frequency]),
            "at the end": gaps[frequency][-1],
        }
        for frequency in FREQUENCIES
    ]


def rivals(name: str, size: int, lr: float, depth: int, solver: str, frequency: int) -> list[Row]:
    """Error and cost along a run of small steps, in which a basis stays good for longer."""
    count = 40 if size < 512 else 20
    (row,) = measure(name, size, lr, depth, solver, 0.0, count, "cpu", frequency)
    kept = ("trajectory", "lr", "d", "depth", "step, % of W", "error, median", "largest")
    return [
        {
            "solver": solver if frequency == 1 else f"svd, {frequency}",
            **{key: row[key] for key in kept},
            "cost, mean": row["cost, mean"],
        }
    ]


def jobs(options: argparse.Namespace) -> list[Job]:
    device, quick = options.device, options.quick
    sizes = (64,) if quick else (256, 512, 1024)
    budget = 0.05 if quick else 1.0
    return [
        *(partial(steps, size, device, budget * max(2, size / 300)) for size in sizes),
        partial(transformer, device, budget),
        *(
            partial(cost, name, 32 if quick else 128, 3, 20 if quick else 100, device)
            for name in TRAJECTORIES
        ),
        *(
            partial(rivals, name, size, lr, depth, solver, frequency)
            for name, size in (("regression", 32 if quick else 256),)
            for lr in (0.01, 0.001)
            for depth, solver, frequency in RIVALS
        ),
    ]


def draw(rows: list[Row]) -> Figure:
    """Cost of a mean step, and error of the direction, over the frequency."""
    figure, [[left, right]] = figure_grid(1, 2, size=(4.9, 4.2))
    panels = (
        (left, "d", "frequency", "mean step, products", "mean step, in products"),
        (right, "run", "frequency", "error, median", "error of the direction, median, N = 3"),
    )
    for ax, what, x, y, title in panels:
        own = [row for row in rows if {what, x, y} <= row.keys()]
        if what == "run":  # at 1 there is nothing but rounding
            own = [row for row in own if row[x] > 1]
        ends = {}
        for number, name in enumerate(dict.fromkeys(row[what] for row in own)):
            line = [row for row in own if row[what] == name]
            color = PALETTE[number % len(PALETTE)]
            ax.loglog([row[x] for row in line], [row[y] for row in line], color=color, marker="o")
            ends[f"d = {name}" if what == "d" else name] = (line[-1][x], line[-1][y], color)
        ticks = sorted({row[x] for row in own})
        plain_ticks(ax, ticks)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("{x:g}")
        ax.tick_params(axis="y", which="minor", labelsize=7)
        label_ends(ax, ends, ticks[-1])
        ax.set_xlabel("precondition_frequency")
        ax.set_ylabel(title)
        draw_grid(ax)
    return figure


if __name__ == "__main__":
    alone(__doc__, jobs, draw)
