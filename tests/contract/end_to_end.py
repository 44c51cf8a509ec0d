"""What is the same of EndToEndSGD with every solver, step scale and start."""

from typing import Any, ClassVar

import torch
from tests.contract.optimizer import OptimizerContract
from torch.optim import Optimizer

import virtualdepth as vd


class EndToEndContract(OptimizerContract):
    """A subclass names the options that it is about; they are those of every optimizer made."""

    options: ClassVar[dict[str, Any]]
    torch_class: ClassVar[type[Optimizer]] = torch.optim.SGD
    as_torch: ClassVar[dict[str, Any]] = {"depth": 1}
    torch_variants: ClassVar[dict[str, dict[str, Any]]] = {
        "momentum": {"lr": 0.05, "momentum": 0.9, "dampening": 0.3},
    }
    own_option: ClassVar[tuple[str, Any]] = ("depth", 3)
    bad_option: ClassVar[tuple[str, Any]] = ("depth", 0.5)

    def make(self, params: Any, **options: Any) -> Optimizer:
        return vd.EndToEndSGD(params, **{**self.options, **options})
