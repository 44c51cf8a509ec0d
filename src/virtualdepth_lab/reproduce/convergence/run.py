"""When gradient descent on a deep linear network converges: the theorem, and without it.

Source: Arora, Cohen, Golowich, Hu, arXiv 1810.02281.
"""

from collections.abc import Iterator
from dataclasses import asdict

from matplotlib.figure import Figure

from virtualdepth.data import Problem, load_problem
from virtualdepth_lab.reproduce.convergence.claims import claims
from virtualdepth_lab.reproduce.convergence.descent import (
    identity_rows,
    lemma_rows,
    scalar_rows,
    unbalanced_rows,
)
from virtualdepth_lab.reproduce.convergence.starts import deviation_rows, probability_rows
from virtualdepth_lab.reproduce.result import (
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "Gradient descent on the layers of a linear network, whitened l_2 loss: the convergence "
    "theorem with its constants, both of its assumptions taken away, how often random balanced "
    "starts satisfy it, and iterations to an excess loss of 1e-5 on the whitened ethanol data from "
    "balanced and from independent Gaussian layers (hidden width 16), each at the best constant "
    "learning rate of a quarter-decade grid."
)
PUBLISHED: list[Record] = [
    {"statement": "Theorem 1", "says": "margin and balance: linear convergence, with constants"},
    {"statement": "Lemma 1", "says": "each step takes at least its share off the loss"},
    {"statement": "Theorem 2", "says": "output dimension 1: constant probability"},
    {"statement": "Claim 4", "says": "a margin without balance can diverge"},
    {"statement": "Claim 5", "says": "identity, a negative eigenvalue, even N: never converges"},
    {"statement": "section 5", "says": "balanced starts converge sooner, and over a wider range"},
]


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Check every statement.

    Args:
        config: seeds of problems and starts, data_dir, and whether to be quick.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        Rows of every part.
    """
    ethanol = load_problem("ethanol", data_dir=config.data_dir)
    measured = list(map(keep, _rows(config, ethanol, progress)))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"dtype": "float64"},
        published=PUBLISHED,
        measured=measured,
        claims=[] if config.quick else claims(measured),
    )


def _rows(config: ReproduceConfig, ethanol: Problem, progress: Progress) -> Iterator[Record]:
    quick = config.quick
    progress("scalar runs")
    yield from scalar_rows()
    progress("Lemma 1")
    yield from lemma_rows(config.seeds, 300 if quick else 3000)
    progress("without an assumption")
    yield from unbalanced_rows()
    yield from identity_rows(1000 if quick else 10_000)
    progress("random balanced starts")
    yield from probability_rows(50 if quick else 1000, config.seeds[0])
    # the minimum of the loss over whitened inputs, as a column
    target = ethanol.inputs.T @ ethanol.targets / len(ethanol.inputs)
    if quick:
        yield from deviation_rows(target, config.seeds[:1], progress, most=50, deviations=(0.01,))
    else:
        yield from deviation_rows(target, config.seeds, progress)


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw iterations to convergence against the standard deviation of the start.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    for ax, depth in zip(figure.subplots(1, 2, sharey=True), (3, 8), strict=True):
        for kind, colour, marker in (("layer-wise", "#D55E00", "o"), ("balanced", "#0072B2", "s")):
            rows = [
                row
                for row in result.measured
                if (row["part"], row["depth"], row.get("start")) == ("section 5", depth, kind)
            ]
            label = f"{kind} start"
            found = [row for row in rows if row["steps"] is not None]
            deviations = [row["deviation"] for row in found]
            middle = [row["steps"] for row in found]
            ax.plot(deviations, middle, color=colour, marker=marker, label=label)
            low, high = ([row[end] for row in found] for end in ("from", "to"))
            ax.fill_between(deviations, low, high, color=colour, alpha=0.2, linewidth=0)
            for row in rows:
                if row["steps"] is None:
                    height = {"layer-wise": 0.97, "balanced": 0.92}[kind]
                    ax.plot(
                        row["deviation"],
                        height,
                        "x",
                        color=colour,
                        transform=ax.get_xaxis_transform(),
                    )
        ax.set(xscale="log", yscale="log", title=f"depth {depth}")
        ax.set_xlabel("standard deviation of an entry of the product at the start")
        ax.grid(color="0.9")
    figure.axes[0].set_ylabel("iterations to an excess loss of 1e-5")
    figure.axes[0].legend(frameon=False, loc="upper left")
    return {
        "Iterations to convergence on the whitened ethanol data: medians over seeds, and their "
        "range; a cross at the top: most seeds do not converge in 20,000 iterations.": figure
    }
