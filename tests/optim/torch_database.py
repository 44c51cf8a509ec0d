"""Compares EndToEndSGD at depth 1 with what torch's own test database knows of SGD.

A program of its own: importing torch's test utilities freezes flags of torch's back ends.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.testing._internal.common_optimizers import OptimizerErrorEnum, optim_db

from virtualdepth import EndToEndSGD

STEPS = 6
(SGD_INFO,) = [info for info in optim_db if info.optim_cls is SGD]


def model_of(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 4), nn.PReLU()).to(dtype)


def run(optimizer_class: type, options: dict, schedulers: list, dtype: torch.dtype) -> list[Tensor]:
    model = model_of(dtype)
    copies = {k: v.clone() if isinstance(v, Tensor) else v for k, v in options.items()}
    optimizer = optimizer_class(model.parameters(), **copies)
    attached = [make(optimizer) for make in schedulers]
    seen = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model(torch.linspace(-1, 1, 40, dtype=dtype).view(5, 2, 4) + step).square().mean()
        loss.backward()
        optimizer.step()
        for scheduler in attached:
            by_loss = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
            scheduler.step(*([loss.item()] if by_loss else []))
        seen += [p.detach().clone() for p in model.parameters()]
        seen += [state["momentum_buffer"].clone() for state in optimizer.state.values()]
    return seen


def compare() -> int:
    compared = 0
    for dtype in (torch.float32, torch.float64):
        for inputs in SGD_INFO.optim_inputs_func(device="cpu"):
            for schedulers in ([], *SGD_INFO.scheduler_inputs):
                options = {"lr": 1e-3, **inputs.kwargs}
                theirs = run(SGD, options, schedulers, dtype)
                ours = run(EndToEndSGD, {**options, "depth": 1}, schedulers, dtype)
                assert len(ours) == len(theirs), inputs.desc
                assert all(map(torch.equal, ours, theirs)), (inputs.desc, dtype)
                compared += 1
    return compared


def refuse() -> int:
    refused = 0
    for error in SGD_INFO.optim_error_inputs_func("cpu", torch.float32):
        if error.error_on is not OptimizerErrorEnum.CONSTRUCTION_ERROR:
            continue
        inputs = error.optimizer_error_input
        params = [nn.Parameter(torch.ones(2, 2))] if inputs.params is None else inputs.params
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                EndToEndSGD(params, **inputs.kwargs)
            except error.error_type:
                refused += 1
            else:
                raise AssertionError(f"not refused: {inputs.desc}")
    return refused


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{compare()} runs equal, {refuse()} inputs refused")
