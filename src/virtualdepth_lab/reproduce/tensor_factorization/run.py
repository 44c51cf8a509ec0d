"""Complete tensors from a part of their entries, and compare ranks of deep and shallow networks.

Sources: arXiv 2102.09972, figure 1 (components of a canonical polyadic factorisation); arXiv
2201.11729 (hierarchical); arXiv 1509.05009, Theorem 1 (depth efficiency).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch

from virtualdepth.maths import Node
from virtualdepth.networks import CPTensor, FactorizedTensor, HierarchicalTensor, init
from virtualdepth_lab.reproduce.result import Keep, Progress, Record, ReproduceConfig, Reproduction
from virtualdepth_lab.reproduce.rows import take_arrays
from virtualdepth_lab.reproduce.tensor_factorization.claims import PUBLISHED, claims
from virtualdepth_lab.reproduce.tensor_factorization.least_squares import alternate
from virtualdepth_lab.reproduce.tensor_factorization.problem import (
    Completion,
    draw_completion,
    matricisation_rank,
)
from virtualdepth_lab.reproduce.tensor_factorization.training import (
    Growth,
    grow,
    most_at_once,
    rising,
)

TITLE = (
    "Tensors completed from a part of their entries by gradient descent on factors: the norms of "
    "the components over the run, for three sizes of the start and for a tree of factors; the same "
    "completion by alternating least squares; the law of component norms beside gradient descent; "
    "and the ranks of matricisations of deep and shallow networks."
)
STARTS = (5e-2, 1e-2, 5e-3)  # the deviation of the entries of the factors
ORDER = 4
SHARE = 1e-5  # of the seen entries' squares that may be left
LEAST = 1e-2  # the source's 1e-6, of the mean squared error of entries of mean square 1e-4
LAW_RATES, LAW_TIME = (0.04, 0.02, 0.01), 25.0
LAW_STARTS = {"components": 0.01, "tree": 0.1}  # norms, in a tree of the top's components
TREES = ((4, 3, 3), (8, 2, 2), (8, 3, 2))  # order, dimension, channels


def run(config: ReproduceConfig, progress: Progress, keep: Keep) -> Reproduction:
    """Return a row for each run, node and tree; the curves are arrays. The runs use the first seed.

    Quick: smaller tensors and fewer components, and claims on ranks only.
    """
    measured = keep(_parts(config))
    arrays = take_arrays(measured)
    return Reproduction(
        name=config.name,
        config=asdict(config) | {"starts": list(STARTS), "share": SHARE},
        published=PUBLISHED,
        measured=measured,
        claims=list(claims(measured, quick=config.quick)),
        arrays=arrays,
    )


def _parts(config: ReproduceConfig) -> dict[str, Callable[[], Iterable[Record]]]:
    quick, seed = config.quick, config.seeds[0]
    rates = LAW_RATES[:2] if quick else LAW_RATES
    parts: dict[str, Callable[[], Iterable[Record]]] = {
        "ranks": partial(rank_rows, config.seeds),
        "law": partial(law_rows, seed, rates),
        "least squares": partial(_alternating_rows, seed, quick),
    }
    for start in STARTS:
        parts[f"components from {start:g}"] = partial(_component_rows, start, seed, quick)
    parts["tree of factors"] = partial(_tree_rows, seed, quick)
    return parts


def _completion(seed: int, quick: bool) -> tuple[Completion, int]:
    """Draw a tensor to complete; return it with its rank."""
    dim, rank, seen = (6, 3, 500) if quick else (10, 5, 2000)
    generator = torch.Generator().manual_seed(seed)
    return draw_completion(CPTensor((dim,) * ORDER, rank), seen, 1.0, generator), rank


def _component_rows(start: float, seed: int, quick: bool) -> Iterator[Record]:
    problem, rank = _completion(seed, quick)
    width, most = (100, 2000) if quick else (300, 9000)
    model = CPTensor(tuple(problem.truth.shape), width)
    growth = _grown(model, problem, start, seed, lr=1e-2, least=LEAST, most=most)
    return _growth_rows("components", growth, start, rank)


def _tree_rows(seed: int, quick: bool) -> Iterator[Record]:
    dim, rank, seen = (4, 2, 128) if quick else (8, 5, 2048)
    generator = torch.Generator().manual_seed(seed)
    truth = HierarchicalTensor((dim,) * ORDER, rank)
    problem = draw_completion(truth, seen, float(dim**ORDER) ** 0.5, generator)
    width, most = (32, 3000) if quick else (128, 20_000)
    tree = HierarchicalTensor((dim,) * ORDER, width)
    start = 5e-3
    growth = _grown(tree, problem, start, seed, lr=2e-2, least=1e-12, most=most)
    return _growth_rows("hierarchical", growth, start, rank)


def law_rows(seed: int, rates: Sequence[float]) -> Iterator[Record]:
    """Yield the gaps between gradient descent and the law at falling rates, for both kinds."""
    shape = (4,) * ORDER
    kinds: dict[str, Callable[[int], FactorizedTensor]] = {
        "components": lambda width: CPTensor(shape, width, dtype=torch.float64),
        "tree": lambda width: HierarchicalTensor(shape, width, dtype=torch.float64),
    }
    for kind, make in kinds.items():
        generator = torch.Generator().manual_seed(seed)
        problem = draw_completion(make(2), 128, 1.0, generator)
        gaps = []
        for rate in rates:
            model = make(10)
            start = torch.Generator().manual_seed(seed + 1)
            init.balanced_(model, LAW_STARTS[kind], generator=start)
            steps = round(LAW_TIME / rate)
            growth = grow(model, problem, lr=rate, most=steps)
            gap = max(
                float((norms - growth.law[node]).abs().max() / norms.max())
                for node, norms in growth.norms.items()
            )
            gaps.append(gap)
        node = max(growth.norms, key=len)
        arrays = {
            f"law_{kind}": growth.norms[node].numpy(),
            f"law_{kind}_law": growth.law[node].numpy(),
            f"law_{kind}_time": rates[-1] * np.array(growth.steps),
        }
        slope = np.polyfit(np.log(rates), np.log(gaps), 1)[0]
        yield {
            "part": "law",
            "kind": kind,
            "rates": list(rates),
            "gaps": gaps,
            "slope": float(slope),
            "error": growth.error,
            "arrays": arrays,
        }


def _grown(
    model: FactorizedTensor, problem: Completion, start: float, seed: int, **options: Any
) -> Growth:
    init.near_zero_(model, start, generator=torch.Generator().manual_seed(seed + 1))
    return grow(model, problem, share=SHARE, **options)


def _growth_rows(part: str, growth: Growth, start: float, rank: int) -> Iterator[Record]:
    """Yield a row for each node, and keep its curves."""
    for node, norms in growth.norms.items():
        name = node_name(node)
        arrays = {
            f"{part}_{start:g}_{name}": norms.numpy(),
            f"{part}_{start:g}_steps": np.array(growth.steps),
        }
        yield {
            "part": part,
            "start": start,
            "axes": name,
            "steps": growth.steps[-1],
            "finished": growth.finished,
            "share_left": growth.share,
            "error": growth.error,
            "norms": [round(each, 4) for each in norms[-1].tolist()],
            "rise_at_step": [growth.steps[place] for place in rising(norms, rank)],
            "most_at_once": most_at_once(norms, rank),
            "cpu_s": growth.cpu_s,
            "arrays": arrays,
        }


def node_name(node: Node) -> str:
    """Name a node by its axes, counted from 1.

    >>> node_name((0, 1))
    '1 2'
    """
    return " ".join(str(axis + 1) for axis in node)


def _alternating_rows(seed: int, quick: bool) -> Iterator[Record]:
    problem, rank = _completion(seed, quick)
    generator = torch.Generator().manual_seed(seed + 2)
    tensor, share, starts, cpu_s = alternate(
        problem, rank, sweeps=100, share=SHARE, restarts=20, generator=generator
    )
    yield {
        "part": "least squares",
        "components": rank,
        "starts": starts,
        "share_left": share,
        "error": problem.error(tensor.to(problem.truth.dtype)),
        "cpu_s": cpu_s,
    }


def rank_rows(seeds: tuple[int, ...]) -> Iterator[Record]:
    """Yield the ranks of matricisations of random networks, deep and shallow."""
    for (order, dim, channels), seed in product(TREES, seeds):
        generator = torch.Generator().manual_seed(seed)
        shape, double = (dim,) * order, torch.float64
        deep = HierarchicalTensor(shape, channels, dtype=double)
        shallow = CPTensor(shape, channels, dtype=double)
        row: Record = {"part": "ranks", "order": order, "dimension": dim, "channels": channels}
        row |= {"seed": seed, "theory": min(channels, dim) ** (order // 2)}
        for name, model in (("deep", deep), ("shallow", shallow)):
            init.near_zero_(model, 1.0, generator=generator)
            tensor = model.tensor().detach()
            row[f"{name}_odd_even"] = matricisation_rank(tensor, list(range(0, order, 2)))
            row[f"{name}_halves"] = matricisation_rank(tensor, list(range(order // 2)))
        yield row
