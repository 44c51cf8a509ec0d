"""Two thin layers in the place of one."""

from typing import Any, cast

import torch
from torch import Tensor, nn

LinearLayer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class ThinPair(nn.Sequential):
    r"""Apply :math:`x \mapsto A (B x) + b` in place of :math:`W x + b`, with A (m, r) and B (r, n).

    Its two modules are of the kind of the layer that it replaces, ``nn.Linear`` or a convolution of
    one pixel: the first is B, the second A with the bias.

    Attributes:
        rank: r.
        weight: the product A B, of the shape of the layer's weight, for code that reads it. It is
            made anew at each reading, so writing into it changes nothing.
        bias: of the second layer, or None.
    """

    @classmethod
    def of(cls, layer: LinearLayer, left: Tensor, right: Tensor) -> "ThinPair":
        """Build it in place of a layer, of its dtype, device, mode and whether it is trained."""
        weight, bias, rank = layer.weight, layer.bias, len(right)
        # without a device no random start is made, which would move the global generator
        place: dict[str, Any] = {"device": "meta", "dtype": weight.dtype}
        options: dict[str, Any] = {"bias": bias is not None, **place}
        first: LinearLayer
        second: LinearLayer
        if isinstance(layer, nn.Linear):
            first = nn.Linear(layer.in_features, rank, bias=False, **place)
            second = nn.Linear(rank, layer.out_features, **options)
        else:
            kind, size = type(layer), cast(Any, layer.kernel_size)
            moves: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding}
            first = kind(layer.in_channels, rank, size, bias=False, **moves, **place)
            second = kind(rank, layer.out_channels, size, **options)
        pair = cls(first, second).to_empty(device=weight.device)
        with torch.no_grad():
            for each, matrix in ((first, right), (second, left)):
                each.weight.copy_(matrix.reshape(each.weight.shape))
                each.weight.requires_grad_(weight.requires_grad)
            if bias is not None and second.bias is not None:
                second.bias.copy_(bias)
                second.bias.requires_grad_(bias.requires_grad)
        return pair.train(layer.training)

    @property
    def rank(self) -> int:
        """Inner width r."""
        return len(cast(Tensor, self[0].weight))

    @property
    def weight(self) -> Tensor:
        """Multiply the two layers."""
        right, left = (cast(Tensor, module.weight) for module in self)
        shape = (*left.shape[:1], *right.shape[1:])
        return (left.flatten(1) @ right.flatten(1)).reshape(shape)

    @property
    def bias(self) -> Tensor | None:
        """The bias of the layer that it replaces."""
        return cast(Tensor | None, self[1].bias)
