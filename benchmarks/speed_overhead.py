"""What the optimizer costs beside its algebra: Python, dispatch, memory.

Vectors: a step of many, less torch's own foreach addition on the same tensors. Matrices of 64 x 64,
"svd" at depth 3: a step of many, less the bare function for P_W(G) and the addition for each, so
that what batching saves counts in our favour; of many unlike shapes and of one alone too, where
there is nothing to batch, and of one of 12 x 16. Each with an SVD at every step, and between two
decompositions, where the bare function is P in a basis that is there. All take turns with a step of
torch.optim.SGD, and the overhead is given as a multiple of it.
Depth 1: a step on the shapes of a ResNet-18 against torch.optim.SGD. Memory: the most that a step
holds beyond what there was, update included, in matrices of the parameter's size.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from common import Row
from speed_common import (
    Job,
    Sample,
    alone,
    interleaved,
    peak_bytes,
    product,
    seconds,
    solvers_at,
    state_bytes,
)
from speed_steps import Stepper, ours
from torch import Tensor

import virtualdepth as vd
from virtualdepth.maths import preconditioned_gradient, preconditioner

Kind = Callable[[torch.nn.Parameter], Callable[[], Tensor]]
NEVER = 10**9  # a frequency: after the first step W is not decomposed
RESNET18_BLOCKS = ((64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512))
RESNET18_BLOCKS += ((512, 512),)


def resnet18_shapes() -> list[tuple[int, ...]]:
    """The 62 parameters of a ResNet-18 with 1000 classes, 11.7 million numbers."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    for inner, outer in RESNET18_BLOCKS:
        shapes += [(outer, inner, 3, 3), (outer,), (outer,)]
        shapes += [(outer, outer, 3, 3), (outer,), (outer,)]
        if inner != outer:
            shapes += [(outer, inner, 1, 1), (outer,), (outer,)]
    return [*shapes, (1000, 512), (1000,)]


def parameters(shapes: list[tuple[int, ...]], device: str) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    made = [torch.nn.Parameter(0.1 * torch.randn(shape, device=device)) for shape in shapes]
    for parameter in made:
        parameter.grad = torch.randn_like(parameter)
    return made


def step_sample(kind: Any, shapes: list[tuple[int, ...]], device: str, **options: Any) -> Sample:
    optimizer = kind(parameters(shapes, device), lr=1e-6, **options)
    return lambda: seconds(optimizer.step, device)


def exactly(parameter: torch.nn.Parameter) -> Callable[[], Tensor]:
    return lambda: preconditioned_gradient(parameter, parameter.grad, 3.0).direction


def in_a_basis(parameter: torch.nn.Parameter) -> Callable[[], Tensor]:
    found = preconditioner(parameter.detach(), 3.0)
    return lambda: found.apply(parameter.grad).direction


def algebra(owned: list[torch.nn.Parameter], device: str, kind: Kind = exactly) -> Sample:
    bare = [(parameter, kind(parameter)) for parameter in owned]

    def run() -> None:
        for parameter, update in bare:
            parameter.add_(update(), alpha=-1e-6)

    def without_graph() -> None:
        with torch.no_grad():
            run()

    return lambda: seconds(without_graph, device)


def additions(owned: list[torch.nn.Parameter], device: str) -> Sample:
    grads: list[Tensor] = [p.grad for p in owned if p.grad is not None]

    def run() -> None:
        with torch.no_grad():
            torch._foreach_add_(owned, grads, alpha=-1e-6)

    return lambda: seconds(run, device)


