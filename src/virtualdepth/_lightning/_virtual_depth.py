"""A callback that gives depth to a module's optimizers without touching its code."""

from typing import TYPE_CHECKING

from virtualdepth.maths import check_depth
from virtualdepth.optim import MultiplierName, OnName, Patterns, StatelessSolverName, with_depth

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    Callback = LightningModule = Trainer = object


class VirtualDepthMixin(Callback):
    """Give depth to every optimizer that the module configures, when ``fit`` starts.

    :func:`virtualdepth.with_depth` changes the optimizers in place. The types of the module's
    layers decide what is a matrix. An optimizer that already has depth is refused.

    Lightning restores checkpoints after that. So a checkpoint of a run without depth continues with
    depth, and a checkpoint of a run with depth continues bitwise.

    Args:
        depth: number of layers N, real, 1 <= N <= inf.
        include: what gets depth, by names within the LightningModule; see
            :func:`virtualdepth.param_groups`.
        exclude: what does not get depth; see :func:`virtualdepth.param_groups`.
        on: "gradient" or "update", see :func:`virtualdepth.with_depth`.
        step_scale: "raw", "unit" or "rms", see :class:`virtualdepth.EndToEndSGD`.
        cap: see :class:`virtualdepth.EndToEndSGD`.
        solver: see :class:`virtualdepth.EndToEndSGD`.
        rtol: see :class:`virtualdepth.EndToEndSGD`.

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
        on: OnName = "gradient",
        *,
        step_scale: MultiplierName = "raw",
        cap: float = 0.05,
        solver: StatelessSolverName = "auto",
        rtol: float | None = None,
    ) -> None:
        super().__init__()
        self.depth = check_depth(depth)
        self.include = include
        self.exclude = exclude
        self.on = on
        self.step_scale = step_scale
        self.cap = cap
        self.solver = solver
        self.rtol = rtol

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Give depth to the optimizers."""
        for optimizer in trainer.optimizers:
            with_depth(
                optimizer,
                self.depth,
                on=self.on,
                model=pl_module,
                include=self.include,
                exclude=self.exclude,
                step_scale=self.step_scale,
                cap=self.cap,
                solver=self.solver,
                rtol=self.rtol,
            )
