"""The theory's equation against fine steps."""

import pytest
import torch

from virtualdepth_lab.reproduce.singular_values.trajectories import theory_trajectory


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_theory_against_fine_steps(depth: int) -> None:
    # d sigma / dt = -N sigma^{2 - 2/N} c with c = -(1 + t) / 4
    time = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    slopes = -(1 + time).unsqueeze(-1) / 4
    sigma = torch.tensor([0.2], dtype=torch.float64)
    lr = 1 / 20_000
    found = theory_trajectory(sigma, slopes, depth, lr)[-1]
    for slope in slopes[:-1]:
        sigma = sigma - lr * depth * sigma ** (2 - 2 / depth) * slope
    torch.testing.assert_close(found, sigma, rtol=1e-3, atol=0)
