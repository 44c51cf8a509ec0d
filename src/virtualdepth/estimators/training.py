"""From observed entries and options to a completed matrix: scale, early stopping, the last fit."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from tqdm import tqdm

from virtualdepth.estimators.descent import Descent, fit_observed
from virtualdepth.estimators.observations import Observations, hold_out
from virtualdepth.maths import gaussian_start


@dataclass(frozen=True, kw_only=True)
class Options:
    """Those of MatrixCompletion, checked, as plain numbers."""

    depth: float
    init_scale: float
    max_iter: int
    tol: float
    validation_fraction: float
    centre: bool
    verbose: bool


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a fit learnt, in the units of X.

    Attributes:
        weight: W, (m, n), without its centre.
        centre: (n,).
        rows: how many rows have an observed entry.
        noise_variance: mean squared error of an entry.
        evaluations: of the gradient.
        history: mean squared errors by name.
    """

    weight: Tensor
    centre: Tensor
    rows: int
    noise_variance: float
    evaluations: int
    history: dict[str, NDArray[Any]]


def train(
    observed: Observations, options: Options, previous: Tensor | None, generator: torch.Generator
) -> Training:
    """Fit W to the observed entries, in units in which their mean square is 1.

    Args:
        observed: what to fit; at least one entry, and one in every column.
        options: how.
        previous: a completed matrix to begin from, or None.
        generator: of the start and of the entries held out.

    Returns:
        What was learnt.
    """
    values, mask = observed
    centre = values.sum(0) / mask.sum(0) if options.centre else torch.zeros_like(values[0])
    centred = torch.where(mask, values - centre, 0.0)
    unit = _root_mean_square(centred[mask])
    scaled = centred / (unit or 1.0)
    # drawn in this order, so that the entries held out are the same for every other option
    fitted, held = hold_out(mask, options.validation_fraction, generator)
    # one that nothing fitted says anything about would be judged on the centre
    held &= fitted.any(1, keepdim=True) & fitted.any(0)
    # in float64, so that float32 begins at the same place
    start = gaussian_start(values.double(), options.init_scale, generator).to(values.dtype)
    if previous is not None:
        start = (previous.to(values.dtype) - centre) / (unit or 1.0)
    if unit == 0:
        start = torch.zeros_like(values)  # fits exactly
    search, tol = None, options.tol
    if held.any():
        search = _descend("early stopping", scaled, fitted, held, start, options, tol)
        tol = max(tol, search.loss)
    final = _descend("fit", scaled, mask, None, start, options, tol)
    if not final.finished:
        warnings.warn(
            f"loss {final.loss:.1e} of the observed entries' mean square after max_iter="
            f"{options.max_iter} gradients, not yet {tol:.1e}: raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=4,
        )
    error = final.loss if search is None else search.held_loss
    return Training(
        weight=final.weight * unit,
        centre=centre,
        rows=int(mask.any(1).sum()),
        noise_variance=error * unit**2,
        evaluations=len(final.losses) + (0 if search is None else len(search.losses)),
        history=_history(final, search, unit**2),
    )


def _descend(
    what: str,
    scaled: Tensor,
    fitted: Tensor,
    held: Tensor | None,
    start: Tensor,
    options: Options,
    tol: float,
) -> Descent:
    most = options.max_iter
    with tqdm(desc=what, total=most, unit="gradient", disable=not options.verbose) as bar:
        return fit_observed(
            scaled, fitted, held, start, depth=options.depth, tol=tol, max_iter=most, bar=bar
        )


def _root_mean_square(entries: Tensor) -> float:
    largest = float(entries.abs().max())
    if largest == 0:
        return 0.0
    # squares of very large or small numbers would leave the range of the dtype
    return largest * float((entries / largest).double().square().mean().sqrt())


def _history(final: Descent, search: Descent | None, square: float) -> dict[str, NDArray[Any]]:
    history = {"loss": final.losses}
    if search is not None:
        history |= {"search_loss": search.losses, "validation_loss": search.held_losses}
    return {name: np.asarray(losses) * square for name, losses in history.items()}
