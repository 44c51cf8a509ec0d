"""``step_scale="rms"``: one over the root of a running mean of <G, P_W(G)>.

Source: the published step rule of arXiv 1905.13655.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from virtualdepth.maths import squared_preconditioned_norm
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import GroupStep
from virtualdepth.optim.step_scales._protocol import StepScale

# the rule's averaging and its floor
_DECAY = 0.99
_FLOOR = 1e-4


class RmsScale(StepScale):
    """One multiplier for all matrices of a group."""

    memory: ClassVar[Mapping[str, Any]] = {"rms_mean": 0.0, "rms_steps": 0}
    maskable: ClassVar[bool] = False
    gradients_only: ClassVar[bool] = True

    def compute(self, step: GroupStep, finite: FiniteCheck, **options: Any) -> None:
        """Refuse a mean that is not finite: all later steps would be zero."""
        super().compute(step, finite, **options)
        for _, values in step.writes:
            mean = values["rms_mean"]
            finite.check(f"group {step.number}", "mean of <G, P_W(G)>", mean)
            # a number, as at the start: a distributed checkpoint is loaded into what is there
            values["rms_mean"] = float(mean)

    def multipliers(self, step: GroupStep, lr: Any) -> Sequence[Tensor | None]:
        """Compute 1 / (sqrt(mean of the sum of <G, P_W(G)>) + 1e-4)."""
        group = step.group
        if not step.matrices:
            return []
        squares = [
            squared_preconditioned_norm(m.view.split(m.grad), m.preconditioned)
            for m in step.matrices
        ]
        square = torch.stack([each.to(squares[0]) for each in squares]).sum()
        steps = group.get("rms_steps", 0) + 1
        before = torch.as_tensor(
            group.get("rms_mean", 0.0), dtype=square.dtype, device=square.device
        )
        mean = torch.lerp(square, before, _DECAY)
        multiplier = 1 / ((mean / (1 - _DECAY**steps)).sqrt() + _FLOOR)
        # a step of rate 0, as checkpoints take to make state, must change nothing
        if lr != 0:
            step.writes.append((group, {"rms_mean": mean, "rms_steps": steps}))
        return [multiplier.to(m.preconditioned.scaled_direction) for m in step.matrices]
