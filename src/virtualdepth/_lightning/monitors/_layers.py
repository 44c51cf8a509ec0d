"""The layers that a monitor watches, chosen by wildcards over the names of modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from virtualdepth.maths import check_finite, end_to_end_product, widened
from virtualdepth.networks import DeepLinear


@dataclass(frozen=True)
class WatchedLayer:
    """One layer, or a product of linear layers, seen as one matrix W.

    Attributes:
        name: the module's name in the LightningModule.
        module: an nn.Linear, an ungrouped convolution, a DeepLinear, or a Sequential of nn.Linear.
        parts: the modules that hold W_1, ..., W_N, W_1 applied first; a single layer has one.
        is_product: whether it is a DeepLinear or a Sequential, which may have one part too.
    """

    name: str
    module: nn.Module
    parts: tuple[nn.Module, ...]
    is_product: bool

    @property
    def weights(self) -> list[Tensor]:
        """[W_1, ..., W_N] as they are now: strategies may replace parameters after setup."""
        return [part.get_parameter("weight") for part in self.parts]

    @property
    def trains(self) -> bool:
        """Whether a gradient reaches a weight now: a toggled optimizer freezes those of others."""
        return any(weight.requires_grad for weight in self.weights)

    @property
    def has_bias(self) -> bool:
        """Whether the layer, or a layer of the product, adds a bias."""
        return any(name.rpartition(".")[2] == "bias" for name, _ in self.module.named_parameters())

    def factors(self) -> list[Tensor]:
        """Return [W_1, ..., W_N] as matrices, detached and at least in float32."""
        matrices = [widened(weight.detach().flatten(1)) for weight in self.weights]
        for matrix in matrices:
            check_finite(matrix, self.name)
        return matrices

    def matrix(self) -> Tensor:
        """Return W = W_N ... W_1, (m, n), detached and at least in float32."""
        factors = self.factors()
        # a manual loop steps inside the model's autocast, where products are of half precision
        with torch.autocast(factors[0].device.type, enabled=False):
            return end_to_end_product(factors)


def find_layers(
    root: nn.Module, patterns: str | Sequence[str], *, products_only: bool = False
) -> list[WatchedLayer]:
    """Choose layers by shell wildcards (``*`` matches dots too), in the order of the modules."""
    known = [
        layer
        for name, module in root.named_modules()
        if (layer := _as_layer(name, module)) is not None
        and (layer.is_product or not products_only)
    ]
    chosen = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = [layer for layer in known if fnmatchcase(layer.name, pattern)]
        if not matched:
            kind = "a DeepLinear or a Sequential of Linear layers" if products_only else "a layer"
            raise ValueError(
                f"layers: expected {pattern!r} to match the name of {kind} but it matches none of "
                f"{[layer.name for layer in known]}"
            )
        # a pattern that matches a product and its layers, as "deep*" does, chooses the product;
        # "deep.layers.*" matches the layers alone, and chooses them
        inside_products = tuple(f"{layer.name}." for layer in matched if layer.is_product)
        chosen |= {layer.name for layer in matched if not layer.name.startswith(inside_products)}
    return [layer for layer in known if layer.name in chosen]


def refuse_sharded(layers: Sequence[WatchedLayer]) -> None:
    """Refuse weights of which this process holds only a part: rank 0 measures alone."""
    for layer in layers:
        for weight in layer.weights:
            if hasattr(weight, "device_mesh") or weight.ndim < 2:
                raise TypeError(
                    f"{layer.name}: expected weights that are whole on each process but got "
                    f"{type(weight).__name__} of shape {tuple(weight.shape)}; monitors work on one "
                    "device and under ddp"
                )


def _as_layer(name: str, module: nn.Module) -> WatchedLayer | None:
    if isinstance(module, DeepLinear | nn.Sequential):
        parts = tuple(module.layers if isinstance(module, DeepLinear) else module)
        if parts and all(map(_is_plain_linear, parts)):
            return WatchedLayer(name, module, parts, is_product=True)
    if _is_plain_linear(module) or _is_plain_convolution(module):
        return WatchedLayer(name, module, (module,), is_product=False)
    return None


def _is_plain_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and _holds_its_weight(module)


def _is_plain_convolution(module: nn.Module) -> bool:
    # a grouped kernel is several matrices; a transposed one has its axes the other way round
    is_convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1
    return is_convolution and _holds_its_weight(module)


def _holds_its_weight(module: nn.Module) -> bool:
    # weight and spectral normalisation compute it anew at each access, from other parameters
    return any(name == "weight" for name, _ in module.named_parameters(recurse=False))
