"""The metric Barzilai-Borwein length and the midpoint against the rule written literally."""

import pytest
import torch
from torch import Tensor

from virtualdepth.maths import Secant, midpoint_direction, precondition, secant_gradient
from virtualdepth.maths.reference import precondition_literally


def draw(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(4)]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1), (1, 1)])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_secant(shape: tuple[int, int], depth: int) -> None:
    weight, grad, before, grad_before = draw(*shape)
    gradient, secant = secant_gradient(weight, grad, before, grad_before, float(depth))
    change = grad - grad_before
    # the sum over j is exact on full-rank Gram matrices only, hence precondition for the others
    rule = precondition_literally if shape == (4, 4) else precondition
    torch.testing.assert_close(gradient.direction, rule(weight, grad, depth))
    assert float(secant.curvature) == pytest.approx(float(((weight - before) * change).sum()))
    assert float(secant.metric) == pytest.approx(
        float((change * rule(weight, change, depth)).sum())
    )
    u, _, vh = torch.linalg.svd(weight, full_matrices=False)
    torch.testing.assert_close(gradient.slopes, (u * (grad @ vh.mT)).sum(0))


def test_length_of_a_quadratic_is_one_over_its_metric_curvature() -> None:
    # loss h/2 ||W||^2 near W = sigma I: the length is 1 / (h K), h = 3, K = 2 sigma at N = 2
    weight = 5 * torch.eye(3, dtype=torch.float64)
    before = weight + 1e-3 * torch.eye(3, dtype=torch.float64)
    _, secant = secant_gradient(weight, 3 * weight, before, 3 * before, 2.0)
    assert float(secant.length()) == pytest.approx(1 / 30, rel=1e-10)


def test_secants_of_two_matrices_add_up() -> None:
    first, second = Secant(torch.tensor(1.0), torch.tensor(2.0)), Secant(*torch.tensor([3.0, 2.0]))
    joint = Secant(first.curvature + second.curvature, first.metric + second.metric)
    assert float(joint.length()) == 1.0


@pytest.mark.parametrize("curvature", [0.0, -1.0])
def test_no_length_without_curvature(curvature: float) -> None:
    secant = Secant(torch.tensor(curvature), torch.tensor(2.0))
    assert float(secant.length()) == float("inf")


def test_midpoint_is_of_second_order_in_a_frozen_gradient() -> None:
    weight, grad, _, _ = draw(3, 3)
    weight = weight + 4 * torch.eye(3, dtype=torch.float64)

    def end(length: float, steps: int) -> Tensor:
        point = weight
        for _ in range(steps):
            direction = precondition(point, grad, 3.0)
            turned = midpoint_direction(point, grad, direction, length / steps, 3.0)
            point = point - length / steps * turned
        return point

    fine = end(0.02, 64)
    errors = [float((end(0.02, steps) - fine).norm()) for steps in (2, 4)]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
