"""What a class has to tell of itself to inherit the suite."""

from typing import Any, ClassVar

import pytest
import torch
from torch.optim import Optimizer


class Contract:
    """The subject of the suite: how to make it, and what may be taken for granted about it."""

    # options to run the tests of a "variant" with, by name
    variants: ClassVar[dict[str, dict[str, Any]]]
    # the torch class that it becomes with `as_torch`, and options both take
    torch_class: ClassVar[type[Optimizer]]
    as_torch: ClassVar[dict[str, Any]]
    torch_variants: ClassVar[dict[str, dict[str, Any]]]
    # an option of its own, with a value that is not the default
    own_option: ClassVar[tuple[str, Any]]
    # an option with a value that has to be refused
    bad_option: ClassVar[tuple[str, Any]]
    # options with values that no added group may have
    refused_options: ClassVar[list[tuple[str, Any]]] = [("weigth_decay", 1), ("lr", -1.0)]
    lr: ClassVar[float] = 0.05
    weight_decay: ClassVar[float] = 0.1
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    )

    def make(self, params: Any, **options: Any) -> Optimizer:
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name, values in (
            ("variant", self.variants),
            ("torch_variant", self.torch_variants),
            ("dtype", {str(dtype): dtype for dtype in self.dtypes}),
        ):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, list(values.values()), ids=list(values))
