"""The matrices that a callback watches, chosen by wildcards over the names of modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from virtualdepth.maths import check_finite, end_to_end_product
from virtualdepth.networks import DeepLinear


@dataclass(frozen=True)
class Target:
    """A layer, or a chain of linear layers, as one matrix.

    Attributes:
        name: the module's name in the LightningModule.
        module: an nn.Linear, an ungrouped convolution, a DeepLinear, a Sequential of nn.Linear;
            none whose weight is parametrized.
        layers: the modules that hold W_1, ..., W_N, W_1 applied first; one for a single layer.
        is_product: whether it is a chain, of however many layers.
    """

    name: str
    module: nn.Module
    layers: tuple[nn.Module, ...]
    is_product: bool

    @property
    def weights(self) -> list[Tensor]:
        """[W_1, ..., W_N] as they are now: strategies may replace parameters after setup."""
        return [layer.get_parameter("weight") for layer in self.layers]

    @property
    def trains(self) -> bool:
        """Whether a gradient reaches a weight now: a toggled optimizer freezes those of others."""
        return any(weight.requires_grad for weight in self.weights)

    @property
    def has_bias(self) -> bool:
        """Whether the layer, or one of the chain's, adds a bias."""
        return any(name.rpartition(".")[2] == "bias" for name, _ in self.module.named_parameters())

    def factors(self) -> list[Tensor]:
        """View each weight as a matrix, convolution kernels as [out, in * kernel size].

        Returns:
            [W_1, ..., W_N] off the autograd graph, at least in float32.

        Raises:
            ValueError: if a weight is not finite.
        """
        matrices = [
            weight.detach().flatten(1).to(torch.promote_types(weight.dtype, torch.float32))
            for weight in self.weights
        ]
        for matrix in matrices:
            check_finite(matrix, self.name)
        return matrices

    def matrix(self) -> Tensor:
        """Multiply the layers.

        Returns:
            The end-to-end matrix, (m, n), off the autograd graph, at least in float32.

        Raises:
            ValueError: if a weight is not finite.
        """
        factors = self.factors()
        # a manual loop steps inside the model's autocast, in which products are of half precision
        with torch.autocast(factors[0].device.type, enabled=False):
            return end_to_end_product(factors)


def find_targets(
    root: nn.Module, patterns: str | Sequence[str], *, products_only: bool = False
) -> list[Target]:
    """Choose matrices by name.

    A pattern chooses a whole product rather than its layers, unless it matches the layers alone:
    of a DeepLinear called ``deep``, ``"*"`` and ``"deep*"`` choose the product, ``"deep.layers.*"``
    the factors.

    Args:
        root: the module whose submodules are named.
        patterns: as of the shell (``*`` matches dots too), one or several.
        products_only: leave single layers out.

    Returns:
        The matrices in the order of ``root.named_modules()``.

    Raises:
        ValueError: if a pattern matches nothing; the message lists what there is.

    >>> model = nn.ModuleDict({"deep": DeepLinear(3, 2, depth=2), "head": nn.Linear(2, 2)})
    >>> [target.name for target in find_targets(model, "*")]
    ['deep', 'head']
    >>> [target.name for target in find_targets(model, "deep.layers.*")]
    ['deep.layers.0', 'deep.layers.1']
    """
    known = [
        target
        for name, module in root.named_modules()
        if (target := _as_target(name, module)) is not None
        and (target.is_product or not products_only)
    ]
    chosen = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = [target for target in known if fnmatchcase(target.name, pattern)]
        if not matched:
            kind = "a DeepLinear or a Sequential of Linear layers" if products_only else "a layer"
            raise ValueError(
                f"layers: expected {pattern!r} to match the name of {kind} but it matches none of "
                f"{[target.name for target in known]}"
            )
        wholes = tuple(f"{target.name}." for target in matched if target.is_product)
        chosen |= {target.name for target in matched if not target.name.startswith(wholes)}
    return [target for target in known if target.name in chosen]


def refuse_sharded(targets: Sequence[Target]) -> None:
    """Refuse matrices of which this process holds a part: rank 0 could not measure them alone.

    Args:
        targets: as training is about to start.

    Raises:
        TypeError: if a weight is sharded.
    """
    for target in targets:
        for weight in target.weights:
            if hasattr(weight, "device_mesh") or weight.ndim < 2:
                raise TypeError(
                    f"{target.name}: expected weights that are whole on each process but got "
                    f"{type(weight).__name__} of shape {tuple(weight.shape)}; monitors work on one "
                    "device and under ddp"
                )


def _as_target(name: str, module: nn.Module) -> Target | None:
    if isinstance(module, DeepLinear | nn.Sequential):
        layers = tuple(module.layers if isinstance(module, DeepLinear) else module)
        if layers and all(map(_is_plain_linear, layers)):
            return Target(name, module, layers, is_product=True)
    if _is_plain_linear(module) or _is_plain_convolution(module):
        return Target(name, module, (module,), is_product=False)
    return None


def _is_plain_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and _holds_its_weight(module)


def _is_plain_convolution(module: nn.Module) -> bool:
    # a grouped kernel is several matrices, a transposed one has its axes the other way round
    is_convolution = isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.groups == 1
    return is_convolution and _holds_its_weight(module)


def _holds_its_weight(module: nn.Module) -> bool:
    # weight and spectral normalisation make it anew at each access, of parameters of their own
    return any(name == "weight" for name, _ in module.named_parameters(recurse=False))
