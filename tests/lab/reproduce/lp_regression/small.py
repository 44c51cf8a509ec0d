"""A small regression, and a mark for tests that need the ethanol data."""

import os
from pathlib import Path

import pytest
import torch

from virtualdepth_lab.reproduce.lp_regression.problem import LpRegression

NEEDS_ETHANOL = pytest.mark.skipif(
    not Path(os.environ.get("VIRTUALDEPTH_DATA", "."), "ethanol/ethanol.npz").is_file(),
    reason="needs ethanol/ethanol.npz under VIRTUALDEPTH_DATA",
)


def problem(power: int, samples: int = 12) -> LpRegression:
    """Samples of three features with different variances, and targets that no line fits."""
    generator = torch.Generator().manual_seed(1)
    normal = torch.randn(samples, 4, generator=generator, dtype=torch.float64)
    scales = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    return LpRegression(inputs=normal[:, :3] * scales, targets=normal[:, 3], power=power)
