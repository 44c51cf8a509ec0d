"""Starting points for depth: balanced, identity-like and near zero (``virtualdepth.init``).

Depth needs a start away from zero, because the rule does not move a zero matrix. Its bias towards
low rank needs a small start. Each function changes every ``nn.Linear``, convolution and
:class:`DeepLinear` of the module in place, leaves biases as they are, and returns the module. The
random ones start every :class:`virtualdepth.CPTensor` and :class:`virtualdepth.HierarchicalTensor`
too. A convolution counts as the matrices that depth sees: (out, in * kernel), one for each group;
those of a transposed one are (out * kernel, in). The random functions draw from ``generator``, or
from torch's global generator, as torch.nn.init does.

Source: arXiv 1810.02281, Procedure 1 and section 5.
"""

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from virtualdepth.maths import gaussian_start
from virtualdepth.networks._deep_linear import DeepLinear
from virtualdepth.networks._tensors import FactorizedTensor

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)
_LAYERS = (nn.Linear, DeepLinear, *_CONVOLUTIONS)

Layer = (
    nn.Linear
    | DeepLinear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)


@torch.no_grad()
def balanced_(
    module: ModuleT, scale: float, *, generator: torch.Generator | None = None
) -> ModuleT:
    r"""Draw an end-to-end matrix for each linear layer and split it into balanced factors.

    The entries of W are independent Gaussians of standard deviation ``scale / sqrt(n)`` for n
    inputs. A :class:`DeepLinear` gets exactly balanced factors of W, of its structure and its
    imbalance; any other layer gets W itself. So a linear layer and its deep twin start from the
    same function, given the same generator state.

    The components of a :class:`virtualdepth.CPTensor`, and those of the top of a
    :class:`virtualdepth.HierarchicalTensor`, get random directions and the norm ``scale``; all
    vectors of a component get one norm.

    Args:
        module: a layer, or a module that contains layers.
        scale: in units of the output's root mean square for inputs of unit variance, > 0.
        generator: where the random numbers come from.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module, or ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no such layer, or the
            weight of one is lazy or parametrized.

    Source: arXiv 1810.02281, Procedure 1.

    >>> generator = torch.Generator().manual_seed(0)
    >>> deep = balanced_(DeepLinear(3, 2, depth=4), 0.1, generator=generator)
    >>> single = balanced_(nn.Linear(3, 2), 0.1, generator=generator.manual_seed(0))
    >>> torch.allclose(deep.end_to_end(), single.weight, atol=1e-7)
    True
    """
    tensors = _tensors(module)
    for layer in _layers(module, scale, tensors):
        if isinstance(layer, DeepLinear):
            weight = layer.end_to_end()
            drawn = gaussian_start(weight.flatten(1), scale, generator)
            layer.set_end_to_end_(drawn.reshape(weight.shape))
        else:
            _draw(layer, lambda matrices: gaussian_start(matrices, scale, generator))
    for tensor in tensors:
        tensor.draw_balanced_(scale, generator)
    return module


@torch.no_grad()
def identity_(module: ModuleT, scale: float = 1.0) -> ModuleT:
    r"""Make the end-to-end matrix of each linear layer ``scale`` times the identity.

    The factors of a :class:`DeepLinear` are exactly balanced; square ones are
    :math:`\mathrm{scale}^{1/N} I` up to a rotation of the hidden units. A rectangular matrix has
    ``scale`` on its main diagonal and zeros elsewhere. Blocks of zeros, such as entries off the
    diagonal with structure "diagonal", never move without imbalance. A convolution passes its
    channels on, times ``scale``, by the middle of its kernel, as ``torch.nn.init.dirac_`` does; all
    singular values are ``scale`` there too.

    Args:
        module: a layer, or a module that contains layers.
        scale: the value on the diagonal, > 0.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module, or ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no such layer, or the
            weight of one is lazy or parametrized.

    Source: arXiv 1810.02281, section 3 (identity initialization).

    >>> identity_(nn.Linear(3, 2, bias=False), 0.5).weight.detach()
    tensor([[0.5000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.0000]])
    """
    for layer in _layers(module, scale):
        if isinstance(layer, DeepLinear):
            weight = torch.zeros_like(layer.end_to_end())
            middle = weight.view(*weight.shape[:2], -1)[..., 0]  # of a circle, in no place
            middle.copy_(scale * _eye(middle))
            layer.set_end_to_end_(weight)
        elif isinstance(layer, nn.Linear):
            layer.weight.copy_(scale * _eye(layer.weight))
        else:
            nn.init.dirac_(layer.weight, layer.groups).mul_(scale)
    return module


