"""Layers that start unbalanced, and depths that compete, on separable data.

Sources: Ji and Telgarsky, ICLR 2019, arXiv 1810.02032, theorem 1 (layers align); Nacson et al.,
ICML 2019, arXiv 1905.07325 (a sum of networks of different depth).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from virtualdepth.maths import block_svd, end_to_end_product
from virtualdepth.optim import EndToEndSGD
from virtualdepth_lab.reproduce.margin.methods import STEP, recorded
from virtualdepth_lab.reproduce.margin.problem import Separable, random_problem
from virtualdepth_lab.reproduce.result import Record

HIDDEN, DEVIATION = 8, 0.5  # of three Gaussian layers
SHORT_STEP, ADDED_STEP = 0.02, 0.05  # relative to the length of all layers, and of each vector
ADDED, START = (1, 3), 0.1  # depths of the vectors that are added, and deviation of their entries


def layer_rows(seeds: Sequence[int], steps: int) -> Iterator[Record]:
    """Yield a row for each seed and recorded step: how far three layers are from rank one."""
    for seed in seeds:
        problem = random_problem(seed)
        generator = torch.Generator().manual_seed(seed)
        sizes = (problem.inputs.shape[1], HIDDEN, HIDDEN, 1)
        layers = [
            nn.Parameter(
                DEVIATION * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            )
            for columns, rows in pairwise(sizes)
        ]
        optimizer = torch.optim.SGD(layers)
        wanted = {0, *recorded(steps)}
        for step in range(steps + 1):
            if step in wanted:
                yield {"part": "layers", "seed": seed, "step": step, **_alignment(layers)}
            optimizer.zero_grad()
            problem.log_loss(end_to_end_product(layers)).backward()  # type: ignore[no-untyped-call]
            slope = total_norm([layer.grad for layer in layers if layer.grad is not None])
            length = total_norm([layer.detach() for layer in layers])
            optimizer.param_groups[0]["lr"] = min(STEP, SHORT_STEP * length / slope)
            optimizer.step()


def total_norm(tensors: Sequence[Tensor]) -> float:
    """Compute the norm of all entries together."""
    return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())


def _alignment(layers: Sequence[Tensor]) -> Record:
    """Compute the largest share outside rank one, and the least |v_{j+1} . u_j|."""
    parts = [block_svd(layer.detach()) for layer in layers]
    shares = [float(sigma[1:].square().sum() / sigma.square().sum()) for _, sigma, _ in parts]
    aligned = [float((after[2][0] @ before[0][:, 0]).abs()) for before, after in pairwise(parts)]
    return {"outside_rank_one": max(shares), "least_aligned": min(aligned)}


def added_rows(seeds: Sequence[int], steps: int) -> Iterator[Record]:
    """Yield a row for each seed and recorded step: how much of a sum is the shallow vector's."""
    for seed in seeds:
        problem = random_problem(seed)
        generator = torch.Generator().manual_seed(seed)
        shape = (1, problem.inputs.shape[1])
        vectors = [
            nn.Parameter(START * torch.randn(shape, generator=generator, dtype=torch.float64))
            for _ in ADDED
        ]
        groups = [{"params": [w], "depth": n} for w, n in zip(vectors, ADDED, strict=True)]
        optimizer, wanted = EndToEndSGD(groups), {0, *recorded(steps)}
        for step in range(steps + 1):
            shallow, deep = (float(vector.detach().norm()) for vector in vectors)
            if step in wanted:
                row: Record = {"part": "depths added", "seed": seed, "step": step}
                yield row | {"shallow": shallow, "deep": deep, "share": shallow / (shallow + deep)}
            optimizer.zero_grad()
            problem.log_loss(vectors[0] + vectors[1]).backward()  # type: ignore[no-untyped-call]
            rate = _common_rate(problem, vectors)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()


def _common_rate(problem: Separable, vectors: Sequence[Tensor]) -> float:
    """Choose one rate for both, at which neither moves by more than a twentieth of its length."""
    fastest = 0.0
    for vector, depth in zip(vectors, ADDED, strict=True):
        assert vector.grad is not None
        gain = depth * float(vector.detach().norm()) ** (2 - 2 / depth)
        fastest = max(fastest, gain * float(vector.grad.norm()) / float(vector.detach().norm()))
    return min(STEP, ADDED_STEP / fastest)
