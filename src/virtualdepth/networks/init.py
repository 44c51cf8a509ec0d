"""Starting points for depth: balanced, identity-like and near zero (``virtualdepth.init``).

Depth needs a start away from zero, because the rule does not move a zero matrix. Its bias towards
low rank needs a small start. Each function changes every ``nn.Linear`` and :class:`DeepLinear` of
the module in place, leaves biases as they are, and returns the module. The random ones draw from
``generator``, or from torch's global generator, as torch.nn.init does.

Source: arXiv 1810.02281, Procedure 1 and section 5.
"""

from collections.abc import Callable, Iterator
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor, nn

from virtualdepth.maths import gaussian_start
from virtualdepth.networks._deep_linear import DeepLinear

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def balanced_(
    module: ModuleT, scale: float, *, generator: torch.Generator | None = None
) -> ModuleT:
    r"""Draw an end-to-end matrix for each linear layer and split it into balanced factors.

    The entries of W are independent Gaussians of standard deviation ``scale / sqrt(n)`` for n
    inputs. A :class:`DeepLinear` gets exactly balanced factors of W, an ``nn.Linear`` W itself. So
    both start from the same function, given the same generator state.

    Args:
        module: a layer, or a module that contains layers.
        scale: in units of the output's root mean square for inputs of unit variance, > 0.
        generator: where the random numbers come from.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no linear layer.

    Source: arXiv 1810.02281, Procedure 1.

    >>> generator = torch.Generator().manual_seed(0)
    >>> deep = balanced_(DeepLinear(3, 2, depth=4), 0.1, generator=generator)
    >>> single = balanced_(nn.Linear(3, 2), 0.1, generator=generator.manual_seed(0))
    >>> torch.allclose(deep.end_to_end(), single.weight, atol=1e-7)
    True
    """

    def draw(weight: Tensor) -> Tensor:
        return gaussian_start(weight, scale, generator)

    return _set_end_to_end(module, scale, draw)


def identity_(module: ModuleT, scale: float = 1.0) -> ModuleT:
    r"""Make the end-to-end matrix of each linear layer ``scale`` times the identity.

    The factors of a :class:`DeepLinear` are exactly balanced; square ones are
    :math:`\mathrm{scale}^{1/N} I` up to a rotation of the hidden units. A rectangular matrix has
    ``scale`` on its main diagonal and zeros elsewhere.

    Args:
        module: a layer, or a module that contains layers.
        scale: the value on the diagonal, > 0.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no linear layer.

    Source: arXiv 1810.02281, section 3 (identity initialization).

    >>> identity_(nn.Linear(3, 2, bias=False), 0.5).weight.detach()
    tensor([[0.5000, 0.0000, 0.0000],
            [0.0000, 0.5000, 0.0000]])
    """

    def draw(weight: Tensor) -> Tensor:
        return scale * torch.eye(*weight.shape, dtype=weight.dtype, device=weight.device)

    return _set_end_to_end(module, scale, draw)


@torch.no_grad()
def near_zero_(
    module: ModuleT, scale: float, *, generator: torch.Generator | None = None
) -> ModuleT:
    """Draw every weight of every layer independently from a Gaussian near zero.

    This is the usual layer-wise start: the factors of a :class:`DeepLinear` are only approximately
    balanced, and its product is of the order scale^N.

    Args:
        module: a layer, or a module that contains layers.
        scale: the standard deviation of each entry of each factor, > 0.
        generator: where the random numbers come from.

    Returns:
        ``module``.

    Raises:
        TypeError: if ``scale`` is not a real number.
        ValueError: if ``scale`` is not positive and finite, or there is no linear layer.

    Source: arXiv 1810.02281, section 5 (layer-wise independent initialization).

    >>> near_zero_(nn.Linear(3, 2), 1e-3).weight.abs().max() < 0.01
    tensor(True)
    """
    for layer in _layers(module, scale):
        for weight in layer.factors if isinstance(layer, DeepLinear) else [layer.weight]:
            weight.copy_(gaussian_start(weight, scale * weight.shape[1] ** 0.5, generator))
    return module


@torch.no_grad()
def _set_end_to_end(module: ModuleT, scale: float, draw: Callable[[Tensor], Tensor]) -> ModuleT:
    """Give every layer the end-to-end matrix that ``draw`` makes for its shape."""
    for layer in _layers(module, scale):
        if isinstance(layer, DeepLinear):
            layer.set_end_to_end_(draw(layer.end_to_end()))
        else:
            layer.weight.copy_(draw(layer.weight))
    return module


def _layers(module: nn.Module, scale: float) -> list[nn.Linear | DeepLinear]:
    """List the linear layers of a module; refuse a bad scale, or a module without any."""
    if isinstance(scale, bool) or not isinstance(scale, Real):
        raise TypeError(f"scale: expected a finite number > 0 but got {scale!r}")
    if not 0 < scale < float("inf"):
        raise ValueError(
            f"scale: expected a finite number > 0 but got {scale!r}; the rule never moves a zero "
            "matrix"
        )
    layers = list(_linear_layers(module))
    if not layers:
        raise ValueError(
            "module: expected an nn.Linear, a DeepLinear or a module that contains one but got "
            f"{type(module).__name__}"
        )
    return layers


def _linear_layers(module: nn.Module) -> Iterator[nn.Linear | DeepLinear]:
    """Find every nn.Linear and DeepLinear in a module, but not the layers of a DeepLinear."""
    if isinstance(module, (nn.Linear, DeepLinear)):
        yield module
        return
    for child in module.children():
        yield from _linear_layers(child)