def a_parameter(what: str, shapes: list[tuple[int, ...]], device: str, budget: float) -> list[Row]:
    count, sgd = len(shapes), "torch.optim.SGD"
    bare: dict[str, tuple[int, Sample]]
    if len(shapes[0]) == 1:
        bare = {"no matrices": (1, additions(parameters(shapes, device), device))}
    else:
        owned = [parameters(shapes, device) for _ in range(2)]
        bare = {
            "SVD at every step": (1, algebra(owned[0], device)),
            "between decompositions": (NEVER, algebra(owned[1], device, in_a_basis)),
        }
    samples = {sgd: step_sample(torch.optim.SGD, shapes, device)}
    for kind, (frequency, own) in bare.items():
        options = {"depth": 3, "solver": "svd", "precondition_frequency": frequency}
        samples[f"{kind}, step"] = step_sample(vd.EndToEndSGD, shapes, device, **options)
        samples[f"{kind}, algebra"] = own
    times = interleaved(product((64, 64), device), samples, budget, most=100)
    micro = {name: 1e6 * median(own) / count for name, own in times.items()}
    rows = []
    for kind in bare:
        step, algebra_alone = micro[f"{kind}, step"], micro[f"{kind}, algebra"]
        rows.append(
            {
                "what": f"{count} of {what}",
                "kind": kind,
                "step, us a parameter": step,
                "algebra, us a parameter": algebra_alone,
                "overhead, us a parameter": step - algebra_alone,
                "torch.optim.SGD, us a parameter": micro[sgd],
                "overhead, steps of SGD": (step - algebra_alone) / micro[sgd],
            }
        )
    return rows


def depth_one(momentum: float, device: str, budget: float) -> list[Row]:
    """Two copies of each, since where their memory lies shows too."""
    shapes, options = resnet18_shapes(), {"momentum": momentum}
    samples = {}
    for copy in (1, 2):
        ours = step_sample(vd.EndToEndSGD, shapes, device, depth=1, **options)
        samples[f"step {copy}"] = ours
        samples[f"SGD {copy}"] = step_sample(torch.optim.SGD, shapes, device, **options)
    times = interleaved(product((64, 64), device), samples, budget, most=100)
    step, sgd = ([1e3 * t for copy in "12" for t in times[f"{n} {copy}"]] for n in ("step", "SGD"))
    return [
        {
            "what": f"ResNet-18 shapes, depth 1, momentum {momentum:g}",
            "step, ms": median(step),
            "torch.optim.SGD, ms": median(sgd),
            "ratio": median(step) / median(sgd),
            "ratio of the fastest": min(step) / min(sgd),
        }
    ]


def memory(shape: tuple[int, int], device: str) -> list[Row]:
    rows = []
    for depth in (2, 3):
        for solver in solvers_at(depth):
            stepper = Stepper(ours(solver, depth), shape, device)
            stepper.warm()
            stepper.warm()
            size = stepper.weight.nbytes
            rows.append(
                {
                    "what": f"memory, {shape[0]} x {shape[1]}",
                    "solver": solver,
                    "depth": depth,
                    "peak of a step, matrices": peak_bytes(stepper.optimizer.step, device) / size,
                    "state, matrices": state_bytes(stepper.optimizer) / size,
                }
            )
    return rows


def jobs(options: argparse.Namespace) -> list[Job]:
    device, budget = options.device, 0.1 if options.quick else 1.5
    count = 20 if options.quick else 100
    few, sizes = count // 5, [(64, 64)] if options.quick else [(512, 512), (1024, 256)]
    unlike: list[tuple[int, ...]] = [(64, 64 + more) for more in range(few)]
    return [
        partial(a_parameter, "64", [(64,)] * count, device, budget),
        partial(a_parameter, "64 x 64", [(64, 64)] * few, device, budget),
        partial(a_parameter, "unlike shapes, from 64 x 64", unlike, device, budget),
        partial(a_parameter, "64 x 64", [(64, 64)], device, budget),
        partial(a_parameter, "12 x 16", [(12, 16)], device, budget),
        *(partial(depth_one, momentum, device, 2 * budget) for momentum in (0.0, 0.9)),
        *(partial(memory, size, device) for size in sizes),
    ]


if __name__ == "__main__":
    alone(__doc__, jobs)
