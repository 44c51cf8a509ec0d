"""solver="polar" in the optimizer, against the exact path."""

import math
from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from torch import nn

import virtualdepth as vd


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 3}, r"depth: expected 2 with solver='polar' but got 3"),
        ({"depth": math.inf}, r"depth: expected 2 with solver='polar' but got inf"),
        ({"depth": 2, "step_scale": "unit"}, "expected 'raw' or 'rms' with solver='polar' but got"),
        ({"depth": 2, "rtol": 1e-9}, "knows no singular values, but got 1e-09"),
        ({"depth": 2, "step_scale": "auto"}, "got 'auto', which needs more of W"),
    ],
    ids=str,
)
def test_what_the_polar_factor_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vd.EndToEndSGD([nn.Parameter(random_tensor((3, 4), 1))], solver="polar", **options)


@pytest.mark.parametrize("on", ["EndToEndSGD", "with_depth"])
def test_the_polar_factor_moves_as_the_exact_path(on: str) -> None:
    p, q = (nn.Parameter(random_tensor((5, 7), 1)) for _ in range(2))
    for parameter, solver in ((p, "polar"), (q, "svd")):
        if on == "EndToEndSGD":
            optimizer: Any = vd.EndToEndSGD([parameter], lr=0.01, depth=2, solver=solver)
        else:
            plain = torch.optim.SGD([parameter], lr=0.01)
            optimizer = vd.with_depth(plain, 2, solver=solver)
        for step in range(5):
            parameter.grad = random_tensor((5, 7), 10 + step)
            optimizer.step()
        assert not any(state for state in optimizer.state.values())
    torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(q, random_tensor((5, 7), 1))
