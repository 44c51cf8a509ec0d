"""Work around closed curves, against the area integral of the curl."""

import math

import pytest
import torch

from virtualdepth_lab.reproduce.no_regulariser.problem import closed_form, relative_curl, work


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 4])
def test_work_is_the_integral_of_the_curl(depth: float) -> None:
    # one output, two inputs: curl_21 = (N - 1)(N - 2)/N |w|^(-2/N) (w_2 g_1 - w_1 g_2) by hand
    center = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    grad = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    plane = 0.4 * torch.eye(2, dtype=torch.float64).unsqueeze(1)
    total, count = 0.0, 400
    for ring in range(count):
        radius = 0.4 * (ring + 0.5) / count
        for part in range(64):
            angle = 2 * math.pi * part / 64
            x, y = 1 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)
            curl = (depth - 1) * (depth - 2) / depth * math.hypot(x, y) ** (-2 / depth)
            total += curl * (0.3 * y + 0.7 * x) * radius
    area = total * 0.4 / count * 2 * math.pi / 64
    assert work(center, plane, grad, depth) == pytest.approx(area, rel=1e-5, abs=1e-13)
    assert abs(area) > 1e-2 or depth in (1, 2)


@pytest.mark.parametrize("depth", [1, 1.5, 2, 3, 8])
def test_closed_form(depth: float) -> None:
    weight = torch.tensor([[1.0, 0.5, -0.2]], dtype=torch.float64)
    grad = torch.tensor([[0.3, -0.7, 0.1]], dtype=torch.float64)
    found = relative_curl(weight, lambda w: (grad * w).sum(), depth)
    assert found == pytest.approx(closed_form(weight, grad, depth), rel=1e-10, abs=1e-14)
    # it does not depend on the scale of either
    same = relative_curl(7 * weight, lambda w: 3 * (grad * w).sum(), depth)
    assert same == pytest.approx(found, rel=1e-10, abs=1e-14)
