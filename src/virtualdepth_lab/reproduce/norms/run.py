"""Which norm does depth minimise? Two linear problems with commuting measurements.

Sources: Gunasekar et al., NeurIPS 2017, arXiv 1705.09280 (depth 2); arXiv 1905.13655, Theorems 1
and 2 (every depth, and against Schatten quasi-norms); the slides of 2019, page 27.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from matplotlib.figure import Figure
from scipy.optimize import linprog
from torch import Tensor

from virtualdepth.maths import nuclear_norm, schatten_norm
from virtualdepth.theory import integrate_flow
from virtualdepth_lab.reproduce.result import (
    Claim,
    Keep,
    Progress,
    Record,
    ReproduceConfig,
    Reproduction,
)

TITLE = (
    "Gradient flow of one matrix from alpha I, where the measurements commute: as alpha falls, the "
    "solution found has the smallest nuclear norm at every depth >= 2, also where another solution "
    "has a smaller Schatten-2/N quasi-norm, which is what an L2 penalty on the layers would find."
)
PUBLISHED: list[Record] = [
    {"problem": "commuting", "depth": "every N >= 2", "finds": "the smallest nuclear norm"},
    {"problem": "contradiction", "depth": "every N >= 2", "finds": "not the smallest Schatten-p"},
]
# the deeper, the sooner alpha is small, and the longer the flow takes to leave it
ALPHAS = {2: (1e-2, 1e-4, 1e-6), 3: (1e-2, 1e-3), 4: (1e-2, 1e-3)}
DEPTHS = tuple(ALPHAS)
STOP_LOSS, RTOL, MOST = 1e-6, 1e-3, 5000
SLACK = 2e-3  # what the loss left over can hide of the norm


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Fit <A_i, W> = y_i under half the sum of squares, the A_i symmetric and commuting.

    Attributes:
        name: of the problem.
        basis: Q, (d, d), orthogonal: A_i = Q diag(a_i) Q^T.
        spectra: the a_i as rows, (k, d).
        values: y, (k,).
    """

    name: str
    basis: Tensor
    spectra: Tensor
    values: Tensor

    def objective(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradient and loss.

        Args:
            weight: W, (d, d).

        Returns:
            (d, d) and a scalar.
        """
        residual = self.spectra @ (self.basis.T @ weight @ self.basis).diagonal() - self.values
        grad = (self.basis * (self.spectra.T @ residual)) @ self.basis.T
        return grad, residual.square().sum() / 2

    def smallest_nuclear_norm(self) -> float:
        """Solve for the smallest nuclear norm of a positive semidefinite solution.

        The flow from alpha I stays among these. Averaging over the signs of the basis makes of any
        a solution Q diag(w) Q^T of the same trace, so that a linear programme decides: min sum w
        with spectra @ w = values, w >= 0.

        Returns:
            The minimum.
        """
        size = self.spectra.shape[1]
        found = linprog([1.0] * size, A_eq=self.spectra.numpy(), b_eq=self.values.numpy())
        return float(found.fun)


def random_problem(seed: int, size: int = 6, count: int = 3) -> Measurements:
    """Draw commuting measurements of a positive semidefinite matrix of rank 2.

    Args:
        seed: of basis, spectra and matrix.
        size: d.
        count: k.

    Returns:
        The problem, in float64.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    spectra = torch.randn(count, size, generator=generator, dtype=torch.float64)
    truth = torch.zeros(size, dtype=torch.float64)
    truth[:2] = torch.tensor([2.0, 1.0])
    basis = torch.linalg.qr(normal)[0]
    return Measurements(name="commuting", basis=basis, spectra=spectra, values=spectra @ truth)


def contradiction() -> Measurements:
    """Build the instance in which diag(0, 0, 2.2) and diag(1, 1, 0) are solutions.

    Their nuclear norms are 2.2 and 2, their Schatten-2/3 sums of powers 1.69 and 2.

    Returns:
        The problem, in float64.
    """
    spectra = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, 1 / 2.2]], dtype=torch.float64)
    return Measurements(
        name="contradiction",
        basis=torch.eye(3, dtype=torch.float64),
        spectra=spectra,
        values=torch.tensor([0.0, 1.0], dtype=torch.float64),
    )


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Flow from alpha I at every depth and alpha.

    Args:
        config: seeds of the random problem, and whether to be quick.
        progress: told what begins.
        keep: handed each row as it is done.

    Returns:
        One row for each problem, depth and alpha.
    """
    seeds = config.seeds[:1] if config.quick else config.seeds
    measured: list[Record] = []
    for seed in seeds:
        progress(f"commuting measurements, seed {seed}")
        measured += map(keep, _rows(random_problem(seed), {"seed": seed}))
    progress("nuclear norm against Schatten norm")
    measured += map(keep, _rows(contradiction(), {}))
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"stop_loss": STOP_LOSS, "rtol": RTOL, "max_evaluations": MOST},
        published=PUBLISHED,
        measured=measured,
        claims=_claims(measured),
    )


def _rows(problem: Measurements, key: Record) -> Iterator[Record]:
    smallest = problem.smallest_nuclear_norm()
    for depth in DEPTHS:
        for alpha in ALPHAS[depth]:
            start = alpha * torch.eye(problem.spectra.shape[1], dtype=torch.float64)
            end = integrate_flow(
                problem.objective,
                start,
                depth,
                stop_loss=STOP_LOSS,
                rtol=RTOL,
                max_evaluations=MOST,
            )
            norm = float(nuclear_norm(end.weight))
            row: Record = {"problem": problem.name, **key, "depth": depth, "alpha": alpha}
            row |= {"loss": end.loss, "nuclear_norm": norm, "smallest": smallest}
            row |= {"excess": norm / smallest - 1}
            if problem.name == "contradiction":
                row["schatten"] = float(schatten_norm(end.weight, 2 / 3))
                row["smallest_schatten"] = 2.2
            yield row


def _claims(measured: list[Record]) -> list[Claim]:
    claims = []
    for depth in DEPTHS:
        rows = [row for row in measured if row["depth"] == depth]
        alpha = min(ALPHAS[depth])
        last = [row["excess"] for row in rows if row["alpha"] == alpha]
        falls = all(
            after["excess"] < before["excess"] + SLACK
            for before, after in pairwise(rows)
            if after["alpha"] < before["alpha"]
        )
        claims.append(
            Claim(
                claim=f"depth {depth} approaches the smallest nuclear norm as alpha falls, to 2 % "
                f"at alpha = {alpha:g}",
                held=falls and max(map(abs, last)) < 0.02,
                evidence="excess " + ", ".join(f"{value:.1e}" for value in last),
            )
        )
    ends = [
        row["schatten"]
        for row in measured
        if "schatten" in row and row["alpha"] == min(ALPHAS[row["depth"]])
    ]
    claims.append(
        Claim(
            claim="where they contradict each other, the solution found has not the smallest "
            "Schatten-2/3 quasi-norm",
            held=min(ends) > 2.2 * 1.1,
            evidence="quasi-norm " + ", ".join(f"{value:.3f}" for value in ends) + " against 2.2",
        )
    )
    return claims


def draw(result: Reproduction) -> dict[str, Figure]:
    """Draw the excess nuclear norm against alpha.

    Args:
        result: of :func:`run`.

    Returns:
        Caption to figure.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for ax, name in zip(panels, ("commuting", "contradiction"), strict=True):
        for depth, colour in zip(DEPTHS, ("#000000", "#D55E00", "#56B4E9"), strict=True):
            rows = [r for r in result.measured if r["problem"] == name and r["depth"] == depth]
            points = sorted((row["alpha"], 100 * row["excess"]) for row in rows)
            ax.plot(*zip(*points, strict=True), "o", color=colour, label=f"depth {depth}")
        ax.set(xscale="log", xlabel="alpha", title=name)
        ax.axhline(0, color="0.5", linestyle="--")
        ax.grid(color="0.9")
    panels[0].set_ylabel("excess over the smallest nuclear norm, %")
    panels[0].legend(frameon=False)
    return {
        "Relative excess of the nuclear norm of the solution found, a point for each seed.": figure
    }
