"""Give depth to AdamW, in place: it keeps its rules and its state, and W moves by P_W(update).

A 60 x 60 matrix of rank 3 is learned from a third of its entries, in batches of 200, by AdamW alone
and by AdamW with depth 2. Each has the rate that is best for it of 0.1, 0.3, 1 and 3.
"""

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

import virtualdepth as vd

SIZE, RANK, STEPS = 60, 3, 400
torch.set_num_threads(1)  # more threads are slower for such small matrices


def unseen_error(depth: float, lr: float) -> float:
    """Train, and return the mean square of the error on unseen entries; the truth's is 1."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, SIZE, RANK, generator=generator)
    truth = left @ right.T
    truth /= truth.square().mean().sqrt()
    order = torch.randperm(SIZE * SIZE, generator=generator)
    seen, unseen = order[:1200], order[1200:]

    layer = vd.init.balanced_(nn.Linear(SIZE, SIZE, bias=False), 1e-2, generator=generator)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=lr)
    vd.with_depth(optimizer, depth)
    schedule = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        batch = seen[torch.randint(len(seen), (200,), generator=generator)]
        optimizer.zero_grad()
        (layer.weight - truth).flatten()[batch].square().sum().backward()
        optimizer.step()
        schedule.step()
    return (layer.weight - truth).flatten()[unseen].square().mean().item()


if __name__ == "__main__":
    for name, depth in (("AdamW", 1), ("AdamW with depth 2", 2)):
        errors = {lr: unseen_error(depth, lr) for lr in (0.1, 0.3, 1.0, 3.0)}
        lr = min(errors, key=errors.__getitem__)
        print(f"{name:18}  rate {lr:4}  error on unseen entries {errors[lr]:.3f}")
