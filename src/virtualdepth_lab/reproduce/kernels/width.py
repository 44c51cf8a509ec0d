"""Kernels of finite networks: against those of infinite width, and of explicit deep twins.

Sources: arXiv 1904.11955, theorem 3.1; arXiv 1802.06509, theorem 1; arXiv 2409.14623 (imbalance).
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from virtualdepth.optim import EndToEndSGD
from virtualdepth.theory import infinite_width_kernel, model_tangent_kernel
from virtualdepth_lab.reproduce.kernels.problem import DeepTwin, WideNetwork
from virtualdepth_lab.reproduce.result import Record

SAMPLES, FEATURES, OUTPUTS = 8, 10, 2
VARIANCE = 0.3  # s^2 width of two Gaussian layers, whatever their width
RATE, STEPS = 0.02, 200


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def distance(found: Tensor, expected: Tensor) -> float:
    """Compute ||A - B|| / ||B||."""
    return float((found - expected).norm() / expected.norm())


def width_rows(seeds: Sequence[int], widths: Sequence[int]) -> Iterator[Record]:
    """Yield a row for each activation, number of layers, width and seed."""
    for activation in ("linear", "relu"):
        for layers in (2, 3):
            for width in widths:
                for seed in seeds:
                    generator = _generator(seed)
                    inputs = _normal(generator, SAMPLES, FEATURES)
                    sizes = [FEATURES, *[width] * (layers - 1), 1]
                    network = WideNetwork(sizes, activation, generator)
                    found = model_tangent_kernel(network, inputs)[..., 0, 0]
                    limit = infinite_width_kernel(inputs, layers=layers, activation=activation)
                    row: Record = {"part": "width", "activation": activation, "layers": layers}
                    yield row | {"width": width, "seed": seed, "gap": distance(found, limit)}


def twin_rows(seeds: Sequence[int]) -> Iterator[Record]:
    """Yield a row for each depth and seed: a tanh network under depth, and its explicit twin."""
    for depth in (2, 3):
        for seed in seeds:
            generator = _generator(seed)
            inputs, others = _normal(generator, 4, 5), _normal(generator, 3, 5)
            model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
            for parameter in model.parameters():
                parameter.data = _normal(generator, *parameter.shape) / 5**0.5
            twin = deepcopy(model)
            for place in (0, 2):
                twin[place] = DeepTwin(model[place], depth)  # type: ignore[arg-type]
            optimizer = EndToEndSGD(model.parameters(), depth=depth)
            expected = model_tangent_kernel(twin, inputs, others)
            yield {
                "part": "deep twin",
                "depth": depth,
                "seed": seed,
                "gap": distance(model_tangent_kernel(model, inputs, others, optimizer), expected),
                "plain_gap": distance(model_tangent_kernel(model, inputs, others), expected),
            }


def imbalance_rows(seeds: Sequence[int], widths: Sequence[int]) -> Iterator[Record]:
    """Yield a row for each width and seed: two Gaussian layers, and one layer with imbalance.

    Both descend on the same least squares. The gaps are between their tangent kernels: at the
    start, and at the end; then that of the balanced rule, which starts from the same W.
    """
    for width in widths:
        for seed in seeds:
            generator = _generator(seed)
            inputs = _normal(generator, SAMPLES, FEATURES)
            targets = _normal(generator, SAMPLES, OUTPUTS)
            layers = [
                (VARIANCE / width) ** 0.5 * _normal(generator, *shape)
                for shape in ((width, FEATURES), (OUTPUTS, width))
            ]
            network = nn.Sequential(*(_linear(layer) for layer in layers))
            models: list[tuple[nn.Module, float]] = [(network, 0.0)]
            models += [(_linear(layers[1] @ layers[0]), size) for size in (2 * VARIANCE, 0.0)]
            first, last = _kernels_of_descent(models, inputs, targets)
            yield {
                "part": "imbalance",
                "width": width,
                "seed": seed,
                "gap_start": distance(first[1], first[0]),
                "gap_end": distance(last[1], last[0]),
                "balanced_gap_end": distance(last[2], last[0]),
                "turned": distance(last[0], first[0]),
            }


def zero_rows() -> Iterator[Record]:
    """Yield a row for each depth: a layer of zeros with imbalance, and infinite width, linear."""
    inputs = _normal(_generator(0), SAMPLES, FEATURES)
    for depth in (2, 3, 4):
        layer = _linear(torch.zeros(OUTPUTS, FEATURES, dtype=torch.float64))
        imbalance = (depth / FEATURES) ** (1 / (depth - 1))
        optimizer = EndToEndSGD(layer.parameters(), depth=depth, imbalance=imbalance)
        limit = infinite_width_kernel(inputs, layers=depth, activation="linear")
        expected = torch.einsum("ij,ab->ijab", limit, torch.eye(OUTPUTS, dtype=limit.dtype))
        found = model_tangent_kernel(layer, inputs, optimizer=optimizer)
        yield {"part": "zeros", "depth": depth, "gap": distance(found, expected)}


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = weight.clone()
    return layer


def _kernels_of_descent(
    models: Sequence[tuple[nn.Module, float]], inputs: Tensor, targets: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Train a network, and layers of depth 2 with an imbalance; return kernels of both ends."""
    first, last = [], []
    for model, imbalance in models:
        depth = 2 if isinstance(model, nn.Linear) else 1
        optimizer = EndToEndSGD(model.parameters(), lr=RATE, depth=depth, imbalance=imbalance)
        first.append(model_tangent_kernel(model, inputs, optimizer=optimizer))
        for _ in range(STEPS):
            optimizer.zero_grad()
            residual = model(inputs) - targets
            (residual.square().sum() / 2 / len(inputs)).backward()
            optimizer.step()
        last.append(model_tangent_kernel(model, inputs, optimizer=optimizer))
    return first, last
