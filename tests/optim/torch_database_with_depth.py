"""Gives depth to every optimizer of torch, with every option that torch's own tests try.

A program of its own: importing torch's test utilities freezes flags of torch's back ends.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Muon
from torch.testing._internal.common_optimizers import OptimizerInfo, optim_db

from virtualdepth import with_depth

STEPS = 4


def params_of(info: OptimizerInfo, seed: int = 0) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    shapes = [(5, 3), (3, 5)] if info.optim_cls is Muon else [(5, 3), (4,), (2, 3, 2)]
    return [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]


def run(info: OptimizerInfo, options: dict[str, Any], depth: float | None, on: str) -> list[Tensor]:
    params = params_of(info)
    optimizer = info.optim_cls(params, **copy.deepcopy(options))
    if depth is not None:
        with_depth(optimizer, depth, on=on, step_scale="raw")
    targets = params_of(info, 1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = sum((p - q.detach()).square().sum() for p, q in zip(params, targets, strict=True))
        loss.backward()
        return loss

    seen = []
    for step in range(STEPS):
        optimizer.step(closure)
        seen += [p.detach().clone() for p in params]
        if step == 1:  # torch casts some state when it loads it
            checkpoint = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(checkpoint)
    return seen


def main() -> None:
    compared, names = 0, set()
    for info in optim_db:
        if info.only_supports_sparse_grads:
            continue
        for inputs in info.optim_inputs_func(device="cpu"):
            for on in ("gradient", "update"):
                if info.step_requires_closure and on == "gradient":
                    continue  # LBFGS, which is refused
                bare = run(info, inputs.kwargs, None, on)
                plain = run(info, inputs.kwargs, 1, on)
                assert all(map(torch.equal, bare, plain)), (info.name, on, inputs.desc)
                deep = run(info, inputs.kwargs, 3, on)
                assert all(torch.isfinite(p).all() for p in deep), (info.name, on, inputs.desc)
                assert not torch.equal(deep[0], bare[0]), (info.name, on, inputs.desc)
                compared += 1
                names.add(info.name)
    print(f"{compared} runs of {len(names)} optimizers equal at depth 1, finite at depth 3")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
