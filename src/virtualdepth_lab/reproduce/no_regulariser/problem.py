"""Curl of the rule's field, its work around closed curves, and four cases to measure them in.

Source: arXiv 1802.06509, Theorem 2 and section 6.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from virtualdepth.maths import precondition
from virtualdepth.theory import rule_curl
from virtualdepth_lab.reproduce.result import Record

SIZE, POINTS = 5, 512


def relative_curl(weight: Tensor, loss: Callable[[Tensor], Tensor], depth: float) -> float:
    r"""Return :math:`\|\mathrm{curl}\|_F / (\|W\|_F^{1-2/N} \|\nabla l\|_F)` at W, (m, n)."""
    grad = _gradient(weight, loss)
    scale = weight.norm() ** (1 - 2 / depth) * grad.norm()
    return float(rule_curl(weight, loss, depth).norm() / scale)


def closed_form(weight: Tensor, grad: Tensor, depth: float) -> float:
    r"""Return the relative curl of one output under a constant gradient g, (1, n).

    From :math:`F(w) = \|w\|^{2-2/N} (g + (N-1) \langle w, g \rangle w / \|w\|^2)`,

    .. math:: \mathrm{curl} = \frac{(N-1)(N-2)}{N} \|w\|^{-2/N} (w g^\top - g w^\top).

    >>> w, g = torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]])
    >>> closed_form(w, g, 3)  # 2/3 * 0.8 * sqrt(2)
    0.754
    """
    cosine = float(torch.sum(weight * grad) / (weight.norm() * grad.norm()))
    return abs((depth - 1) * (depth - 2) / depth) * math.sqrt(2 * (1 - cosine**2))


def work(center: Tensor, plane: Tensor, grad: Tensor, depth: float) -> float:
    r"""Integrate the rule's field along a circle, :math:`\oint P_w(g)\,dw`, g constant.

    ``center``: (m, n). ``plane``: two orthogonal matrices whose norm is the radius, (2, m, n). The
    circle must not touch 0. The trapezoidal rule is exact to rounding for a smooth periodic
    integrand. The work is 0 for a gradient field.
    """
    angle = torch.arange(POINTS, dtype=center.dtype) * (2 * math.pi / POINTS)
    cosine, sine = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    points = center + cosine * plane[0] + sine * plane[1]
    tangents = cosine * plane[1] - sine * plane[0]
    field = precondition(points, grad.expand_as(points), depth)
    return float((field * tangents).sum() * (2 * math.pi / POINTS))


def constant_gradient(seed: int, depth: float) -> Iterator[Record]:
    """Measure one output, the same gradient everywhere: curl and work."""
    weight, grad = _normal(seed, 2, 1, SIZE)
    # a circle in the plane of w and g, with half the distance to 0 as its radius
    radius = weight.norm() / 2
    first = weight / weight.norm()
    second = grad - (grad * first).sum() * first
    plane = radius * torch.stack([first, second / second.norm()])
    yield {
        "part": "one output, constant gradient",
        "depth": depth,
        "seed": seed,
        "curl": relative_curl(weight, _linear(grad), depth),
        "closed_form": closed_form(weight, grad, depth),
        "work": work(weight, plane, grad, depth)
        / float(weight.norm() ** (2 - 2 / depth) * grad.norm() * radius),
    }


def near_zero(seed: int, depth: float) -> Iterator[Record]:
    """Measure one output, squared error, for two W of small norm."""
    weight, loss = _normal(seed, 1, SIZE), _quadratic(seed)
    grad = _gradient(torch.zeros_like(weight), loss)
    for norm in (1e-2, 1e-4):
        small = weight * (norm / weight.norm())
        yield {
            "part": "one output, squared error near 0",
            "depth": depth,
            "seed": seed,
            "norm": norm,
            "curl": relative_curl(small, loss, depth),
            "closed_form": closed_form(weight, grad, depth),
        }


def away_from_zero(seed: int, depth: float) -> Iterator[Record]:
    """Measure one output, squared error, W of order 1."""
    yield {
        "part": "one output, squared error away from 0",
        "depth": depth,
        "seed": seed,
        "curl": relative_curl(_normal(seed, 1, SIZE), _quadratic(seed), depth),
    }


def three_outputs(seed: int, depth: float) -> Iterator[Record]:
    """Measure three outputs, the same gradient everywhere."""
    weight, grad = _normal(seed, 2, 3, SIZE)
    yield {
        "part": "three outputs, constant gradient",
        "depth": depth,
        "seed": seed,
        "curl": relative_curl(weight, _linear(grad), depth),
    }


def _normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _gradient(weight: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    point = weight.clone().requires_grad_()
    return torch.autograd.grad(loss(point), point)[0]


def _linear(grad: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda weight: (grad * weight).sum()


def _quadratic(seed: int) -> Callable[[Tensor], Tensor]:
    root, target = _normal(seed + 1000, SIZE, SIZE), _normal(seed + 2000, 1, SIZE)
    return lambda weight: ((weight - target) @ root).square().sum() / 2
