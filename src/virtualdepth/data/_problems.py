"""Regression problems, ready to train on: built-in data, ethanol, or a CSV file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from virtualdepth.data._csv import read_table
from virtualdepth.data._files import find_file
from virtualdepth.data._preparation import left_out, standardise, whiten
from virtualdepth.runs import UnusableError

BUILT_IN = ("digits", "ethanol", "synthetic")
_MOST_NAMES = 12  # of columns in a sentence


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Fit W x to y under the loss mean over samples of ||W x - y||^2 / 2.

    Attributes:
        name: of the data.
        inputs: x as rows, (samples, n), float64, centred and whitened.
        targets: y as rows, (samples, m), float64, centred.
        features: how many features the data had, n of them linearly independent.
        notes: sentences on the features that are left out.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    features: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        samples, rank = self.inputs.shape
        return (
            f"{self.name}: {samples} samples, {self.features} features of rank {rank}, "
            f"{self.targets.shape[1]} targets"
        )


def load_problem(
    data: str, *, targets: Sequence[str] = (), data_dir: str | None = None, seed: int = 0
) -> Problem:
    """Load data and prepare it for training.

    Args:
        data: "digits" (scikit-learn's, one-hot targets), "ethanol" (a file under ``data_dir``),
            "synthetic" (drawn from ``seed``), or the path of a CSV file with a header.
        targets: of a CSV file, the columns to predict.
        data_dir: the folder of the data; default the environment variable VIRTUALDEPTH_DATA.
        seed: of synthetic data.

    Returns:
        The problem; targets are centred (digits) or standardised (the others).

    Raises:
        UnusableError: if the data do not exist or cannot be used.

    >>> print(load_problem("synthetic"))
    synthetic: 200 samples, 12 features of rank 12, 4 targets
    """
    if data not in BUILT_IN:
        return _csv(data, targets)
    if targets:
        raise UnusableError(
            "targets",
            f"expected none with {data} but got {','.join(targets)}; only a CSV file has targets",
        )
    if data == "digits":
        features, one_hot = _digits()
        return _problem(data, features, one_hot, scaled=False)
    if data == "ethanol":
        return _problem(data, *load_ethanol(data_dir))
    return _problem(data, *_synthetic(seed))


def _problem(
    name: str,
    features: Tensor,
    targets: Tensor,
    names: Sequence[str] = (),
    *,
    scaled: bool = True,
) -> Problem:
    if len(features) < 2:
        raise UnusableError("data", f"expected at least 2 samples but got {len(features)}")
    inputs = whiten(features)
    return Problem(
        name=name,
        inputs=inputs,
        targets=standardise(targets) if scaled else targets - targets.mean(0),
        features=features.shape[1],
        notes=_notes(features, inputs, names),
    )


def _notes(features: Tensor, inputs: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """Say which features (samples, n) are not among the whitened ``inputs``, and why."""
    constant, lost = left_out(features, inputs)
    dependent = features.shape[1] - len(constant) - len(lost) - inputs.shape[1]

    def these(columns: Sequence[int]) -> str:
        shown = [repr(names[k]) if names else f"column {k + 1}" for k in columns[:_MOST_NAMES]]
        more = len(columns) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")

    notes = []
    if constant:
        notes.append(f"left out, since they are constant: {these(constant)}")
    if lost:
        notes.append(
            f"left out, since they vary too little beside the others: {these(lost)}; choose units "
            "in which they are comparable"
        )
    if dependent > 0:
        notes.append(
            f"features that depend linearly on others, and add no direction to them: {dependent}"
        )
    return tuple(notes)


def _digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    data, labels = load_digits(return_X_y=True)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels), 10)
    return torch.from_numpy(data), one_hot.double()


def _synthetic(seed: int) -> tuple[Tensor, Tensor]:
    """Draw features (200, 12) and linear targets (200, 4) with a tenth of noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    features, truth = normal(200, 12), normal(12, 4) / 12**0.5
    return features, features @ truth + 0.1 * normal(200, 4)


def load_ethanol(data_dir: str | None) -> tuple[Tensor, Tensor]:
    """Load the raw features (samples, n) and concentrations in ppm (samples, 1), float64."""
    path = find_file(data_dir, "ethanol/ethanol.npz", source="UCI data set 270, gas 1")
    try:
        # numpy leaves a file that it opened itself open if that is not an archive
        with path.open("rb") as file, np.load(file) as archive:
            features, ppm = archive["X"], archive["y_ppm"]
    except (OSError, EOFError, BadZipFile, KeyError, ValueError) as error:
        raise UnusableError(
            "data_dir",
            f"expected an npz archive of X (samples, n) and y_ppm (samples,) but got {path}: "
            f"{error}",
        ) from error
    shapes = features.ndim == 2 and ppm.shape == features.shape[:1]
    numbers = all(np.issubdtype(array.dtype, np.floating) for array in (features, ppm))
    if not (shapes and numbers and np.isfinite(features).all() and np.isfinite(ppm).all()):
        raise UnusableError(
            "data_dir",
            f"expected finite numbers X (samples, n) and y_ppm (samples,) in {path} but got other "
            f"ones, of shapes {features.shape} and {ppm.shape}",
        )
    return torch.from_numpy(features), torch.from_numpy(ppm)[:, None]


def _csv(data: str, targets: Sequence[str]) -> Problem:
    path = Path(data)
    if not path.exists():
        raise UnusableError(
            "data",
            f"expected {', '.join(BUILT_IN)} or the path of a CSV file but got {data!r}, which "
            "does not exist",
        )
    table = read_table(path, targets)
    return _problem(data, table.features, table.targets, table.names)
