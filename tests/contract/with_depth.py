"""The suite over an optimizer that was given depth."""

from typing import Any, ClassVar

import torch
from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd
from virtualdepth.optim import DEPTH_OPTIONS


class WithDepthContract(OptimizerContract):
    """A subclass names the optimizer's class, and whether depth is on gradients or updates."""

    on: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    own_option: ClassVar[tuple[str, Any]] = ("depth", 2.5)
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)
    # torch's own take other names and values in groups as they come
    refused_options: ClassVar[list[tuple[str, Any]]] = [("step_scale", "none"), ("cap", 0)]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16, torch.float64)

    def make(self, params: Any, **options: Any) -> Optimizer:
        ours = {key: options.pop(key) for key in DEPTH_OPTIONS if key in options}
        optimizer = self.torch_class(params, **{**self.options, **options})
        return vd.with_depth(optimizer, **{"depth": 3, "step_scale": "raw", **ours}, on=self.on)


class WithoutSchedules(WithDepthContract):
    """Schedulers see the groups alone: one class of each kind with them is enough."""

    test_what_it_schedules_is_what_steps: ClassVar[None] = None
    test_a_schedule_resumes_to_the_last_bit: ClassVar[None] = None
