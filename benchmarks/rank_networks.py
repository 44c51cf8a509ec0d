"""How thin can a trained network be made? Score against kept weights, by way of training.

    python benchmarks/rank_networks.py --networks MLP --data-dir DIR

- MLP: 784-128-128-10 on 10,000 MNIST images, five epochs of batches of 100. Accuracy in per cent.
- ConvNet: a convolution of patches of 4 x 4 pixels to 32 channels; twice one of 3 x 3 within
  channels, one of one pixel to 128 channels, and batch norm; the mean, and a linear layer. One
  epoch of the same images in batches of 50.
- transformer: 2 blocks of width 48 that predict the next character of Python's own help, 300
  batches of 8 passages of 32 characters. Loss on other topics, in nats a character.

Rates fall to 0 as a cosine. Each way of training has eight trials of a rate and a penalty, drawn by
the same generator from its own ranges, on one seed; the best trial on held-out data at 10 % of the
weights is run on three other seeds. Each network is truncated by virtualdepth.factorize with one
tolerance for all layers, by the weights alone and whitened by training inputs, to each share of the
weights of its linear layers and convolutions of one pixel. Scores are of further test data.

- SGD, AdamW: weight decay.
- AdamW, nuclear, proximal: after each step singular values shrink by rate times penalty.
- AdamW, nuclear in the loss: penalty times the nuclear norm, by its subgradient.
- factors: each layer is two layers of full width without a bias between, AdamW with decay.
- EndToEndSGD, depth 2 and 3: weight decay, step_scale="unit", precondition_frequency=10.
- with_depth, depth 2 and 3: AdamW's updates preconditioned, decay on the weights.
"""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import (
    DOCS,
    DOTS_PER_INCH,
    Row,
    arguments,
    into_docs,
    parse,
    report,
    save_figure,
)
from matplotlib.figure import Figure
from networks_common import Data, log_scale, trials
from rank_problems import PROBLEMS, Problem
from rank_training import WAYS, trained, weights
from torch import Tensor, nn
from tqdm import tqdm

import virtualdepth as vd
from virtualdepth.plotting import draw_grid
from virtualdepth.runs import markdown_table

TRIALS, TUNED_ON, SEEDS = 8, 0, (1, 2, 3)
SHARES = (1.0, 0.5, 0.25, 0.1, 0.05)
AT = 0.1


def size(model: nn.Module) -> int:
    return sum(weight.numel() for weight in weights(model))


class Thinned:
    """Truncations of a model, each by the least tolerance found that keeps a share of weights."""

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor] | None) -> None:
        self.model, self.inputs = model, inputs
        self.found: dict[float, tuple[int, nn.Module]] = {0.0: (size(model), model)}
        self.add(1 - 1e-9)

    def add(self, tolerance: float) -> None:
        thin = vd.factorize(self.model, tolerance=tolerance, inputs=self.inputs)
        self.found[tolerance] = size(thin), thin

    def at(self, share: float) -> nn.Module:
        """Bisect between the tolerances known, down to a thousandth."""
        allowed = share * self.found[0.0][0]
        while (high := self.least(allowed)) > 0:
            low = max(each for each in self.found if each < high)
            if high - low < 1e-3 or self.found[high][0] == allowed:
                break
            self.add((low + high) / 2)
        return self.found[high][1]

    def least(self, allowed: float) -> float:
        """Find the least tolerance known that keeps no more than allowed, or the largest known."""
        found = (each for each, (count, _) in self.found.items() if count <= allowed)
        return min(found, default=max(self.found))


def tuned(problem: Problem, way: str, parts: list[Data], count: int, epochs: int, bar: Any) -> Row:
    """Draw trials log-uniformly, and return the best at 10 % of the weights."""
    _, rates, penalties = WAYS[way]
    train, held_out, _ = parts
    found = []
    for first, second in trials(count):
        lr, penalty = log_scale(first, rates), log_scale(second, penalties)
        bar.set_description(f"{way}: trial")
        try:
            model = trained(problem, way, lr, penalty, TUNED_ON, train, epochs)
            thin = Thinned(model, [train[0][: problem.seen]]).at(AT)
            score = problem.sign * problem.measure(thin, held_out)
        except (FloatingPointError, ValueError):  # it diverged
            score = float("-inf")
        found.append({"score": score, "lr": lr, "penalty": penalty})
        bar.update()
    return max(found, key=lambda trial: trial["score"])


