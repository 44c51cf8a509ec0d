"""The package's own problems, as a study takes them: arguments in, metrics out."""

from dataclasses import dataclass

import torch
from torch import Tensor

from virtualdepth.data import Completion, load_problem, low_rank_problem
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.matrix import Metrics, Report, train
from virtualdepth_lab.ablate.options import MatrixOptions, count

STEPS = 2000


@dataclass(frozen=True, kw_only=True)
class MatrixCompletion(MatrixOptions):
    """Complete a low-rank matrix, arXiv 1905.13655; see MatrixOptions for the other arguments.

    The truth has Frobenius norm ``size``, so its entries have mean square 1. "error" is the mean
    over all entries of (W - truth)^2, "loss" that over the observed ones.

    Attributes:
        size: rows and columns.
        rank: of the truth.
        observed: how many entries.
        noise: standard deviation of Gaussian noise on the observed entries.
    """

    size: int = 100
    rank: int = 5
    observed: int = 2000
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        count("size", self.size)
        count("rank", self.rank, self.size)
        count("observed", self.observed, self.size**2)
        not_negative("noise", self.noise)

    def train(self, steps: int | None, report: Report | None = None) -> Metrics:
        """Run one cell.

        Args:
            steps: the most gradient evaluations; default 2000.
            report: told now and then where it stands.

        Returns:
            The metrics.
        """
        problem = low_rank_problem(self.size, self.rank, self.observed, self.seed)
        seen = problem.truth
        if self.noise:
            generator = torch.Generator().manual_seed(self.seed + 2)
            seen = seen + self.noise * torch.randn(
                seen.shape, generator=generator, dtype=seen.dtype
            )
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
class Regression(MatrixOptions):
    """Fit W x to y on whitened features; see MatrixOptions for the other arguments.

    "loss" is the mean over the training samples of ||W x - y||^2 / 2; "error" that over the
    samples left out. Without ``samples`` all are trained on, and there is no error.

    Attributes:
        data: "digits", "ethanol", "synthetic" or a CSV file with a header.
        targets: of a CSV file, the columns to predict, separated by commas.
        data_dir: folder of the ethanol data; default the variable VIRTUALDEPTH_DATA.
        samples: how many to train on, drawn anew for each seed.
        noise: standard deviation of Gaussian noise on the targets trained on.
    """

    data: str = "digits"
    targets: str = ""
    data_dir: str | None = None
    samples: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        not_negative("noise", self.noise)
        if self.samples is not None:
            count("samples", self.samples)

    def train(self, steps: int | None, report: Report | None = None) -> Metrics:
        """Run one cell.

        Args:
            steps: the most gradient evaluations; default 2000.
            report: told now and then where it stands.

        Returns:
            The metrics.

        Raises:
            UnusableError: if the data cannot be used, or have no samples to leave out.
        """
        inputs, targets, left_out = self._samples()

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

    def _samples(self) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Inputs and targets to train on, and those left out."""
        names = [name.strip() for name in self.targets.split(",")] if self.targets else []
        problem = load_problem(self.data, targets=names, data_dir=self.data_dir, seed=self.seed)
        x, y = problem.inputs, problem.targets
        generator = torch.Generator().manual_seed(self.seed + 2)
        left_out = None
        if self.samples is not None:
            if self.samples >= len(x):
                raise UnusableError(
                    "samples", f"expected fewer than the {len(x)} there are but got {self.samples}"
                )
            order = torch.randperm(len(x), generator=generator)
            chosen, left = order[: self.samples], order[self.samples :]
            x, y, left_out = x[chosen], y[chosen], (x[left], y[left])
        if self.noise:
            y = y + self.noise * torch.randn(y.shape, generator=generator, dtype=y.dtype)
        dtype = getattr(torch, self.dtype)
        if left_out is not None:
            left_out = left_out[0].to(dtype), left_out[1].to(dtype)
        return x.to(dtype), y.to(dtype), left_out


def not_negative(name: str, given: object) -> None:
    """Refuse what is not a number >= 0.

    Args:
        name: of the option.
        given: its value.

    Raises:
        UnusableError: if it is something else.
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < 1e300:
        raise UnusableError(name, f"expected a number >= 0 but got {given!r}")
