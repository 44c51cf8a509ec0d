"""Two classes that a hyperplane through the origin separates, and the one of largest margin."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from virtualdepth.maths import normalized_margin

# beyond this margin log(log(1 + e^-m)) is -m to the last bit of float64, and e^-m still a number
_TAIL = 40.0


@dataclass(frozen=True, kw_only=True)
class Separable:
    """Samples of two classes in the unit ball, under the logistic loss.

    Attributes:
        name: of the data.
        inputs: x as rows, (samples, n), float64, the longest of length 1.
        labels: 0 or 1, (samples,), int64.
    """

    name: str
    inputs: Tensor
    labels: Tensor

    def log_loss(self, weight: Tensor) -> Tensor:
        r"""Return the logarithm of the sum of :math:`\log(1 + e^{-m_i})`, m the margins at W.

        W is (1, n). Value and gradient are finite for margins of any size.
        """
        margins = (2 * self.labels - 1) * (self.inputs @ weight.T).squeeze(-1)
        near = softplus(-margins.clamp(max=_TAIL)).log()
        return torch.where(margins > _TAIL, -margins, near).logsumexp(0)

    def margin(self, weight: Tensor) -> float:
        """Return the smallest margin over the norm of W, (1, n); negative if a sample is wrong."""
        scores = (self.inputs @ weight.T).squeeze(-1)
        return float(normalized_margin(scores, self.labels, weight))

    def largest_margin(self) -> Tensor:
        """Return the direction of the largest margin, (1, n), by a support vector machine.

        Scikit-learn's hyperplanes have an offset. The best offset is 0 on the samples together with
        their mirror images: for x of one class, -x of the other.
        """
        from sklearn.svm import SVC

        points = torch.cat([self.inputs, -self.inputs]).numpy()
        classes = torch.cat([self.labels, 1 - self.labels]).numpy()
        machine = SVC(kernel="linear", C=1e10, tol=1e-10).fit(points, classes)
        direction = torch.tensor(machine.coef_, dtype=torch.float64)
        return torch.nn.functional.normalize(direction)


def random_problem(seed: int, samples: int = 40, features: int = 10) -> Separable:
    """Draw Gaussian points, and label them by their side of a random hyperplane."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(samples, features, generator=generator, dtype=torch.float64)
    normal = torch.randn(features, generator=generator, dtype=torch.float64)
    return _in_unit_ball("gaussian", inputs, (inputs @ normal > 0).long())


def digits_problem(first: int = 3, second: int = 8) -> Separable:
    """Load two of scikit-learn's digits: 8 x 8 images and a constant feature."""
    from sklearn.datasets import load_digits

    data, digits = load_digits(return_X_y=True)
    chosen = (digits == first) | (digits == second)
    inputs = torch.from_numpy(np.column_stack([data[chosen] / 16, np.ones(chosen.sum())]))
    labels = torch.from_numpy((digits[chosen] == second).astype(np.int64))
    return _in_unit_ball(f"digits {first} and {second}", inputs, labels)


def _in_unit_ball(name: str, inputs: Tensor, labels: Tensor) -> Separable:
    return Separable(name=name, inputs=inputs / inputs.norm(dim=1).max(), labels=labels)


def angle(first: Tensor, second: Tensor) -> Tensor:
    """Return the angles between rows, (k, n) and (k or 1, n), in radians, (k,).

    Small angles keep their full precision.

    >>> angle(torch.tensor([[1.0, 0.0], [1.0, 1e-6]]), torch.tensor([[2.0, 0.0]]))
    tensor([0.0000e+00, 1.0000e-06])
    """
    one, other = (rows / rows.norm(dim=1, keepdim=True) for rows in (first, second))
    return 2 * torch.atan2((one - other).norm(dim=1), (one + other).norm(dim=1))
