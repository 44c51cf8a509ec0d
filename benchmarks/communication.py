"""What each scheme sends in a step: measured on this machine, and on paper for 1024 devices.

Measured: three shapes in float32, cut by rows over 2 and 4 gloo processes; for owners as many of
them as processes, and the bytes of one. "counted" is what torch hands to gloo, by the ring model;
"on the wire" is what the loopback interface carried, divided by the processes: gloo's own way, with
whatever else the machine sent there meanwhile. Bytes depend on shapes alone, so sides of 4096 go
without arithmetic: matrices travel, and what would be computed of them is zero.

On paper: the matrices of a transformer of 70e9 parameters in float32, cut by rows over 1024
devices, or over fewer with copies. Bytes are those of the plan. Flops are those of a decomposition
by Golub and Van Loan (6 m n^2 + 20 n^3, m >= n; 9 n^3 with vectors for a Gram matrix) and of the
products around it, for the device that has most to do. Of float64 in "gram", else of float32.
"""

import math
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing
from common import Row, arguments, parse, report
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from traffic import Traffic

from virtualdepth.distributed import Scheme, ShardedMatrix, local_part, owners, plan, scheme_bytes
from virtualdepth.maths import gram_block_size
from virtualdepth.optim import EndToEndSGD, routing
from virtualdepth.runs import markdown_table

SHAPES, QUICK = ((4096, 4096), (11008, 4096), (50257, 768)), ((64, 64), (172, 64), (785, 12))
SCHEMES = (Scheme.GATHER, Scheme.OWNER, Scheme.GRAM)
MIB, GIB = 2**20, 2**30
# rows, columns, and how many there are: 80 layers, with eight heads of keys and values
TRANSFORMER = {
    "query, output": (8192, 8192, 160),
    "key, value": (1024, 8192, 160),
    "gate, up": (28672, 8192, 160),
    "down": (8192, 28672, 80),
    "head": (32000, 8192, 1),
}


def without_arithmetic() -> ExitStack:
    """Let matrices travel, and put zeros where something would be computed of them."""

    def block(weight: Tensor, grad: Tensor) -> Tensor:
        return torch.zeros(gram_block_size(weight.shape[1]), dtype=torch.float64)

    stack, sharded = ExitStack(), "virtualdepth.optim.sharded"
    stack.enter_context(patch(f"{sharded}._gather.on_whole", lambda part, w, grad, finite: grad))
    stack.enter_context(patch(f"{sharded}._step.gram_block", block))
    stack.enter_context(
        patch(f"{sharded}._step._from_sum", lambda part, _: (0 * local_part(part.grad), 0.0))
    )
    return stack


def cut_by_rows(shape: tuple[int, int], mesh: DeviceMesh) -> DTensor:
    """A matrix that no process ever holds whole."""
    most = math.ceil(shape[0] / mesh.size())
    rows = max(0, min(most, shape[0] - mesh.get_local_rank() * most))
    part = torch.randn(rows, shape[1])
    return DTensor.from_local(
        part, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=(shape[1], 1)
    )


def on_the_wire() -> int:
    """Bytes that the loopback interface has carried since the machine started."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    (received,) = (
        line.split(":")[1].split()[0] for line in lines if line.strip().startswith("lo:")
    )
    return int(received)


def measure(rank: int, processes: int, shapes: Any, arithmetic_up_to: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes
    )
    mesh, rows = init_device_mesh("cpu", (processes,)), []
    for shape in shapes:
        computes = shape[1] <= arithmetic_up_to
        for scheme in SCHEMES:
            count = processes if scheme is Scheme.OWNER else 1
            with ExitStack() if computes else without_arithmetic():
                seen, wire, planned = step(mesh, [shape] * count, scheme)
            if rank == 0:
                print(f"{processes} processes, {shape}, {scheme.value}", flush=True)
            rows.append(
                {
                    "shape": f"{shape[0]} x {shape[1]}",
                    "processes": processes,
                    "scheme": scheme.value,
                    "plan, MiB": round(planned / MIB / count, 3),
                    "counted, MiB": round(seen / MIB / count, 3),
                    "on the wire, MiB": round(wire / MIB / count / processes, 3),
                    "arithmetic": "yes" if computes else "no",
                }
            )
    if rank == 0:
        torch.save(rows, f"{folder}/rows.pt")
    dist.destroy_process_group()


def step(mesh: DeviceMesh, shapes: list[tuple[int, int]], scheme: Scheme) -> tuple[float, ...]:
    """Bytes of the second step: the first also compares the processes' parameters."""
    params = [nn.Parameter(cut_by_rows(shape, mesh)) for shape in shapes]
    optimizer = EndToEndSGD([{"params": params, "scheme": scheme.value}], lr=1e-6, depth=3)
    for p in params:
        p.grad = cut_by_rows(tuple(p.shape), mesh)
    optimizer.step()
    dist.barrier()
    before = on_the_wire()
    with Traffic() as seen:
        optimizer.step()
    dist.barrier()
    wire = on_the_wire() - before
    total = torch.tensor(float(seen.sent))
    dist.all_reduce(total)
    planned = sum(route.step_bytes for route in routing(optimizer))
    return total.item() / mesh.size(), wire, planned


