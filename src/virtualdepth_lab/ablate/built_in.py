"""The package's own problems, as a study takes them: arguments in, metrics out."""

import sys
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from virtualdepth.data import Completion, load_problem, low_rank_problem
from virtualdepth.runs import UnusableError, column_names
from virtualdepth_lab.ablate.checks import check_count, check_not_negative
from virtualdepth_lab.ablate.matrix import Metrics, Report, train
from virtualdepth_lab.ablate.options import MatrixOptions

STEPS = 2000  # unless the study has budget.steps

Samples = tuple[Tensor, Tensor]  # inputs (samples, n), targets (samples, m)


@dataclass(frozen=True, kw_only=True)
class CompletionProblem(MatrixOptions):
    """Complete a low-rank matrix whose entries have mean square 1, arXiv 1905.13655.

    "error" is the mean over all entries of (W - truth)^2, "loss" that over the observed ones.
    """

    size: int = 100  # rows and columns
    rank: int = 5  # of the truth
    observed: int = 2000  # how many entries
    noise: float = 0.0  # standard deviation of Gaussian noise on the observed entries

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("size", self.size)
        check_count("rank", self.rank, self.size)
        check_count("observed", self.observed, self.size**2)
        check_not_negative("noise", self.noise)

    def train(self, steps: int | None, report: Report | None = None) -> Metrics:
        """Run one cell."""
        problem = low_rank_problem(self.size, self.rank, self.observed, self.seed)
        seen = problem.truth
        if self.noise:
            generator = torch.Generator().manual_seed(self.seed + 2)
            seen = seen + self.noise * _gaussian_like(seen, generator)
        noisy = Completion(truth=seen, mask=problem.mask).to(getattr(torch, self.dtype))
        return train(
            self,
            (self.size, self.size),
            noisy.objective,
            2 / self.observed,
            lambda weight: {"error": problem.error(weight)},
            steps=steps or STEPS,
            report=report,
        )


@dataclass(frozen=True, kw_only=True)
class RegressionProblem(MatrixOptions):
    """Fit W x to y on whitened features.

    "loss" is the mean over the training samples of ||W x - y||^2 / 2; "error" that over the
    samples left out. Without ``samples`` all are trained on, and there is no error.
    """

    data: str = "digits"  # "ethanol", "synthetic" or a CSV file with a header
    targets: str = ""  # of a CSV file: the columns to predict, separated by commas
    data_dir: str | None = None  # of the ethanol data; None: the variable VIRTUALDEPTH_DATA
    samples: int | None = None  # how many to train on, drawn anew for each seed
    noise: float = 0.0  # standard deviation of Gaussian noise on the targets trained on

    def __post_init__(self) -> None:
        super().__post_init__()
        check_not_negative("noise", self.noise)
        if self.samples is not None:
            check_count("samples", self.samples)

    def train(self, steps: int | None, report: Report | None = None) -> Metrics:
        """Run one cell."""
        (inputs, targets), left_out = self._samples()

        def objective(weight: Tensor) -> tuple[Tensor, Tensor]:
            residual = inputs @ weight.T - targets
            return residual.T @ inputs / len(inputs), residual.square().sum() / (2 * len(inputs))

        def measure(weight: Tensor) -> Metrics:
            if left_out is None:
                return {}
            residual = left_out[0] @ weight.T - left_out[1]
            return {"error": float(residual.square().sum()) / (2 * len(residual))}

        return train(
            self,
            (targets.shape[1], inputs.shape[1]),
            objective,
            float(torch.linalg.matrix_norm(inputs, 2) ** 2) / len(inputs),
            measure,
            steps=steps or STEPS,
            report=report,
        )

    def _samples(self) -> tuple[Samples, Samples | None]:
        """Return the samples to train on, and those left out."""
        problem = load_problem(
            self.data,
            targets=column_names(self.targets),
            data_dir=self.data_dir,
            seed=self.seed,
        )
        _say(problem.notes)
        x, y = problem.inputs, problem.targets
        dtype = getattr(torch, self.dtype)
        generator = torch.Generator().manual_seed(self.seed + 2)
        left_out = None
        if self.samples is not None:
            if self.samples >= len(x):
                raise UnusableError(
                    "samples", f"expected fewer than the {len(x)} there are but got {self.samples}"
                )
            order = torch.randperm(len(x), generator=generator)
            chosen, left = order[: self.samples], order[self.samples :]
            left_out = x[left].to(dtype), y[left].to(dtype)
            x, y = x[chosen], y[chosen]
        if self.noise:
            y = y + self.noise * _gaussian_like(y, generator)
        return (x.to(dtype), y.to(dtype)), left_out


@cache
def _say(notes: tuple[str, ...]) -> None:
    """Say once, in the log of a worker, what the data are without."""
    for note in notes:
        print(note, file=sys.stderr)


def _gaussian_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