@torch.no_grad()
def near_zero_(
    module: ModuleT, scale: float, *, generator: torch.Generator | None = None
) -> ModuleT:
    """Draw every weight of every layer independently from a Gaussian near zero.

    This is the usual layer-wise start: the factors of a :class:`DeepLinear` are only approximately
    balanced, and its product is of the order scale^N. One with an imbalance is refused, since
    such layers would not have it.

    Args:
        module: a layer, or a module that contains layers.
        scale: the standard deviation of each entry of each factor, > 0.
        generator: where the random numbers come from.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``module`` is not a module, or ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no such layer, or the
            weight of one is lazy or parametrized, or a :class:`DeepLinear` has an imbalance.

    Source: arXiv 1810.02281, section 5 (layer-wise independent initialization).

    >>> near_zero_(nn.Linear(3, 2), 1e-3).weight.abs().max() < 0.01
    tensor(True)
    """
    tensors = _tensors(module)
    layers = _layers(module, scale, tensors)
    for layer in layers:
        if isinstance(layer, DeepLinear) and layer.imbalance > 0:
            raise ValueError(
                f"near_zero_: expected layers of one size but got a DeepLinear of imbalance "
                f"{layer.imbalance}, which independent layers would not have; use init.balanced_"
            )

    def draw(weights: Tensor) -> Tensor:
        return gaussian_start(weights, scale * weights.shape[-1] ** 0.5, generator)

    for layer in layers:
        if isinstance(layer, DeepLinear):
            for factor in layer.factors:
                factor.copy_(draw(factor))
        else:
            _draw(layer, draw)
    for tensor in tensors:
        tensor.draw_near_zero_(scale, generator)
    return module


def _draw(layer: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Give a layer new matrices, (m, n) or (groups, m, n), that ``draw`` makes for their shape."""
    weight, groups = layer.get_parameter("weight"), getattr(layer, "groups", 1)
    matrices = weight.flatten(1)
    if groups > 1:
        matrices = matrices.reshape(groups, -1, matrices.shape[-1])
    if isinstance(layer, _TRANSPOSED):
        weight.copy_(draw(matrices.mT).mT.reshape(weight.shape))
    else:
        weight.copy_(draw(matrices).reshape(weight.shape))


def _eye(weight: Tensor) -> Tensor:
    """Make an identity of the shape, dtype and device of a matrix."""
    return torch.eye(*weight.shape, dtype=weight.dtype, device=weight.device)


def _tensors(module: nn.Module) -> list[FactorizedTensor]:
    """List the factorised tensors of a module."""
    inner = module.modules() if isinstance(module, nn.Module) else ()
    return [each for each in inner if isinstance(each, FactorizedTensor)]


def _layers(
    module: nn.Module, scale: float, tensors: Sequence[FactorizedTensor] = ()
) -> list[Layer]:
    """List the layers of a module; refuse what has none, nor ``tensors``, and bad scales."""
    expected = (
        "module: expected an nn.Linear, a convolution, a DeepLinear or a module that contains one "
        f"but got {type(module).__name__}"
    )
    if not isinstance(module, nn.Module):
        raise TypeError(f"{expected}; pass the layer itself, as in init.balanced_(layer, 1e-2)")
    if isinstance(scale, bool) or not isinstance(scale, Real):
        raise TypeError(f"scale: expected a finite number > 0 but got {scale!r}")
    if not 0 < scale < float("inf"):
        raise ValueError(
            f"scale: expected a finite number > 0 but got {scale!r}; the rule never moves a zero "
            "matrix"
        )
    layers = dict(_named_layers("", module))
    if not layers and not tensors:
        raise ValueError(expected)
    for name, layer in layers.items():
        for part in layer.layers if isinstance(layer, DeepLinear) else [layer]:
            _check_weight(name, part)
    return list(layers.values())


def _named_layers(name: str, module: nn.Module) -> Iterator[tuple[str, Layer]]:
    """Find every layer in a module, with its name, but not the layers of a DeepLinear."""
    if isinstance(module, _LAYERS):
        yield name, module
        return
    for child, inner in module.named_children():
        yield from _named_layers(f"{name}.{child}" if name else child, inner)


def _check_weight(name: str, layer: nn.Module) -> None:
    """Refuse a weight that has no shape yet, or that is computed from other parameters."""
    weight: Any = getattr(layer, "weight", None)
    where = f"{name or 'module'}: expected"
    if is_lazy(weight):
        raise ValueError(f"{where} an initialised layer but got a lazy one; run the model once")
    if not isinstance(weight, nn.Parameter):
        raise ValueError(
            f"{where} a weight that is a parameter but got a parametrized one (weight_norm, "
            "spectral_norm, pruning, ...); choose the start before the parametrization"
        )
