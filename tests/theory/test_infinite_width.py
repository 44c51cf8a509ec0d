"""The kernel at infinite width against integrals, closed forms, and wide finite networks."""

import math

import mpmath
import pytest
import torch
from torch import Tensor, nn

from virtualdepth.optim import EndToEndSGD
from virtualdepth.theory import infinite_width_kernel, model_tangent_kernel


def normal(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def by_integrals(x: Tensor, y: Tensor, layers: int, activation: str) -> float:
    """The recursion of arXiv 1904.11955, section 3, with its expectations as integrals.

    Of two Gaussians u, v of correlation c: u = r cos(t), v = r sin(t + asin(c)) with E[r^2] = 2, so
    that only the angle t is left to integrate over, where both are positive.
    """
    n = len(x)
    sizes, covariance = math.sqrt(float(x @ x) * float(y @ y)) / n, float(x @ y) / n
    theta = covariance
    for _ in range(layers - 1):
        slopes = 1.0
        if activation == "relu":
            turn = math.asin(max(-1.0, min(1.0, covariance / sizes)))
            ends = [-turn, math.pi / 2]
            product = mpmath.quad(lambda t, a=turn: mpmath.cos(t) * mpmath.sin(t + a), ends)
            covariance = 2 * sizes * 2 * float(product) / (2 * math.pi)
            slopes = 2 * (ends[1] - ends[0]) / (2 * math.pi)
        theta = covariance + theta * slopes
    return theta


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_the_recursion_with_integrals(layers: int, activation: str) -> None:
    x, y = normal(1, 3, 7), normal(2, 4, 7)
    found = infinite_width_kernel(x, y, layers=layers, activation=activation)
    for i, first in enumerate(x):
        for j, second in enumerate(y):
            expected = by_integrals(first, second, layers, activation)
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("layers", [2, 3])
def test_arc_cosine_kernels_of_cho_and_saul(layers: int) -> None:
    """Theta_2 = s (J_1 + c J_0) / pi with J_0 = pi - a, J_1 = sin a + (pi - a) cos a."""
    turns = torch.linspace(0, math.pi, 9, dtype=torch.float64)
    y = 2 * torch.stack([turns.cos(), turns.sin()], 1)
    found = infinite_width_kernel(y[:1], y, layers=layers)[0]

    def j(a: Tensor) -> tuple[Tensor, Tensor]:
        return math.pi - a, a.sin() + (math.pi - a) * a.cos()

    j0, j1 = j(turns)
    theta, cosine = (j1 + turns.cos() * j0) / math.pi, j1 / math.pi
    if layers == 3:
        j0, j1 = j(cosine.clamp(-1, 1).acos())
        theta = j1 / math.pi + theta * j0 / math.pi
    torch.testing.assert_close(found, 2 * theta, rtol=1e-9, atol=1e-9)


def test_known_values() -> None:
    """On the diagonal L |x|^2 / n; for opposite points 0 after one hidden layer."""
    x = normal(3, 5, 6)
    for layers in (1, 2, 5):
        found = infinite_width_kernel(x, layers=layers).diagonal()
        torch.testing.assert_close(found, layers * x.square().sum(1) / 6, rtol=1e-13, atol=0)
    found = infinite_width_kernel(x, -x, layers=2).diagonal()
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-14)
    assert infinite_width_kernel(torch.zeros(1, 6), x, layers=3).abs().max() == 0


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_near_points_keep_their_digits(gap: float) -> None:
    """Theta_2(0) - Theta_2(a) = (2 / pi) a + O(a^2) at unit length: the kernel has a cusp."""
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[math.cos(gap), math.sin(gap)]], dtype=torch.float64)
    with mpmath.workdps(40):
        a = mpmath.mpf(gap)
        j1 = mpmath.sin(a) + (mpmath.pi - a) * mpmath.cos(a)
        drop = 2 - (j1 + mpmath.cos(a) * (mpmath.pi - a)) / mpmath.pi
    found = 2 - 2 * float(infinite_width_kernel(x, y, layers=2))
    assert found == pytest.approx(float(drop), abs=1e-15)


class Wide(nn.Module):
    """A network as the formula's: Gaussian weights, factors before the layers."""

    def __init__(self, sizes: list[int], activation: str, seed: int) -> None:
        super().__init__()
        shapes = zip(sizes[1:], sizes, strict=False)
        self.weights = nn.ParameterList([normal(seed + k, *s) for k, s in enumerate(shapes)])
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for number, weight in enumerate(self.weights):
            if number and self.activation == "relu":
                x = 2**0.5 * torch.relu(x)
            x = x @ weight.T / weight.shape[1] ** 0.5
        return x


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("layers", [2, 3])
def test_wide_networks_come_near(layers: int, activation: str) -> None:
    x, gaps = normal(4, 3, 10), []
    expected = infinite_width_kernel(x, layers=layers, activation=activation)
    for width in (16, 256):
        squares = []
        for seed in range(8):
            network = Wide([10, *[width] * (layers - 1), 2], activation, 100 * seed)
            found = model_tangent_kernel(network, x)
            of_outputs = found - torch.einsum("ij,ab->ijab", expected, torch.eye(2))
            squares.append(float(of_outputs.norm() / expected.norm()) ** 2)
        gaps.append(math.sqrt(sum(squares) / len(squares)))
    # a sixteenfold width: a quarter of the root-mean-square gap
    assert gaps[1] < 0.3
    assert 2.5 < gaps[0] / gaps[1] < 6.5


@pytest.mark.parametrize("layers", [2, 3])
def test_a_layer_of_zeros_with_imbalance(layers: int) -> None:
    x = normal(5, 4, 6)
    layer = nn.Linear(6, 3, bias=False).double()
    nn.init.zeros_(layer.weight)
    imbalance = (layers / 6) ** (1 / (layers - 1))
    optimizer = EndToEndSGD(layer.parameters(), depth=layers, imbalance=imbalance)
    found = model_tangent_kernel(layer, x, optimizer=optimizer)
    expected = infinite_width_kernel(x, layers=layers, activation="linear")
    expected = torch.einsum("ij,ab->ijab", expected, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("inputs", "others", "options", "message"),
    [
        (torch.ones(3), None, {"layers": 2}, "inputs: expected shape"),
        (torch.ones(3, 0), None, {"layers": 2}, "inputs: expected shape"),
        (torch.ones(3, 2), torch.ones(3, 3), {"layers": 2}, "others: expected shape"),
        (torch.full((3, 2), math.nan), None, {"layers": 2}, "inputs: expected finite numbers"),
        (torch.ones(3, 2).long(), None, {"layers": 2}, "inputs: expected a dense real"),
        (torch.ones(3, 2), None, {"layers": 0}, "layers: expected an integer >= 1 but got 0"),
        (torch.ones(3, 2), None, {"layers": 2.0}, "layers: expected an integer >= 1 but got 2.0"),
        (torch.ones(3, 2), None, {"layers": 2, "activation": "tanh"}, "activation: expected one"),
    ],
)
def test_refusals(inputs: Tensor, others: Tensor | None, options: dict, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        infinite_width_kernel(inputs, others, **options)
