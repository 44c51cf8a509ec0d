"""Each metric with inputs and the value that numpy and scipy give for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torchmetrics import Metric

from virtualdepth import metrics

Update = tuple[Any, ...]
Truth = float | list[float] | dict[str, float]


@dataclass(frozen=True)
class Case:
    """A metric, its updates in order, and the truth for any part of them.

    `sensitive` picks from an update the tensors that the value should be differentiable in.
    """

    make: Callable[[], Metric]
    updates: Sequence[Update]
    truth: Callable[[Sequence[Update]], Truth]
    differentiable: bool = True


def gaussian(*shape: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=source)


def each(weights: Tensor) -> list[np.ndarray]:
    return list(weights.detach().double().numpy().reshape(-1, *weights.shape[-2:]))


def mean_of(formula: Callable[[np.ndarray], float]) -> Callable[[Sequence[Update]], float]:
    """The mean of a formula of singular values over every matrix of every update."""

    def truth(updates: Sequence[Update]) -> float:
        spectra = [scipy.linalg.svdvals(w) for update in updates for w in each(update[0])]
        return float(np.mean([formula(sigma) for sigma in spectra]))

    return truth


def roy_vetterli(sigma: np.ndarray) -> float:
    share = sigma / sigma.sum()
    return float(np.exp(-sum(p * np.log(p) for p in share)))


def largest_gap(updates: Sequence[Update]) -> float:
    return max(
        float(scipy.linalg.norm(a - b) / scipy.linalg.norm(b))
        for weight, reference in updates
        for a, b in zip(each(weight), each(reference), strict=True)
    )


def smallest_deficiency(updates: Sequence[Update]) -> float:
    return min(
        float(scipy.linalg.svdvals(phi).min() - scipy.linalg.norm(w - phi))
        for weight, target in updates
        for w, phi in zip(each(weight), each(target), strict=True)
    )


def largest_defects(relative: bool) -> Callable[[Sequence[Update]], list[float]]:
    def truth(updates: Sequence[Update]) -> list[float]:
        rows = []
        for (factors,) in updates:
            arrays = [factor.detach().numpy() for factor in factors]
            rows.append(
                [
                    np.sqrt(((b.T @ b - a @ a.T) ** 2).sum())
                    / ((b**2).sum() + (a**2).sum() if relative else 1)
                    for a, b in pairwise(arrays)
                ]
            )
        return [float(x) for x in np.max(rows, axis=0)]

    return truth


def mean_alignment(updates: Sequence[Update]) -> dict[str, float]:
    diagonals, others = [], []
    for weight, grad in updates:
        for w, g in zip(each(weight), each(grad), strict=True):
            u, sigma, vh = scipy.linalg.svd(w, full_matrices=False)
            core = abs(u.T @ g @ vh.T)
            k = len(sigma)
            diagonals.append(np.mean([core[r, r] for r in range(k)]))
            others.append(np.mean([core[r, s] for r in range(k) for s in range(k) if r != s]))
    return {"diagonal": float(np.mean(diagonals)), "off_diagonal": float(np.mean(others))}


def mean_errors(updates: Sequence[Update]) -> dict[str, float]:
    errors = np.concatenate([((w - t) ** 2).numpy(force=True).ravel() for w, t, _ in updates])
    observed = np.concatenate([mask.numpy().ravel() for _, _, mask in updates])
    return {
        "all": float(errors.mean()),
        "observed": float(errors[observed].mean()),
        "unobserved": float(errors[~observed].mean()),
    }


def smallest_margin(updates: Sequence[Update]) -> float:
    found = []
    for scores, labels, weight in updates:
        norm = scipy.linalg.norm(weight.detach().numpy())
        for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
            if isinstance(row, float):
                margin = row if label == 1 else -row
            else:
                margin = row[label] - max(row[:label] + row[label + 1 :])
            found.append(margin / norm)
    return min(found)


WEIGHTS = [(gaussian(*shape, seed=n),) for n, shape in enumerate([(3, 3), (2, 4, 6), (5, 2)])]
PAIRS = [(w, w + 0.1 * gaussian(*w.shape, seed=9)) for (w,) in WEIGHTS]
GRADS = [(w, gaussian(*w.shape, seed=8)) for (w,) in WEIGHTS]
FACTORS = [
    ([gaussian(4, 5, seed=n), gaussian(3, 4, seed=7), gaussian(6, 3, seed=6)],) for n in (1, 2)
]
MASKED = [(w, v, gaussian(*w.shape, seed=5) > 0.3) for w, v in PAIRS]
INPUTS = gaussian(10, 4, seed=3)
CLASSIFIED = [
    ((INPUTS @ w.T), torch.arange(10) % 3, w) for w in (gaussian(3, 4, seed=n) for n in (1, 2, 4))
]
ONE_SCORE = [((INPUTS @ w.T)[:, 0], torch.arange(10) % 2, w) for w in (gaussian(1, 4, seed=1),) * 2]


def entries(updates: Sequence[Update]) -> float:
    """The mean effective number of entries of the parameters."""
    sizes = [np.abs(update[0].detach().double().numpy()).ravel() for update in updates]
    return float(np.mean([roy_vetterli(each) for each in sizes]))


def row_norms(updates: Sequence[Update]) -> float:
    """The mean sum of the norms of all rows."""
    norms = [np.linalg.norm(update[0].detach().double().numpy(), axis=-1) for update in updates]
    return float(np.mean([each.sum() for each in norms]))


CASES = {
    "EffectiveRank": Case(metrics.EffectiveRank, WEIGHTS, mean_of(roy_vetterli)),
    "StableRank": Case(
        metrics.StableRank, WEIGHTS, mean_of(lambda s: float((s**2).sum() / s.max() ** 2))
    ),
    "NuclearNorm": Case(metrics.NuclearNorm, WEIGHTS, mean_of(lambda s: float(s.sum()))),
    "SpectralNorm": Case(metrics.SpectralNorm, WEIGHTS, mean_of(lambda s: float(s.max()))),
    "SchattenNorm 3": Case(
        lambda: metrics.SchattenNorm(3), WEIGHTS, mean_of(lambda s: float((s**3).sum() ** (1 / 3)))
    ),
    "SchattenNorm 2/3": Case(
        lambda: metrics.SchattenNorm(2 / 3),
        WEIGHTS,
        mean_of(lambda s: float((s ** (2 / 3)).sum() ** 1.5)),
    ),
    "DecayPenalty 3": Case(
        lambda: metrics.DecayPenalty(3),
        WEIGHTS,
        mean_of(lambda s: float(1.5 * (s ** (2 / 3)).sum())),
    ),
    "EffectiveRank of entries": Case(
        lambda: metrics.EffectiveRank(structure="diagonal"), WEIGHTS, entries
    ),
    "SchattenNorm 1 of rows": Case(lambda: metrics.SchattenNorm(1, "rows"), WEIGHTS, row_norms),
    "EndToEndGap": Case(metrics.EndToEndGap, PAIRS, largest_gap),
    "DeficiencyMargin": Case(metrics.DeficiencyMargin, PAIRS, smallest_deficiency),
    "Balancedness": Case(lambda: metrics.Balancedness(3), FACTORS, largest_defects(False)),
    "Balancedness relative": Case(
        lambda: metrics.Balancedness(3, relative=True), FACTORS, largest_defects(True)
    ),
    "GradientAlignment": Case(
        metrics.GradientAlignment, GRADS, mean_alignment, differentiable=False
    ),
    "ReconstructionError": Case(metrics.ReconstructionError, MASKED, mean_errors),
    "NormalizedMargin": Case(metrics.NormalizedMargin, CLASSIFIED, smallest_margin),
    "NormalizedMargin of one score": Case(metrics.NormalizedMargin, ONE_SCORE, smallest_margin),
}


def numbers(value: Any) -> dict[str, list[float]]:
    """The values of `compute`, or of a truth, under one form."""
    if not isinstance(value, dict):
        value = {"": value}
    return {
        key: torch.as_tensor(part, dtype=torch.float64).reshape(-1).tolist()
        for key, part in value.items()
    }


def converted(thing: Any, dtype: torch.dtype) -> Any:
    """An update with its floating-point tensors in another dtype."""
    if isinstance(thing, list | tuple):
        return type(thing)(converted(part, dtype) for part in thing)
    return thing.to(dtype) if thing.is_floating_point() else thing
