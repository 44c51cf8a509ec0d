"""``step_scale="unit"``: 1 over the largest eigenvalue of P_W, capped."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from virtualdepth.maths import Preconditioned, unit_scale, unit_step
from virtualdepth.optim.step_scales._protocol import StepScale


class UnitScale(StepScale):
    """See :func:`virtualdepth.maths.unit_scale`."""

    sharded: ClassVar[bool] = True
    needs_lr: ClassVar[bool] = True

    def multiplier(
        self, preconditioned: Preconditioned, group: Mapping[str, Any], lr: Any
    ) -> Tensor | None:
        """Compute one number for each matrix, (..., 1, 1)."""
        scale = unit_scale(
            preconditioned, float(group["depth"]), lr, group["cap"], group["imbalance"]
        )
        return scale[..., None, None]

    def out_of_units(
        self,
        preconditioned: Preconditioned,
        multiplier: Tensor | None,
        group: Mapping[str, Any],
        lr: Any,
    ) -> Tensor:
        """Multiply a P_W(G): the product may be in range where the two are not."""
        return unit_step(
            preconditioned, float(group["depth"]), lr, group["cap"], group["imbalance"]
        )
