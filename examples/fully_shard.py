"""Train with weights that fully_shard splits over processes. The optimizer line stays the same.

It prints the loss of SGD and of depth 2. Depth is no help on this task; the example shows that
sharded weights move as whole ones would.

Usage: torchrun --nproc-per-node 2 fully_shard.py
"""

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import virtualdepth as vd


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    rank = dist.get_rank()
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32, device=device) / 16
    labels = torch.tensor(digits.target, device=device)

    for depth in (1, 2):  # depth 1 is torch.optim.SGD
        torch.manual_seed(0)  # the same start on every process
        model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10)).to(device)
        for layer in (model[0], model[2], model):
            fully_shard(layer, mesh=mesh)
        groups = vd.param_groups(model, depth)
        optimizer = vd.EndToEndSGD(groups, lr=0.1, momentum=0.9, step_scale="unit")
        if rank == 0:
            print(vd.routing(optimizer))

        generator = torch.Generator().manual_seed(rank)  # different data on each process
        for _ in range(60):
            batch = torch.randint(len(labels), (100,), generator=generator)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        if rank == 0:
            print(f"depth {depth}: loss {loss.item():.3f}")


if __name__ == "__main__":
    dist.init_process_group()
    main()
    dist.destroy_process_group()
