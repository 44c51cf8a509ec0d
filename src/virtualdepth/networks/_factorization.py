"""What became of each layer of a model that was made thin."""

from collections.abc import Iterator
from dataclasses import dataclass

from virtualdepth._text import aligned


@dataclass(frozen=True)
class FactorizedLayer:
    """What became of one layer.

    Attributes:
        name: of the layer in the model.
        shape: of its weight.
        rank: of the pair, or min(m, n) of a layer that was left as it is.
        before: number of its weights.
        after: number of the pair's weights.
        error: root of the mean square of what the pair changes in the layer's outputs, without the
            bias, over that of the outputs; over all inputs of norm 1, or those of ``inputs``.
        note: why a layer was left as it is; "" for a pair.
    """

    name: str
    shape: tuple[int, ...]
    rank: int
    before: int
    after: int
    error: float
    note: str = ""


@dataclass(frozen=True)
class Factorization:
    """One :class:`FactorizedLayer` for each linear layer; ``print`` it.

    Attributes:
        layers: in the order of the model.
        parameters: of the whole model before and after, biases and other layers included.
    """

    layers: tuple[FactorizedLayer, ...]
    parameters: tuple[int, int]

    @property
    def ranks(self) -> dict[str, int]:
        """The ranks of the pairs, which make another model of the same shapes by ``rank=``."""
        return {layer.name: layer.rank for layer in self.layers if not layer.note}

    def __iter__(self) -> Iterator[FactorizedLayer]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __str__(self) -> str:
        rows = [["layer", "shape", "rank", "weights", "kept", "error"]]
        rows += [
            [
                layer.name or "(the model)",
                str(layer.shape),
                str(layer.rank),
                str(layer.before),
                str(layer.after),
                layer.note or f"{layer.error:.3g}",
            ]
            for layer in self.layers
        ]
        before, after = self.parameters
        share = f" ({after / before:.1%})" if before else ""
        return "\n".join([*aligned(rows), f"parameters: {before} before, {after} kept{share}"])
