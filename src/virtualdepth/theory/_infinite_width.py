"""The tangent kernel of a fully connected network whose layers are infinitely wide.

Source: Jacot, Gabriel, Hongler, NeurIPS 2018, arXiv 1806.07572; Arora, Du, Hu, Li, Salakhutdinov,
Wang, NeurIPS 2019, arXiv 1904.11955, section 3; Cho and Saul, NeurIPS 2009 (arc-cosine kernels).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from virtualdepth.maths import check_finite, check_real

ActivationName = Literal["relu", "linear"]


def infinite_width_kernel(
    inputs: Tensor,
    others: Tensor | None = None,
    *,
    layers: int,
    activation: ActivationName = "relu",
) -> Tensor:
    r"""Evaluate the exact tangent kernel of an infinitely wide, fully connected network.

    Training does not change it. The network has Gaussian weights of variance 1, no biases, and
    before each layer a factor :math:`1 / \sqrt{\text{inputs of the layer}}`; with "relu" also a
    factor :math:`\sqrt 2` after each activation. With :math:`s = |x|\,|x'| / n` and the angle
    :math:`\alpha_1` between x and x',

    .. math::
        \Sigma_h = s \cos \alpha_h, \qquad
        \cos \alpha_{h+1} = \frac{\sin \alpha_h + (\pi - \alpha_h) \cos \alpha_h}{\pi}, \qquad
        \Theta_1 = \Sigma_1, \qquad
        \Theta_{h+1} = \Sigma_{h+1} + \frac{\pi - \alpha_h}{\pi}\, \Theta_h.

    The result is :math:`\Theta_L`; with activation "linear" it is :math:`L\, x \cdot x' / n`. It
    holds for each output by itself: different outputs do not move one another.

    A linear layer W = 0 with ``imbalance`` :math:`(L / n)^{1/(L-1)}` at depth L has the kernel of
    the linear one.

    Args:
        inputs: x as rows, (samples, n), n >= 1, finite.
        others: x' as rows, (others, n); default: ``inputs``.
        layers: L >= 1, those with weights; L - 1 of them are hidden.
        activation: "relu" or "linear", after each hidden layer.

    Returns:
        (samples, others), in the units of the inputs squared; computed in float64.

    Raises:
        TypeError: if an input is not of real floating-point numbers, or ``layers`` no integer.
        ValueError: if shapes do not fit, an input is not finite, ``layers`` is below 1, or there
            is no such activation.

    Source: arXiv 1904.11955, section 3.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> infinite_width_kernel(x, layers=2)  # s = 1/2: twice s, and s / pi at a right angle
    tensor([[1.0000, 0.1592],
            [0.1592, 1.0000]])
    >>> infinite_width_kernel(x, layers=3, activation="linear")
    tensor([[1.5000, 0.0000],
            [0.0000, 1.5000]])
    """
    _check(inputs, others, layers, activation)
    dtype = inputs.dtype
    first = inputs.double()
    second = first if others is None else others.double()
    norms, others_norms = (rows.norm(dim=1) for rows in (first, second))
    size: Tensor = norms.unsqueeze(1) * (others_norms / first.shape[1])
    if activation == "linear":
        return (first @ second.mT * (layers / first.shape[1])).to(dtype)
    directions = [
        rows / torch.where(norm > 0, norm, 1.0).unsqueeze(1)
        for rows, norm in ((first, norms), (second, others_norms))
    ]
    angle = _angles(*directions)
    kernel = torch.cos(angle)
    for _ in range(layers - 1):
        share = (math.pi - angle) / math.pi
        angle = _next_angle(angle)
        kernel = torch.cos(angle) + share * kernel
    return (size * kernel).to(dtype)


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """Compute the angles between unit rows, (samples, others), small ones to full precision."""
    mode = "donot_use_mm_for_euclid_dist"
    apart: Tensor = torch.cdist(first, second, compute_mode=mode)
    together: Tensor = torch.cdist(first, -second, compute_mode=mode)
    return 2 * torch.atan2(apart, together)


def _next_angle(angle: Tensor) -> Tensor:
    """Compute the angle after a ReLU layer; the arc cosine of a cosine near 1 has no digits."""
    missing = 2 * math.pi * torch.sin(angle / 2).square() - angle.sin() + angle * angle.cos()
    # (1 - cos of the next angle) / 2 is the squared sine of its half
    return 2 * torch.asin((missing / (2 * math.pi)).clamp(0, 1).sqrt())


def _check(inputs: Tensor, others: Tensor | None, layers: int, activation: str) -> None:
    for name, rows in (("inputs", inputs), ("others", inputs if others is None else others)):
        check_real(rows, name)
        check_finite(rows, name)
        if rows.ndim != 2 or rows.shape[1] < 1 or rows.shape[1] != inputs.shape[-1]:
            raise ValueError(
                f"{name}: expected shape (samples, n), n >= 1, with one n for inputs and others, "
                f"but got {tuple(rows.shape)} beside inputs {tuple(inputs.shape)}"
            )
    if isinstance(layers, bool) or not isinstance(layers, int):
        raise TypeError(f"layers: expected an integer >= 1 but got {layers!r}")
    if layers < 1:
        raise ValueError(f"layers: expected an integer >= 1 but got {layers!r}")
    if activation not in get_args(ActivationName):
        raise ValueError(
            f"activation: expected one of {get_args(ActivationName)} but got {activation!r}"
        )
