"""What a group says of its matrices may change between steps: the state follows."""

from typing import Any

import pytest
import torch
from tests.contract.tools import random_tensor
from tests.optim.truth import preconditioned_term_by_term
from torch import Tensor, nn

import virtualdepth as vd

LR, DEPTH = 1e-4, 3
CHANGES = [
    ((6, 4), {}, {"blocks": 2}),
    ((6, 4), {"blocks": 2}, {"blocks": 1}),
    ((6, 4), {"blocks": 2}, {"blocks": 3}),
    ((4, 4), {}, {"blocks": 2}),  # of probes (4,) and (2, 2)
    ((2, 4), {}, {"blocks": 2}),  # of probes (2,) and (2, 1), which broadcast
    ((6, 3, 2), {"conv_groups": 2}, {"conv_groups": 1}),
    ((4, 3, 2), {}, {"transposed": True}),
    ((4, 4), {"transposed": True}, {"transposed": False}),
    ((6, 4), {"blocks": 2, "transposed": True}, {"blocks": 3, "transposed": False}),
]


def matrices(tensor: Tensor, options: dict[str, Any]) -> list[Tensor]:
    count = options.get("blocks", 1) * options.get("conv_groups", 1)
    each = tensor.flatten(1).chunk(count)
    return [matrix.T if options.get("transposed") else matrix for matrix in each]


def after_a_step(weight: Tensor, grad: Tensor, solver: str) -> Tensor:
    if solver != "layers":
        return weight - LR * torch.from_numpy(
            preconditioned_term_by_term(weight.numpy(), grad.numpy(), DEPTH)
        )
    deep = vd.DeepLinear.from_weight(weight, DEPTH)
    (deep.end_to_end() * grad).sum().backward()
    torch.optim.SGD(deep.parameters(), lr=LR).step()
    return deep.end_to_end().detach()


@pytest.mark.parametrize("solver", ["svd", "tracked", "layers"])
@pytest.mark.parametrize(("shape", "before", "after"), CHANGES, ids=str)
def test_other_matrices_of_the_same_weight(
    shape: tuple[int, ...], before: dict[str, Any], after: dict[str, Any], solver: str
) -> None:
    p = nn.Parameter(random_tensor(shape, 1) / 2)
    group = {"params": [p], **before}
    optimizer = vd.EndToEndSGD([group], lr=LR, depth=DEPTH, solver=solver)
    for seed in range(2):
        p.grad = random_tensor(shape, 10 + seed) / 3
        optimizer.step()
    optimizer.param_groups[0].update(after)
    views = {**before, **after}
    weights, grads = matrices(p.detach().clone(), views), matrices(p.grad, views)
    optimizer.step()
    # the transposes have the same singular vectors, which are followed as before
    followed = solver == "tracked" and set(after) == {"transposed"}
    tolerance = 1e-3 * LR if followed else 1e-13
    for matrix, weight, grad in zip(matrices(p.detach(), views), weights, grads, strict=True):
        expected = after_a_step(weight, grad, solver)
        torch.testing.assert_close(matrix, expected, rtol=0, atol=tolerance)
    if solver == "layers" and matrices(p, before)[0].shape != matrices(p, views)[0].shape:
        assert optimizer.state[p]["layers_refactored"] == 0  # nobody wrote to the weight
    optimizer.step()
    # and what is kept can be loaded again
    again = vd.EndToEndSGD([{"params": [p], **views}], lr=LR, depth=DEPTH, solver=solver)
    again.load_state_dict(optimizer.state_dict())
    again.step()
