"""What a cell of a built-in problem can vary: depth, start, optimizer and the rest."""

from dataclasses import dataclass
from typing import get_args

from virtualdepth.optim import StepScaleName
from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.checks import (
    check_choice,
    check_count,
    check_not_negative,
    check_positive,
    is_number,
)

CHOICES = {
    "model": ("single", "explicit"),
    "start": ("balanced", "layers", "identity"),
    "optimizer": ("sgd", "adam", "adamw", "rmsprop", "adagrad"),
    "step_scale": get_args(StepScaleName),
    "dtype": ("float64", "float32"),
}


@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """How one matrix, or the explicit network it stands for, is started and trained.

    An impossible value, or two that do not go together, raise UnusableError.
    """

    seed: int
    depth: float = 2  # N, real, 1 <= N <= inf; an integer for start "layers" and model "explicit"
    model: str = "single"  # one matrix by the rule of depth N; "explicit": N factors, by backprop
    width: int | None = None  # of an explicit network's hidden layers; None: min(m, n)
    init_scale: float = 1e-3  # root mean square of W(0) x for inputs x of unit variance
    start: str = "balanced"  # Gaussian W(0), the same at every depth; "layers": N Gaussian layers
    optimizer: str = "sgd"  # the others by with_depth, or on the factors of an explicit network
    lr: float | None = None  # none with step_scale "auto"
    step_scale: StepScaleName = "auto"  # of EndToEndSGD; "auto" at depth 1: gradient descent by 1/L
    cap: float = 0.05
    dtype: str = "float64"
    stop_loss: float = 1e-6  # train until the loss is no larger

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if not is_number(self.depth) or not self.depth >= 1:
            raise UnusableError("depth", f"expected a number from 1 to inf but got {self.depth!r}")
        for name in ("init_scale", "cap"):
            check_positive(name, getattr(self, name))
        check_not_negative("stop_loss", self.stop_loss)
        self._check_layers()
        self._check_step()

    def _check_layers(self) -> None:
        if self.model == "explicit" or self.start == "layers":
            layered = "model: explicit" if self.model == "explicit" else "start: layers"
            if self.depth % 1 != 0:  # inf % 1 is NaN
                raise UnusableError(
                    "depth", f"expected an integer with {layered} but got {self.depth!r}"
                )
        if self.width is not None:
            check_count("width", self.width)
            if self.model == "single":
                raise UnusableError(
                    "width", f"expected only with model: explicit but got {self.width!r}"
                )

    def _check_step(self) -> None:
        if self.step_scale != "auto":
            check_positive("lr", self.lr)
        elif self.optimizer != "sgd" or self.model != "single":
            raise UnusableError(
                "step_scale",
                "expected raw, unit or rms but got auto, which needs optimizer: sgd and "
                "model: single",
            )
        elif self.lr is not None:
            raise UnusableError(
                "lr", f"expected none with step_scale: auto, which needs none, but got {self.lr}"
            )
        if self.model == "explicit" and self.step_scale != "raw":
            raise UnusableError(
                "step_scale",
                f"expected raw with model: explicit but got {self.step_scale}, a rule for one "
                "matrix",
            )
