"""Networks in the parametrisation of the tangent kernel, and digits to learn.

Sources: arXiv 1806.07572 (the parametrisation); arXiv 1904.11955, section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from virtualdepth.networks import DeepLinear

TRAINING = 500  # digits; the other 1297 are for the test


class WideNetwork(nn.Module):
    """Gaussian weights of variance 1, and a factor 1 / sqrt(inputs) before each layer."""

    def __init__(self, sizes: Sequence[int], activation: str, generator: torch.Generator) -> None:
        """Draw the layers, ``sizes`` being those of inputs, hidden layers and outputs."""
        super().__init__()
        self.relu = activation == "relu"
        self.weights = nn.ParameterList(
            torch.randn(rows, columns, generator=generator, dtype=torch.float64)
            for columns, rows in pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (samples, inputs) to (samples, outputs)."""
        hidden = inputs
        for number, weight in enumerate(self.weights):
            if self.relu and number:
                hidden = 2**0.5 * torch.relu(hidden)
            hidden = hidden @ weight.T / weight.shape[1] ** 0.5
        return hidden


class DeepTwin(nn.Module):
    """A linear layer whose matrix is the product of N balanced layers."""

    def __init__(self, layer: nn.Linear, depth: int) -> None:
        """Factor the weight of a layer, and copy its bias."""
        super().__init__()
        self.network = DeepLinear.from_weight(layer.weight.detach(), depth)
        self.bias = nn.Parameter(layer.bias.detach().clone())

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (samples, inputs) to (samples, outputs)."""
        found: Tensor = self.network(inputs) + self.bias
        return found


@dataclass(frozen=True, kw_only=True)
class Digits:
    """Scikit-learn's digits, split at random.

    Attributes:
        inputs: training images, (500, 64), each of norm sqrt(64).
        targets: 1 for the digit and 0 for the others, less 1/10, (500, 10).
        test_inputs: the other images, (1297, 64).
        test_labels: their digits, (1297,).
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_labels: Tensor

    def accuracy(self, scores: Tensor) -> float:
        """Return the share of test images whose largest score is the digit's."""
        return float((scores.argmax(1) == self.test_labels).double().mean())


def digits(seed: int) -> Digits:
    """Load and split them."""
    from sklearn.datasets import load_digits

    data, labels = map(torch.from_numpy, load_digits(return_X_y=True))
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    data, labels = data[order], labels[order]
    inputs = data / data.square().mean(1, keepdim=True).sqrt()
    targets = nn.functional.one_hot(labels, 10).double() - 0.1
    return Digits(
        inputs=inputs[:TRAINING],
        targets=targets[:TRAINING],
        test_inputs=inputs[TRAINING:],
        test_labels=labels[TRAINING:],
    )
