"""The networks whose thinning rank_networks.py measures, and their data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pydoc_data.topics import topics

import torch
from networks_common import Data, accuracy, cut
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from virtualdepth.data import load_mnist

CHARACTERS, CONTEXT = 65, 32
WIDTH, HEADS, BLOCKS = 48, 3, 2


def multilayer() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def convolutional() -> nn.Module:
    """Convolutions of 3 x 3 pixels within channels, of one pixel between them."""
    modules: list[nn.Module] = [nn.Conv2d(1, 32, 4, stride=4), nn.ReLU()]
    for before, after, stride in ((32, 128, 2), (128, 128, 1)):
        within = nn.Conv2d(before, before, 3, stride, padding=1, groups=before)
        between = nn.Conv2d(before, after, 1)
        modules += [within, between, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.packed, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        heads = self.packed(self.norms[0](x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.wide(self.norms[1](x))


class Transformer(nn.Module):
    """Predicts the next character. All its matrices but the embeddings are linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*[Block() for _ in range(BLOCKS)], nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, CHARACTERS)

    def forward(self, text: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(self.characters(text) + self.places))
        return found


@torch.no_grad()
def loss(model: nn.Module, data: Data) -> float:
    """Mean negative logarithm of the next character's probability."""
    return cross_entropy(model(data[0]).flatten(0, 1), data[1].flatten()).item()


def digits(folder: str | None, sizes: tuple[int, int, int]) -> list[Data]:
    images, labels = load_mnist(folder)
    return cut((images + 0.5, labels), sizes)


def text(folder: str | None) -> list[Data]:
    """The topics of Python's own help: the 64 most frequent characters, and one for the others."""
    whole = "\n".join(topics.values())
    often = sorted(set(whole), key=whole.count, reverse=True)[: CHARACTERS - 1]
    numbers = {character: number for number, character in enumerate(often)}
    found = torch.tensor([numbers.get(each, CHARACTERS - 1) for each in whole])
    windows = found.unfold(0, CONTEXT + 1, CONTEXT)
    return cut((windows[:, :-1], windows[:, 1:]), (2_400, 800, 1_200))


@dataclass(frozen=True)
class Problem:
    """A network; its training, held-out and test data; and how well it does on some."""

    network: Callable[[], nn.Module]
    data: Callable[[str | None], list[Data]]
    measure: Callable[[nn.Module, Data], float]
    unit: str
    batch: int
    epochs: int
    seen: int  # training samples by which the truncation is whitened
    sign: int = 1  # -1 where less is better


PERCENT = "test accuracy, %"
PROBLEMS = {
    "MLP": Problem(
        multilayer,
        partial(digits, sizes=(10_000, 5_000, 10_000)),
        accuracy,
        PERCENT,
        batch=100,
        epochs=5,
        seen=1000,
    ),
    "ConvNet": Problem(
        convolutional,
        partial(digits, sizes=(10_000, 2_000, 5_000)),
        accuracy,
        PERCENT,
        batch=50,
        epochs=1,
        seen=500,
    ),
    "transformer": Problem(
        Transformer,
        text,
        loss,
        "test loss, nats a character",
        batch=8,
        epochs=1,
        seen=100,
        sign=-1,
    ),
}
