"""Kernel regression on digits, beside the networks that tend to it.

Sources: arXiv 1904.11955, theorem 3.2; arXiv 1902.06720, section 2 (the flow at any time).
"""

import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from virtualdepth.theory import infinite_width_kernel
from virtualdepth_lab.reproduce.kernels.problem import Digits, WideNetwork, digits
from virtualdepth_lab.reproduce.result import Progress, Record

LAYERS = (2, 3)
EIGENVALUES = 1.0  # the learning rate is this over the largest eigenvalue of the kernel


def digit_rows(
    seed: int, widths: Sequence[int], steps: int, progress: Progress
) -> Iterator[Record]:
    """Yield a row for each number of layers and predictor."""
    data = digits(seed)
    for layers in LAYERS:
        progress(f"digits, seed {seed}, {layers} layers")
        train = infinite_width_kernel(data.inputs, layers=layers)
        test = infinite_width_kernel(data.test_inputs, data.inputs, layers=layers)
        rate = EIGENVALUES / float(torch.linalg.eigvalsh(train)[-1])
        head: Record = {"part": "digits", "seed": seed, "layers": layers}
        limit = regression(train, test, data.targets)
        at_time = regression(train, test, data.targets, rate, steps)
        for name, scores in (("kernel, to the end", limit), ("kernel, as many steps", at_time)):
            yield head | {"predictor": name, "accuracy": data.accuracy(scores)}
        for width in widths:
            tick = time.process_time()
            scores = train_network(data, layers, width, rate, steps, seed)
            yield head | {
                "predictor": "network",
                "width": width,
                "accuracy": data.accuracy(scores),
                "distance": float((scores - at_time).norm() / at_time.norm()),
                "cpu_s": time.process_time() - tick,
            }
    linear = infinite_width_kernel(data.inputs, layers=1)
    of_test = infinite_width_kernel(data.test_inputs, data.inputs, layers=1)
    accuracy = data.accuracy(regression(linear, of_test, data.targets))
    row: Record = {"part": "digits", "seed": seed, "layers": 1}
    yield row | {"predictor": "kernel, to the end", "accuracy": accuracy}


def regression(
    train: Tensor, test: Tensor, targets: Tensor, rate: float = 1.0, steps: float = torch.inf
) -> Tensor:
    r"""Predict by gradient descent on the squared error with a kernel, from 0; its limit at inf.

    .. math:: \Theta_* \Theta^{-1} (1 - (1 - \eta \Theta)^t)\, Y

    Eigenvalues at the level of rounding count as 0: their directions do not move.
    """
    values, vectors = torch.linalg.eigh(train)
    known = values > 1e-12 * values[-1]
    left = torch.zeros_like(values) if steps == torch.inf else (1 - rate * values).pow(steps)
    learned: Tensor = torch.where(known, (1 - left) / torch.where(known, values, 1.0), 0.0)
    coefficients: Tensor = vectors @ (learned.unsqueeze(1) * (vectors.T @ targets))
    return test @ coefficients


def train_network(
    data: Digits, layers: int, width: int, rate: float, steps: int, seed: int
) -> Tensor:
    """Train by full gradient descent on the squared error; return what the test scores gained.

    The outputs at the start are left out: the kernel's predictor starts at 0.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [data.inputs.shape[1], *[width] * (layers - 1), data.targets.shape[1]]
    network = WideNetwork(sizes, "relu", generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    with torch.no_grad():
        start, test_start = network(data.inputs), network(data.test_inputs)
    for _ in range(steps):
        optimizer.zero_grad()
        residual = network(data.inputs) - start - data.targets
        (residual.square().sum() / 2).backward()
        optimizer.step()
    with torch.no_grad():
        scores: Tensor = network(data.test_inputs) - test_start
    return scores
