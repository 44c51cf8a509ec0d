"""What a cell of a built-in problem can vary: depth, start, optimizer and the rest."""

import math
from dataclasses import dataclass

from virtualdepth.runs import UnusableError

MODELS = ("single", "explicit")
STARTS = ("balanced", "layers", "identity")
OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
STEP_SCALES = ("auto", "raw", "unit", "rms")
DTYPES = ("float64", "float32")


@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """How one matrix, or the explicit network it stands for, is started and trained.

    Attributes:
        seed: of everything random.
        depth: number of layers N, real, 1 <= N <= inf; an integer for "layers" and "explicit".
        model: "single": one matrix with the rule of depth N; "explicit": N factors, trained by
            backpropagation, to compare with.
        width: of the hidden layers of an explicit network; default min(m, n).
        init_scale: of the start W(0): W(0) x has root mean square ``init_scale`` for inputs of
            unit variance.
        start: "balanced": W(0) Gaussian, the same at every depth, split into balanced factors for
            an explicit network; "layers": a product of N Gaussian layers; "identity":
            ``init_scale`` on the diagonal.
        optimizer: "sgd", or with :func:`virtualdepth.with_depth` "adam", "adamw", "rmsprop",
            "adagrad"; an explicit network has it on its factors.
        lr: learning rate; none with ``step_scale="auto"``.
        step_scale: see :class:`virtualdepth.EndToEndSGD`. "auto" at depth 1, where the rule is
            gradient descent, takes the step 1 / L of the quadratic loss.
        cap: as there.
        dtype: "float64" or "float32".
        stop_loss: train until the loss is no larger.

    Raises:
        UnusableError: if a value is impossible, or two do not go together.
    """

    seed: int
    depth: float = 2
    model: str = "single"
    width: int | None = None
    init_scale: float = 1e-3
    start: str = "balanced"
    optimizer: str = "sgd"
    lr: float | None = None
    step_scale: str = "auto"
    cap: float = 0.05
    dtype: str = "float64"
    stop_loss: float = 1e-6

    def __post_init__(self) -> None:
        for name, choices in (
            ("model", MODELS),
            ("start", STARTS),
            ("optimizer", OPTIMIZERS),
            ("step_scale", STEP_SCALES),
            ("dtype", DTYPES),
        ):
            if getattr(self, name) not in choices:
                raise UnusableError(
                    name, f"expected one of {', '.join(choices)} but got {getattr(self, name)!r}"
                )
        if not _is_number(self.depth) or not self.depth >= 1:
            raise UnusableError("depth", f"expected a number from 1 to inf but got {self.depth!r}")
        for name in ("init_scale", "cap"):
            positive(name, getattr(self, name))
        if not _is_number(self.stop_loss) or not 0 <= self.stop_loss < math.inf:
            raise UnusableError("stop_loss", f"expected a number >= 0 but got {self.stop_loss!r}")
        self._check_combination()

    def _check_combination(self) -> None:
        if self.model == "explicit" or self.start == "layers":
            layered = "model: explicit" if self.model == "explicit" else "start: layers"
            if self.depth % 1 != 0:  # inf % 1 is NaN
                raise UnusableError(
                    "depth", f"expected an integer with {layered} but got {self.depth!r}"
                )
        if self.width is not None:
            count("width", self.width)
            if self.model == "single":
                raise UnusableError(
                    "width", f"expected with model: explicit only but got {self.width!r}"
                )
        if self.step_scale == "auto":
            if self.optimizer != "sgd" or self.model != "single":
                raise UnusableError(
                    "step_scale",
                    "expected raw, unit or rms but got auto, which is a rule of its own for "
                    "optimizer: sgd and model: single",
                )
            if self.lr is not None:
                raise UnusableError(
                    "lr",
                    f"expected none with step_scale: auto, which needs none, but got {self.lr}",
                )
        else:
            positive("lr", self.lr)
        if self.model == "explicit" and self.step_scale != "raw":
            raise UnusableError(
                "step_scale",
                f"expected raw with model: explicit but got {self.step_scale}, a rule for one "
                "matrix",
            )


def positive(name: str, given: object) -> None:
    """Refuse what is not a finite number > 0.

    Args:
        name: of the option.
        given: its value.

    Raises:
        UnusableError: if it is something else.
    """
    if not _is_number(given) or not 0 < given < math.inf:  # type: ignore[operator]
        raise UnusableError(name, f"expected a finite number > 0 but got {given!r}")


def count(name: str, given: object, most: float = math.inf) -> None:
    """Refuse what is not a positive integer.

    Args:
        name: of the option.
        given: its value.
        most: the largest allowed.

    Raises:
        UnusableError: if it is something else.
    """
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= most:
        limit = "" if most == math.inf else f" and <= {most}"
        raise UnusableError(name, f"expected an integer >= 1{limit} but got {given!r}")


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
