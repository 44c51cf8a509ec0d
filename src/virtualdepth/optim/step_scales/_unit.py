"""``step_scale="unit"``: 1 over the largest eigenvalue of P_W, capped."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from virtualdepth.maths import Preconditioned, unit_scale
from virtualdepth.optim.step_scales._protocol import StepScale


class UnitScale(StepScale):
    """See :func:`virtualdepth.maths.unit_scale`."""

    sharded: ClassVar[bool] = True
    needs_lr: ClassVar[bool] = True

    def multiplier(
        self, preconditioned: Preconditioned, group: Mapping[str, Any], lr: Any
    ) -> Tensor | None:
        """Compute one number for each matrix, (..., 1, 1)."""
        scale = unit_scale(preconditioned, float(group["depth"]), lr, group["cap"])
        return scale[..., None, None]
