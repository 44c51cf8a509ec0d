"""The penalty ||W||_* / ||W||_F on a product of three matrices, under Adam (arXiv 2306.00342)."""

import torch
from benchmarks.completion.draws import Floats
from benchmarks.completion.rivals.held_out import Answer
from benchmarks.completion.rivals.imputers import as_tensors
from torch import Tensor

from virtualdepth.maths import thin_svd

DEPTH, RATE, PENALTY, STEPS, START = 3, 3e-3, 1e-3, 4000, 1e-2


def ratio_gradient(weight: Tensor) -> Tensor:
    """Return the gradient of ||W||_* / ||W||_F."""
    u, sigma, vh = thin_svd(weight)
    norm = sigma.norm()
    return (u @ vh) / norm - sigma.sum() / norm**3 * weight


def penalised(known: Floats, rank: int | None, seed: int) -> Answer:
    """Train with one setting, the best of a first look at other seeds."""
    data, mask = as_tensors(known)
    (m, n), generator = known.shape, torch.Generator().manual_seed(seed)
    std = START ** (1 / DEPTH) / max(m, n) ** 0.5
    shapes = [(n, n)] * (DEPTH - 1) + [(m, n)]
    layers = [
        torch.nn.Parameter(std * torch.randn(*shape, generator=generator, dtype=data.dtype))
        for shape in shapes
    ]
    optimizer = torch.optim.Adam(layers, lr=RATE)
    for _ in range(STEPS):
        weight = layers[0]
        for layer in layers[1:]:
            weight = layer @ weight
        now = weight.detach()
        gradient = (now - data) * mask * (2 / mask.sum()) + PENALTY * ratio_gradient(now)
        optimizer.zero_grad()
        weight.backward(gradient)
        optimizer.step()
    return Answer(now.numpy())
