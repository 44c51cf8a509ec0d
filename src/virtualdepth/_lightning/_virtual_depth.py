"""A callback that gives depth to a module's optimizers without touching its code."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from virtualdepth._lightning._repr import call_of
from virtualdepth.maths import StructureName, check_depth
from virtualdepth.optim import (
    DEPTH_OPTIONS,
    DepthChoice,
    MultiplierName,
    OnName,
    Patterns,
    StatelessSolverName,
    give_depth,
    keeps_depth,
)

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = LightningModule = Trainer = object


class VirtualDepthMixin(Callback):
    """Give depth to every optimizer that the module configures, when ``fit`` starts.

    :func:`virtualdepth.with_depth` changes the optimizers in place. The types of the module's
    layers decide what is a matrix. An optimizer that already has depth is refused, unless a
    module keeps it from an earlier fit with the same arguments. Learning-rate finders and other
    tuners find the depth in place: the callback goes first among those of the trainer.

    Lightning restores checkpoints after that. So a checkpoint of a run without depth continues with
    depth, and a checkpoint of a run with depth continues bitwise.

    Args:
        depth: number of layers N, real, 1 <= N <= inf.
        include: what gets depth, by names within the LightningModule; see
            :func:`virtualdepth.param_groups`.
        exclude: what does not get depth; see :func:`virtualdepth.param_groups`.
        on: "update" or "gradient", see :func:`virtualdepth.with_depth`.
        step_scale: "unit", "raw" or "rms", see :func:`virtualdepth.with_depth`.
        cap: see :class:`virtualdepth.EndToEndSGD`.
        solver: see :class:`virtualdepth.EndToEndSGD`.
        rtol: see :class:`virtualdepth.EndToEndSGD`.
        structure: see :class:`virtualdepth.EndToEndSGD`.
        imbalance: see :class:`virtualdepth.EndToEndSGD`.
        precondition_frequency: see :class:`virtualdepth.EndToEndSGD`.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is out of range.

    :meth:`fit` of a trainer raises the errors of :func:`virtualdepth.with_depth`.

    >>> from virtualdepth.lightning import VirtualDepth
    >>> callback = VirtualDepth(depth=3, include="head*", on="update")
    >>> callback.depth, callback.include
    (3.0, 'head*')
    """

    def __init__(
        self,
        depth: float,
        include: Patterns = None,
        exclude: Patterns = None,
        on: OnName = "update",
        *,
        step_scale: MultiplierName = "unit",
        cap: float = 0.05,
        solver: StatelessSolverName = "auto",
        rtol: float | None = None,
        structure: StructureName = "matrix",
        imbalance: float = 0.0,
        precondition_frequency: int = 1,
    ) -> None:
        super().__init__()
        self.depth = check_depth(depth)
        # each optimizer of each fit asks for the patterns, which an iterator gives once
        self.include = list(include) if isinstance(include, Iterator) else include
        self.exclude = list(exclude) if isinstance(exclude, Iterator) else exclude
        self.on = on
        self.step_scale = step_scale
        self.cap = cap
        self.solver = solver
        self.rtol = rtol
        self.structure = structure
        self.imbalance = imbalance
        self.precondition_frequency = precondition_frequency

    def __repr__(self) -> str:
        return call_of(self)

    @property
    def _options(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in DEPTH_OPTIONS}

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Go first, so that tuners search with depth: they search when ``fit`` starts too."""
        if stage == "fit":
            callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
            others = [each for each in callbacks if each is not self]
            trainer.callbacks = [self, *others]  # type: ignore[attr-defined]

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Give depth to the optimizers, or to none of them."""
        choice: DepthChoice = {
            "on": self.on,
            "model": pl_module,
            "include": self.include,
            "exclude": self.exclude,
        }
        # a module that keeps its optimizers brings them from an earlier fit
        new = [
            optimizer
            for optimizer in trainer.optimizers
            if not keeps_depth(optimizer, self._options, **choice)
        ]
        give_depth(new, self._options, **choice)
