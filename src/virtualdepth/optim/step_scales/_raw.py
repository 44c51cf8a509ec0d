"""``step_scale="raw"``: the theorem's own step."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from virtualdepth.maths import Preconditioned
from virtualdepth.optim._matrices import GroupStep
from virtualdepth.optim.solvers import Knows
from virtualdepth.optim.step_scales._protocol import StepScale


class RawScale(StepScale):
    """P_W(G) itself. It also goes with solvers that move the parameter themselves."""

    needs: ClassVar[Knows] = Knows.NOTHING
    sharded: ClassVar[bool] = True

    def multiplier(
        self, preconditioned: Preconditioned, group: Mapping[str, Any], lr: Any
    ) -> Tensor | None:
        """Leave P_W(G) as it is."""
        return None

    def multipliers(self, step: GroupStep, lr: Any) -> Sequence[Tensor | None]:
        """Leave every P_W(G) as it is."""
        return [None] * len(step.matrices)
