"""A callback that gives depth to a module's optimizers without touching its code."""

from typing import TYPE_CHECKING

from virtualdepth.maths import check_depth
from virtualdepth.optim import with_depth

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer

    from virtualdepth.optim._param_groups import Patterns
else:
    Callback = LightningModule = Trainer = object


class VirtualDepthMixin(Callback):
    """Give depth to every optimizer that the module configures, when ``fit`` starts.

    Optimizers and schedulers exist by then, and their states are restored after it: so a checkpoint
    of a run without depth continues with depth, and one with depth to the last bit. The optimizers
    are changed in place by :func:`virtualdepth.with_depth`, with the module's own layers to say
    what is a matrix; one that has depth already is refused.

    Args:
        depth: number of layers N, real, 1 <= N <= inf.
        include: what gets depth, by names within the LightningModule; see
            :func:`virtualdepth.param_groups`.
        exclude: what does not.
        on: "gradient" or "update", see :func:`virtualdepth.with_depth`.
        step_scale: "raw", "unit" or "rms", see :class:`virtualdepth.EndToEndSGD`.
        cap: as there.
        solver: as there.
        rtol: as there.

    Raises:
        TypeError: if ``depth`` is not a real number.
        ValueError: if ``depth`` is out of range.

    :meth:`fit` raises what :func:`virtualdepth.with_depth` does.
    """

    def __init__(
        self,
        depth: float,
        include: "Patterns" = None,
        exclude: "Patterns" = None,
        on: str = "gradient",
        *,
        step_scale: str = "raw",
        cap: float = 0.05,
        solver: str = "auto",
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
        """Change the optimizers.

        Args:
            trainer: has them.
            pl_module: whose parameters they train.
        """
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
