"""Train a small ConvNet on digits in a plain loop, with SGD and with depth 2 for its kernels.

The two end alike: depth is no help to an ordinary network. The example shows how kernels, groups
and the head become matrices, and that the rate of SGD stays of use with step_scale="unit".
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import virtualdepth as vd

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
split = torch.Generator().manual_seed(0)
train, test = torch.randperm(len(labels), generator=split).split([1500, 297])


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


for depth in (1, 2):  # depth 1 is torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model = network()
    groups = vd.param_groups(model, depth)
    optimizer = vd.EndToEndSGD(groups, lr=0.1, momentum=0.9, step_scale="unit")
    if depth == 2:
        print(vd.routing(optimizer))
    for _ in range(5):
        for batch in train[torch.randperm(len(train))].split(100):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        right = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"depth {depth}: accuracy {right.item():.3f}, last loss {loss.item():.3f}")