def rows_of(
    problem: Problem, way: str, best: Row, models: list[nn.Module], parts: Any
) -> list[Row]:
    train, _, test = parts
    rows: list[Row] = []
    for name, inputs in (("plain", None), ("whitened", [train[0][: problem.seen]])):
        cuts = [Thinned(model, inputs) for model in models]
        for share in SHARES:
            found = [problem.measure(each.at(share), test) for each in cuts]
            rows.append(
                {
                    "training": way,
                    "truncation": name,
                    "kept, %": 100 * share,
                    "mean": f"{statistics.fmean(found):.4g}",
                    "each": " ".join(f"{each:.4g}" for each in found),
                    "lr": f"{best['lr']:.2g}",
                    "penalty": f"{best['penalty']:.2g}",
                }
            )
    return rows


def study(problem: Problem, folder: str | None, quick: bool) -> list[Row]:
    parts = problem.data(folder)
    count, epochs, seeds = TRIALS, problem.epochs, SEEDS
    if quick:
        count, epochs, seeds = 1, 1, SEEDS[:1]
        few = 2 * problem.batch
        parts = [(inputs[:few], labels[:few]) for inputs, labels in parts]
    rows: list[Row] = []
    with tqdm(total=len(WAYS) * (count + len(seeds)), disable=None) as bar:
        for way in WAYS:
            best = tuned(problem, way, parts, count, epochs, bar)
            models = []
            for seed in seeds:
                bar.set_description(f"{way}: seed {seed}")
                found = best["lr"], best["penalty"], seed, parts[0], epochs
                models.append(trained(problem, way, *found))
                bar.update()
            own = rows_of(problem, way, best, models, parts)
            rows += own
            print(*own, sep="\n", flush=True)
    return rows


def cell(row: Row) -> str:
    found = sorted(row["each"].split(), key=float)
    return f"{row['mean']} ({found[0]}–{found[-1]})"


def table(rows: list[Row]) -> str:
    """Mean of the seeds, least and largest: whitened, and at 10 % by the weights alone too."""
    columns = {"all": (100, "whitened"), "25 %": (25, "whitened"), "10 %": (10, "whitened")}
    columns |= {"10 %, plain cut": (10, "plain"), "5 %": (5, "whitened")}
    laid = []
    for way in dict.fromkeys(row["training"] for row in rows):
        own = {(row["kept, %"], row["truncation"]): row for row in rows if row["training"] == way}
        cells = {name: cell(own[place]) for name, place in columns.items()}
        laid.append({"training": way, **cells})
    return markdown_table(laid)


def draw(folder: Path) -> Figure:
    """One panel for each network that was measured into the folder."""
    paths = {name: folder / f"rank_networks_{name}.json" for name in PROBLEMS}
    measured = {name: path for name, path in paths.items() if path.exists()}
    figure = Figure(figsize=(max(7.0, 4.3 * len(measured)), 4.6), layout="constrained")
    panels = figure.subplots(1, len(measured), squeeze=False)[0]
    for ax, (name, path) in zip(panels, measured.items(), strict=True):
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        for way in WAYS:
            own = [r for r in rows if r["training"] == way and r["truncation"] == "whitened"]
            style = "o-" if "depth" in way else "s--"
            shares, values = [r["kept, %"] for r in own], [float(r["mean"]) for r in own]
            ax.plot(shares, values, style, ms=4, label=way)
        ax.set(xscale="log", xlabel="weights kept, %", ylabel=PROBLEMS[name].unit, title=name)
        ax.set_xticks([5, 10, 25, 50, 100], ["5", "10", "25", "50", "100"])
        ax.minorticks_off()
        draw_grid(ax)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = arguments(__doc__, docs=True)
    parser.add_argument("--networks", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--data-dir", metavar="DIR", help="with MNIST's idx files")
    names = [f"rank_networks_{name}.json" for name in PROBLEMS]
    options = parse(parser, *names, "rank_networks.png")
    for name in options.networks:
        rows = study(PROBLEMS[name], options.data_dir, options.quick)
        report(f"rank_networks_{name}", options.output, rows)
        figure = draw(options.output)
        save_figure(options.output, "rank_networks.png", figure)
        if options.docs:  # which are under version control
            into_docs({f"rank_networks {name}": table(rows)}, DOCS / "rank.md")
            figure.savefig(DOCS / "assets" / "rank" / "networks.png", dpi=DOTS_PER_INCH)


if __name__ == "__main__":
    main()
