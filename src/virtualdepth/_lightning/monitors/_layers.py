"""The layers that a monitor watches, chosen by wildcards over the names of modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from virtualdepth.maths import StructureName, check_finite, end_to_end_product, widened
from virtualdepth.networks import DeepLinear


@dataclass(frozen=True)
class WatchedLayer:
    """One layer, or a product of linear layers, seen as one matrix W.

    Attributes:
        name: the module's name in the LightningModule, as it is without ``torch.compile``.
        module: an nn.Linear, an ungrouped convolution, a DeepLinear, or a Sequential of nn.Linear.
        parts: the modules that hold W_1, ..., W_N, W_1 applied first; a single layer has one. Those
            of a DeepLinear with another structure may be gates or filters.
        is_product: whether it is a DeepLinear or a Sequential, which may have one part too.
    """

    name: str
    module: nn.Module
    parts: tuple[nn.Module, ...]
    is_product: bool

    @property
    def weights(self) -> list[Tensor]:
        """[W_1, ..., W_N] as they are now: strategies may replace parameters after setup."""
        if not all(map(_holds_its_weight, self.parts)):  # pruned during training, say
            raise ValueError(
                "its weight is no longer a parameter but computed from others, as pruning and "
                "weight norm do"
            )
        return [part.get_parameter("weight") for part in self.parts]

    @property
    def structure(self) -> StructureName:
        """The structure that the layers of the product have; "matrix" for a single layer."""
        return self.module.structure if isinstance(self.module, DeepLinear) else "matrix"

    @property
    def imbalance(self) -> float:
        """How much one layer of the product is smaller than the others."""
        return self.module.imbalance if isinstance(self.module, DeepLinear) else 0.0

    @property
    def length(self) -> int:
        """The number of layers that are one behind the other."""
        return len(self.weights)

    def gradient(self) -> Tensor | None:
        """Return dl/dW of a single layer, from its weight, at least in float32; or None."""
        grad = self.weights[0].grad
        return None if grad is None else widened(grad.detach())

    @property
    def trains(self) -> bool:
        """Whether a gradient reaches a weight now: a toggled optimizer freezes those of others."""
        return any(weight.requires_grad for weight in self.weights)

    @property
    def has_bias(self) -> bool:
        """Whether the layer, or a layer of the product, adds a bias."""
        return any(name.rpartition(".")[2] == "bias" for name, _ in self.module.named_parameters())

    def factors(self) -> list[Tensor]:
        """Return [W_1, ..., W_N] as they are stored, detached and at least in float32."""
        factors = [widened(weight.detach()) for weight in self.weights]
        for factor in factors:
            check_finite(factor, self.name)
        return factors

    def array(self) -> Tensor:
        """Return W = W_N ... W_1, as a layer stores it, detached and at least in float32."""
        factors = self.factors()
        if not self.is_product:
            return factors[0]
        # a manual loop steps inside the model's autocast, where products are of half precision
        with torch.autocast(factors[0].device.type, enabled=False):
            return end_to_end_product(factors, structure=self.structure)

    def matrix(self) -> Tensor:
        """Return W as a matrix, (m, n), detached and at least in float32."""
        return self.array().flatten(1)


def find_layers(
    root: nn.Module,
    patterns: str | Sequence[str],
    *,
    products_only: bool = False,
    others: Sequence[WatchedLayer] = (),
) -> list[WatchedLayer]:
    """Choose layers by shell wildcards (``*`` matches dots too), in their order, and ``others``."""
    known, computed = _known_layers(root, products_only)
    known += others
    chosen = set()
    patterns = [patterns] if isinstance(patterns, str) else list(patterns)
    if not patterns:
        raise ValueError("layers: expected one pattern or several but got none; '*' is all")
    for pattern in patterns:
        matched = [layer for layer in known if fnmatchcase(layer.name, pattern)]
        # layers whose weight is computed are there, though they cannot be watched
        if not matched and not any(fnmatchcase(name, pattern) for name in computed):
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


def _known_layers(root: nn.Module, products_only: bool) -> tuple[list[WatchedLayer], list[str]]:
    """List what can be watched, and the names of what could be but for computed weights."""
    known, computed = [], []
    for path, module in root.named_modules():
        # torch.compile puts a module around the one that it compiles
        name = ".".join(part for part in path.split(".") if part != "_orig_mod")
        layer = _as_layer(name, module)
        if layer is None or (products_only and not layer.is_product):
            continue
        if all(map(_holds_its_weight, layer.parts)):
            known.append(layer)
        else:
            computed.append(name)
    return known, computed


def refuse_sharded(layers: Sequence[WatchedLayer]) -> None:
    """Refuse weights of which this process holds only a part: rank 0 measures alone."""
    for layer in layers:
        for weight in layer.weights:
            if is_lazy(weight):
                continue
            flat = weight.ndim < 2 and layer.structure == "matrix"  # else it may be gates
            if hasattr(weight, "device_mesh") or flat:
                raise TypeError(
                    f"{layer.name}: expected weights that are whole on each process but got "
                    f"{type(weight).__name__} of shape {tuple(weight.shape)}; monitors work on one "
                    "device and under ddp"
                )


def _as_layer(name: str, module: nn.Module) -> WatchedLayer | None:
    if isinstance(module, DeepLinear | nn.Sequential):
        parts = tuple(module.layers if isinstance(module, DeepLinear) else module)
        structured = isinstance(module, DeepLinear) and module.structure != "matrix"
        if parts and (structured or all(isinstance(part, nn.Linear) for part in parts)):
            return WatchedLayer(name, module, parts, is_product=True)
    if isinstance(module, nn.Linear) or _is_plain_convolution(module):
        return WatchedLayer(name, module, (module,), is_product=False)
    return None


def _is_plain_convolution(module: nn.Module) -> bool:
    # a grouped kernel is several matrices; a transposed one has its axes the other way round
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1


def _holds_its_weight(module: nn.Module) -> bool:
    # weight and spectral normalisation compute it anew at each access, from other parameters;
    # quantised layers store integers that stand for it
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.is_floating_point()
