"""What the layers of a model see: second moments of their inputs."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from virtualdepth.maths import check_finite, most_exact
from virtualdepth.networks._thin_pair import LinearLayer


def second_moments(
    model: nn.Module, layers: Mapping[str, LinearLayer], inputs: Iterable[Any]
) -> dict[str, Tensor]:
    """Sum x x^T over what each layer sees while the model runs, without training, on inputs.

    The model's modes are as before when it returns.

    Returns:
        (n, n) for each layer that saw something.

    Raises:
        TypeError: if ``inputs`` are no batches.
        ValueError: if there are none, or what a layer saw is not finite.
    """
    if isinstance(inputs, Tensor | str | bytes | Mapping) or not isinstance(inputs, Iterable):
        raise TypeError(
            "inputs: expected an iterable of batches, such as a DataLoader, but got "
            f"{type(inputs).__name__}; give [inputs] for a single batch"
        )
    sums: dict[str, Tensor] = {}
    modes = {module: module.training for module in model.modules()}
    handles = [
        layer.register_forward_pre_hook(partial(_add, sums, name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    device = next(iter(layers.values())).weight.device if layers else None
    model.eval()
    try:
        with torch.no_grad():
            count = 0
            for batch in inputs:
                _run(model, tree_map(partial(_moved, device), batch))
                count += 1
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise ValueError("inputs: expected at least one batch but got none")
    for name, total in sums.items():
        check_finite(total, f"inputs of {name or 'the model'}")
    return sums


def _moved(device: Any, value: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _run(model: nn.Module, batch: Any) -> None:
    """Call the model: a tuple or a list begins with its input, a mapping names its arguments."""
    if isinstance(batch, Mapping):
        model(**batch)
    else:
        model(batch[0] if isinstance(batch, tuple | list) else batch)


def _add(
    sums: dict[str, Tensor],
    name: str,
    layer: LinearLayer,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Add x x^T of the vectors that a layer multiplies."""
    seen = args[0] if args else next(iter(kwargs.values()))
    seen = _vectors(layer, seen.detach())
    seen = most_exact(seen)  # small eigenvalues are squares
    total = seen.mT @ seen
    sums[name] = sums[name] + total if name in sums else total


def _vectors(layer: LinearLayer, seen: Tensor) -> Tensor:
    """List the vectors (count, n) that a layer multiplies by its weight."""
    if not isinstance(layer, nn.Linear):
        pads = [0] * len(layer.stride) if isinstance(layer.padding, str) else layer.padding
        places: list[Any] = [
            slice(-pad % stride, None, stride)
            for pad, stride in zip(pads, layer.stride, strict=True)
        ]
        seen = seen[(..., *places)].movedim(-len(places) - 1, -1)
    return seen.reshape(-1, seen.shape[-1])
