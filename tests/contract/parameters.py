"""Parameters of every shape, memory layout and precision."""

from typing import Any

import pytest
import torch
from tests.contract.base import Contract
from tests.contract.tools import assert_bitwise, everything, random_tensor, through_a_file
from torch import Tensor, nn

SHAPES = [(), (1,), (4,), (3, 4), (4, 3), (1, 4), (4, 1), (1, 1), (2, 3, 4), (2, 3, 2, 2)]
SHAPES += [(2, 1, 2, 1, 3), (0,), (0, 3), (3, 0), (2, 0, 2)]

LAYOUTS = {
    "transposed": lambda: random_tensor((4, 3), 1).mT,
    "transposed, wide": lambda: random_tensor((3, 4), 1).mT,
    "every second column": lambda: random_tensor((3, 8), 1)[:, ::2],
    "part of a larger one": lambda: random_tensor((5, 6), 1)[1:4, 2:],
    "permuted kernel": lambda: random_tensor((2, 3, 2, 4), 1).permute(3, 0, 2, 1),
    "channels last": lambda: random_tensor((4, 3, 2, 2), 1).to(memory_format=torch.channels_last),
    "every second entry": lambda: random_tensor((8,), 1)[::2],
}


def step_along(params: list[Tensor], optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    """Steps along gradients that depend on the number of the step and of the parameter."""
    for step in range(steps):
        for number, p in enumerate(params):
            grad = random_tensor(tuple(p.shape), 100 * step + number, p.dtype)
            p.grad = torch.zeros_like(p).copy_(grad)  # in the parameter's memory format
        optimizer.step()


class ParameterContract(Contract):
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_every_shape_in_every_precision(
        self, shape: tuple[int, ...], dtype: torch.dtype, variant: Any
    ) -> None:
        p = nn.Parameter(random_tensor(shape, 1, dtype))
        place = p.data_ptr()
        optimizer = self.make([p], **variant)
        step_along([p], optimizer)
        assert (p.shape, p.dtype, p.data_ptr()) == (shape, dtype, place)
        assert torch.isfinite(p).all()
        assert p.numel() == 0 or not torch.equal(p, random_tensor(shape, 1, dtype))
        for value in optimizer.state[p].values():
            if isinstance(value, Tensor) and value.numel() > 1:
                assert (value.shape, value.dtype) == (shape, dtype)

    def test_a_checkpoint_of_all_shapes_goes_on_to_the_last_bit(
        self, dtype: torch.dtype, variant: Any
    ) -> None:
        params, twins = (
            [nn.Parameter(random_tensor(shape, 1, dtype)) for shape in SHAPES] for _ in range(2)
        )
        optimizer, resumed = self.make(params, **variant), self.make(twins)
        step_along(params, optimizer)
        with torch.no_grad():
            for p, twin in zip(params, twins, strict=True):
                twin.copy_(p)
        resumed.load_state_dict(through_a_file(optimizer.state_dict()))
        step_along(params, optimizer)
        step_along(twins, resumed)
        assert_bitwise(everything(twins, resumed), everything(params, optimizer))

    @pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
    def test_the_layout_in_memory_does_not_matter_and_stays(
        self, layout: Any, variant: Any
    ) -> None:
        p = nn.Parameter(layout())
        strides, place = p.stride(), p.data_ptr()
        q = nn.Parameter(layout().clone(memory_format=torch.contiguous_format))
        step_along([p], self.make([p], **variant))
        step_along([q], self.make([q], **variant))
        assert (p.stride(), p.data_ptr()) == (strides, place)
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)

    def test_a_view_changes_nothing_beside_it(self, variant: Any) -> None:
        whole = random_tensor((5, 6), 1)
        p = whole[1:4, 2:].requires_grad_()
        step_along([p], self.make([p], **variant))
        outside = torch.ones(5, 6, dtype=torch.bool)
        outside[1:4, 2:] = False
        assert_bitwise(whole.detach()[outside], random_tensor((5, 6), 1)[outside])