def measured(shapes: Any, arithmetic_up_to: int) -> list[Row]:
    rows: list[Row] = []
    for processes in (2, 4):
        with tempfile.TemporaryDirectory() as folder:
            arguments = (processes, shapes, arithmetic_up_to, folder)
            torch.multiprocessing.spawn(measure, arguments, nprocs=processes)
            rows += torch.load(f"{folder}/rows.pt")
    return rows


def decomposition_flops(m: int, n: int) -> int:
    """Of P_W(G) by the SVD of W."""
    long, short = max(m, n), min(m, n)
    return 6 * long * short**2 + 20 * short**3 + 6 * long * short**2 + 4 * short**3


def gram_flops(m: int, n: int, shards: int) -> int:
    """Of the sums and products on m / p rows, the decomposition, and six n x n products."""
    return 8 * math.ceil(m / shards) * n**2 + 9 * n**3 + 12 * n**3


def flops(scheme: Scheme, shards: int) -> int:
    """Of a step, for the process that has most to do."""
    matrices = [(m, n) for m, n, count in TRANSFORMER.values() for _ in range(count)]
    if scheme is Scheme.GRAM:
        return sum(gram_flops(m, n, shards) for m, n in matrices)
    work = [decomposition_flops(m, n) for m, n in matrices]
    if scheme is Scheme.GATHER:
        return sum(work)
    loads = [0] * shards
    for owner, each in zip(owners(work, shards), work, strict=True):
        loads[owner] += each
    return max(loads)


def on_paper() -> list[Row]:
    rows = []
    for shards, copies in ((1024, 1), (64, 16), (8, 128)):
        matrices = [
            ShardedMatrix((m, n), 1, 4, (shards,), 0)
            for m, n, count in TRANSFORMER.values()
            for _ in range(count)
        ]
        chosen = plan(matrices, [None] * len(matrices))
        engine = 3 * sum(matrix.size * 4 for matrix in matrices) * (shards - 1) / shards
        for scheme in SCHEMES:
            sent = sum(scheme_bytes(matrix)[scheme] for matrix in matrices)
            rows.append(
                {
                    "shards x copies": f"{shards} x {copies}",
                    "scheme": scheme.value,
                    "chosen for": sum(each.scheme is scheme for each in chosen),
                    "GiB sent": round(sent / GIB, 2),
                    "beside fully_shard's": f"{sent / engine:.3g}",
                    "flops": f"{flops(scheme, shards):.3g}",
                }
            )
    return rows


def layers_on_paper() -> list[Row]:
    """MiB of one matrix of each kind, cut into 64."""
    rows = []
    for name, (m, n, count) in TRANSFORMER.items():
        cost = scheme_bytes(ShardedMatrix((m, n), 1, 4, (64,), 0))
        sent = {f"{scheme.value}, MiB": round(cost[scheme] / MIB, 1) for scheme in SCHEMES}
        work = {
            "SVD, flops": f"{decomposition_flops(m, n):.2g}",
            "Gram, flops": f"{gram_flops(m, n, 64):.2g}",
        }
        rows.append({"matrix": name, "shape": f"{m} x {n}", "count": count, **sent, **work})
    return rows


def main() -> None:
    options = parse(arguments(__doc__), "communication.json")
    # of the quick shapes too, one goes without arithmetic
    shapes, arithmetic_up_to = (QUICK, 16) if options.quick else (SHAPES, 1024)
    rows = measured(shapes, arithmetic_up_to)
    paper, layers = on_paper(), layers_on_paper()
    report("communication", options.output, rows, paper=paper, layers=layers)
    print(markdown_table(layers), markdown_table(paper), sep="\n\n")


if __name__ == "__main__":
    main()
