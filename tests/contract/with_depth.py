"""The suite over an optimizer that was given depth."""

from typing import Any, ClassVar

from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd

OURS = ("depth", "step_scale", "cap", "solver", "rtol")


class WithDepthContract(OptimizerContract):
    """A subclass names the optimizer's class, and whether depth is on gradients or updates."""

    on: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    own_option: ClassVar[tuple[str, Any]] = ("depth", 2.5)
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)
    refused_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)  # torch takes any other name

    def make(self, params: Any, **options: Any) -> Optimizer:
        ours = {key: options.pop(key) for key in OURS if key in options}
        optimizer = self.torch_class(params, **{**self.options, **options})
        return vd.with_depth(optimizer, **{"depth": 3, **ours}, on=self.on)
