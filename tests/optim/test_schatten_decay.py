"""Where training with decay ends: at a minimum of loss + (lambda N / 2) ||W||_{S_2/N}^{2/N}."""

from collections.abc import Callable
from typing import Any

import cvxpy as cp
import pytest
import torch
from torch import Tensor, nn

import virtualdepth as vd

DECAY, STEPS = 0.3, 1500
GENERATOR = torch.Generator().manual_seed(0)
INPUTS, NOISE = (torch.randn(30, 6, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
SPARSE = torch.zeros(5, 6, dtype=torch.float64)
SPARSE[0], SPARSE[1, :3] = 1.0, torch.tensor([2.0, -1.0, 0.5])
TARGETS = INPUTS @ SPARSE.mT + 0.3 * NOISE[:, :5]


def loss_of(weight: Tensor) -> Tensor:
    return (INPUTS @ weight.mT - TARGETS).square().sum() / (2 * len(INPUTS))


def start_of(structure: str) -> Tensor:
    start = torch.randn(5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # entries never change their signs: they begin with those of the end
    signs = torch.linalg.lstsq(INPUTS, TARGETS).solution.mT.sgn()
    return start.abs() * signs if structure == "diagonal" else start


def trained(depth: int, structure: str = "matrix") -> Tensor:
    weight = nn.Parameter(start_of(structure))
    options: dict[str, Any] = {"depth": depth, "structure": structure, "weight_decay": DECAY}
    optimizer = vd.EndToEndSGD([weight], lr=0.05, **options)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(weight).backward()
        optimizer.step()
    return weight.detach()


# what lambda multiplies at depth 2: the sum of the sizes of the blocks
NORMS: dict[str, Callable[[cp.Variable], cp.Expression]] = {
    "matrix": cp.normNuc,
    "diagonal": lambda w: cp.sum(cp.abs(w)),
    "rows": lambda w: cp.sum(cp.norm(w, 2, axis=1)),
    "columns": lambda w: cp.sum(cp.norm(w, 2, axis=0)),
}


@pytest.mark.parametrize("structure", NORMS)
def test_depth_two_ends_where_a_convex_solver_does(structure: str) -> None:
    found = trained(2, structure)
    w = cp.Variable((5, 6))
    q, r = torch.linalg.qr(INPUTS)  # fewer numbers, for accuracy
    residual = r.numpy() @ w.T - (q.mT @ TARGETS).numpy()
    objective = cp.sum_squares(residual) / (2 * len(INPUTS)) + DECAY * NORMS[structure](w)
    cp.Problem(cp.Minimize(objective)).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9
    )
    expected = torch.from_numpy(w.value)
    assert torch.linalg.vector_norm(expected) > 1
    # the solver knows norms of vectors that are zero to the root of its tolerance
    atol = 1e-6 if structure in {"matrix", "diagonal"} else 3e-5
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("depth", [3, 4])
def test_deeper_it_ends_where_the_explicit_network_does(depth: int) -> None:
    found = trained(depth)
    layers = [nn.Parameter(layer) for layer in vd.balanced_factors(start_of("matrix"), depth)]
    optimizer = torch.optim.SGD(layers, lr=0.05, weight_decay=DECAY)
    for _ in range(STEPS):
        optimizer.zero_grad()
        product = layers[0]
        for layer in layers[1:]:
            product = layer @ product
        loss_of(product).backward()
        optimizer.step()
    torch.testing.assert_close(found, product.detach(), rtol=0, atol=1e-8)
    sigma = torch.linalg.svdvals(found)
    assert (sigma > 1e-3).sum() < 5  # decay has removed some
