"""A small network to train, and comparison to the last bit."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def small_network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """A kernel, two matrices and three biases, without touching the global generator's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)
        ).to(dtype)


def loss_of(model: nn.Module, batch: int) -> Tensor:
    """The loss on the numbered batch: the same one however often it is asked for."""
    generator = torch.Generator().manual_seed(1000 + batch)
    dtype = next(model.parameters()).dtype
    inputs = torch.randn(6, 2, 3, 3, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randn(6, 2, generator=generator, dtype=torch.float64).to(dtype)
    return nn.functional.mse_loss(model(inputs), targets)


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, start: int = 0
) -> None:
    for batch in range(start, start + steps):
        optimizer.zero_grad()
        loss_of(model, batch).backward()
        optimizer.step()


def random_tensor(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def copy_of(value: Any) -> Any:
    """A snapshot that shares no memory with what optimizers and models hold."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copy_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [copy_of(item) for item in value]
    return value


def bits(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def assert_bitwise(actual: Any, expected: Any, where: str = "value") -> None:
    """Compare nested values: numbers by type and value, tensors to the last bit, NaN included."""
    if isinstance(expected, Tensor):
        assert isinstance(actual, Tensor), where
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), where
        assert actual.layout == expected.layout, where
        assert torch.equal(bits(actual), bits(expected)), f"{where}: {actual} is not {expected}"
    elif isinstance(expected, Mapping):
        assert actual.keys() == expected.keys(), where
        for key in expected:
            assert_bitwise(actual[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), where
        for index, item in enumerate(expected):
            assert_bitwise(actual[index], item, f"{where}[{index}]")
    else:
        assert type(actual) is type(expected), where
        assert actual == expected or (actual != actual and expected != expected), where  # NaN


def everything(params: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A snapshot of all that a step may change."""
    if isinstance(params, nn.Module):
        params = params.parameters()
    return copy_of({"params": list(params), "optimizer": optimizer.state_dict()})


def through_a_file(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)
