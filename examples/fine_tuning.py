"""Fine-tune with a low-rank change: origin="init" gives depth to W - W(0).

A layer of full rank stands for the pretrained one. The task adds a matrix of rank 2 to it and shows
35 % of the entries of the result. Depth on the change finds it. Plain steps only fit what they see.
"""

import torch
from torch import nn

import virtualdepth as vd

torch.set_num_threads(1)  # more threads are slower for such small matrices
generator = torch.Generator().manual_seed(0)
pretrained = torch.randn(32, 32, generator=generator)
change = torch.randn(32, 2, generator=generator) @ torch.randn(2, 32, generator=generator)
seen = torch.rand(32, 32, generator=generator) < 0.35


def fine_tune(**options: object) -> torch.Tensor:
    layer = nn.Linear(32, 32, bias=False)
    with torch.no_grad():
        layer.weight.copy_(pretrained)
    optimizer = vd.EndToEndSGD(layer.parameters(), **options)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = (layer.weight - pretrained - change)[seen].square().sum() / 2
        loss.backward()
        optimizer.step()
    return layer.weight.detach() - pretrained


for name, options in {
    "plain": {"lr": 0.5, "depth": 1},
    "depth 3 on W": {"lr": 0.5, "depth": 3, "step_scale": "unit"},
    "depth 3 on W - W(0)": {"lr": 0.5, "depth": 3, "step_scale": "unit", "origin": "init"},
}.items():
    found = fine_tune(**options)
    error = (found - change).norm() / change.norm()
    rank = vd.effective_rank(found)
    print(f"{name:20} relative error {error:.3f}, effective rank of the change {rank:.1f}")
