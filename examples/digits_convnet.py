"""Train a small ConvNet on digits in a plain loop, with depth 2 for its kernels and its head."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import virtualdepth as vd

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, test = torch.randperm(len(labels)).split([1500, 297])

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1),
    nn.BatchNorm2d(16),
    nn.ReLU(),
    nn.Conv2d(16, 16, 3, padding=1, groups=2),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(256, 10),
)
# replaces torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
optimizer = vd.EndToEndSGD(vd.param_groups(model, depth=2), lr=0.1, momentum=0.9, step_scale="unit")
print(vd.routing(optimizer))

for epoch in range(3):
    for batch in train[torch.randperm(len(train))].split(100):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        right = (model(images[test]).argmax(1) == labels[test]).float().mean()
    model.train()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, accuracy {right.item():.3f}")
