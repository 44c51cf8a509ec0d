"""From observed entries and options to a completed matrix: units, early stopping, the last fit."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor
from tqdm import tqdm

from virtualdepth.estimators._descent import Descent, Problem, fit_observed
from virtualdepth.estimators._hold_out import Observations, hold_out
from virtualdepth.estimators._options import Options
from virtualdepth.maths import gaussian_start


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a fit learnt, in the units of X.

    Attributes:
        weight: W, (m, n), without its centre.
        centre: (n,).
        rows: how many rows have an observed entry.
        noise_variance: mean squared error of an entry.
        evaluations: number of gradients evaluated.
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
    """Fit W to the observed entries, the last time from a previous completion if there is one."""
    values, mask = observed
    centre = _means_of_columns(observed) if options.centre else torch.zeros_like(values[0])
    scaled, unit = _scaled(observed, centre)
    # drawn in this order, so that the entries held out are the same for every other option
    fitted, held = hold_out(mask, options.validation_fraction, generator)
    # where no entry of its row or column is fitted, an entry would judge the centre, not W
    held &= fitted.any(1, keepdim=True) & fitted.any(0)
    # in float64, so that float32 begins at the same place
    start = gaussian_start(values.double(), options.init_scale, generator).to(values.dtype)
    if unit == 0:
        start = torch.zeros_like(values)  # fits exactly
    search, tol = None, options.tol
    if held.any():
        search = _descend("early stopping", Problem(scaled, fitted, held, start), options, tol)
        tol = max(tol, search.loss)
    # only here, for it has seen the entries held out; from zeros nothing would grow
    if previous is not None and unit > 0 and (previous != centre).any():
        start = (previous.to(values.dtype) - centre) / unit
    final = _descend("fit", Problem(scaled, mask, None, start), options, tol)
    _warn_if_unfinished(search, final, options, tol)
    error = final.loss if search is None else search.held_loss
    return Training(
        weight=final.weight * unit,
        centre=centre,
        rows=int(mask.any(1).sum()),
        noise_variance=error * unit**2,
        evaluations=len(final.losses) + (0 if search is None else len(search.losses)),
        history=_history(final, search, unit**2),
    )


def _means_of_columns(observed: Observations) -> Tensor:
    values, mask = observed
    return (values.double().sum(0) / mask.sum(0)).to(values.dtype)


def _scaled(observed: Observations, centre: Tensor) -> tuple[Tensor, float]:
    """Return X less its centre over its root mean square, and that unit; 0 if nothing is left."""
    values, mask = observed
    centred = torch.where(mask, values - centre, 0.0)
    unit = _root_mean_square(centred[mask])
    if not unit * unit < math.inf:
        raise ValueError(
            "X: expected entries whose mean square is a finite number but got a root mean square "
            f"of {unit:.1e}; rescale X"
        )
    # of columns of one value each only the rounding of their means is left
    if unit <= 8 * torch.finfo(values.dtype).eps * _root_mean_square(values[mask]):
        return torch.zeros_like(centred), 0.0
    return centred / unit, unit


def _root_mean_square(entries: Tensor) -> float:
    largest = float(entries.abs().max())
    if largest == 0:
        return 0.0
    # squares of very large or small numbers would leave the range of the dtype
    return largest * float((entries / largest).double().square().mean().sqrt())


def _descend(what: str, problem: Problem, options: Options, tol: float) -> Descent:
    most = options.max_iter
    with tqdm(desc=what, total=most, unit="gradient", disable=not options.verbose) as bar:
        return fit_observed(problem, depth=options.depth, tol=tol, max_iter=most, bar=bar)


def _warn_if_unfinished(
    search: Descent | None, final: Descent, options: Options, tol: float
) -> None:
    if search is not None and not search.finished:
        what = (
            f"early stopping has not ended: held-out error {search.held_losses[-1]:.1e}, loss "
            f"{search.losses[-1]:.1e} of the observed entries' mean square; it ends when the first "
            f"is past its best, or the second at most {options.tol:.1e}"
        )
    elif not final.finished:
        what = (
            f"the fit has not ended: loss {final.loss:.1e} of the observed entries' mean square; "
            f"it ends when this is at most {tol:.1e}"
        )
    else:
        return
    warnings.warn(
        f"after max_iter={options.max_iter} gradients {what}; raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=5,
    )


def _history(final: Descent, search: Descent | None, square: float) -> dict[str, NDArray[Any]]:
    history = {"loss": final.losses}
    if search is not None:
        history |= {"search_loss": search.losses, "validation_loss": search.held_losses}
    return {name: np.asarray(losses) * square for name, losses in history.items()}
