"""Give depth to AdamW: it keeps its rules and its state, and its updates are preconditioned."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import virtualdepth as vd

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
vd.with_depth(optimizer, depth=2, on="update", step_scale="unit")  # changes it in place

for step in range(90):
    batch = torch.randint(len(labels), (200,))
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 30 == 29:
        print(f"step {step + 1}: loss {loss.item():.3f}")
