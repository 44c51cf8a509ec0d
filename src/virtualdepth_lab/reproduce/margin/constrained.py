"""Classifiers with structured weights, and the largest margins in the norms that depth induces.

Sources: arXiv 1806.00468 (entries, frequencies); arXiv 1810.02032 (matrices).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from virtualdepth.maths import StructureName, schatten_norm

CLASSES, FEATURES, SAMPLES, MEANS = 6, 20, 48, 3  # of vector outputs; class means span 3 dimensions
LENGTH, POINTS = 32, 12  # of one vector, and of its samples


_cvxpy: Any = cvxpy  # whose functions are not all typed
# of the convex solver, which does not reach its own default on nuclear norms
_ACCURACY = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-6)


@dataclass(frozen=True, kw_only=True)
class Margins:
    """Samples that a weight can separate; every margin is linear in the weight.

    Attributes:
        name: of the classifier.
        structure: of its weight.
        gradients: the derivative of each margin in W, (margins, *shape of W), float64.
        norms: names of the norms that depth 1, 2 and 3 induce.
    """

    name: str
    structure: StructureName
    gradients: Tensor
    norms: tuple[str, str, str]

    def margins(self, weight: Tensor) -> Tensor:
        """Compute all margins, (margins,)."""
        return self.gradients.flatten(1) @ weight.flatten()

    def normalised(self, weight: Tensor, depth: int) -> float:
        """Divide the least margin by the norm of a depth."""
        return float(self.margins(weight).min()) / float(self.norm(weight, depth))

    def norm(self, weight: Tensor, depth: int) -> Tensor:
        r"""Compute :math:`(\\sum_r \\sigma_r^{2/N})^{N/2}`; of frequencies every one counts."""
        if self.structure == "circulant":
            sizes = torch.fft.fft(weight, norm="ortho").abs()
            return schatten_norm(sizes, 2 / depth, structure="diagonal")
        return schatten_norm(weight, 2 / depth, structure=self.structure)

    def largest(self, depth: int) -> Tensor:
        """Minimise the norm of depth 1 or 2 over margins >= 1, by a convex solver."""
        shape = self.gradients.shape[1:]
        unknown = _cvxpy.Variable(tuple(shape))
        flat = unknown if len(shape) == 1 else _cvxpy.vec(unknown, order="C")
        size = _CONVEX["all" if depth == 1 else self.structure](unknown)
        margins = self.gradients.flatten(1).numpy() @ flat
        problem = _cvxpy.Problem(_cvxpy.Minimize(size), [margins >= 1])
        problem.solve(solver=_cvxpy.CLARABEL, **_ACCURACY)
        return torch.from_numpy(np.array(unknown.value, dtype=np.float64))


def _spectrum(unknown: Any) -> Any:
    """Sum the absolute values of all frequencies of a vector."""
    frequencies = np.fft.fft(np.eye(unknown.shape[0]), axis=0, norm="ortho")
    parts = _cvxpy.vstack([frequencies.real @ unknown, frequencies.imag @ unknown])
    return _cvxpy.sum(_cvxpy.norm(parts, 2, axis=0))


_CONVEX: Mapping[str, Callable[[Any], Any]] = {
    "all": _cvxpy.sum_squares,
    "matrix": _cvxpy.normNuc,
    "diagonal": _cvxpy.norm1,
    "circulant": _spectrum,
}


def vector_outputs(seed: int) -> Margins:
    """Draw samples of six classes around means of rank 3; a margin is right minus wrong score."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means = normal(CLASSES, MEANS) @ normal(MEANS, FEATURES)
    labels = torch.arange(SAMPLES) % CLASSES
    inputs = means[labels] + normal(SAMPLES, FEATURES)
    units = torch.eye(CLASSES, dtype=torch.float64)
    differences = units[labels].unsqueeze(1) - units  # e_y - e_j, (samples, classes, classes)
    gradients = differences.unsqueeze(-1) * inputs.view(SAMPLES, 1, 1, FEATURES)
    wrong = one_hot(labels, CLASSES) == 0
    return Margins(
        name="matrix",
        structure="matrix",
        gradients=gradients[wrong],
        norms=("Frobenius", "nuclear", "Schatten-2/3"),
    )


def one_vector(seed: int, structure: StructureName) -> Margins:
    """Draw Gaussian samples of two classes for one vector: of entries, or of frequencies."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(POINTS, LENGTH, generator=generator, dtype=torch.float64)
    normal = torch.randn(LENGTH, generator=generator, dtype=torch.float64)
    signs = torch.sign(inputs @ normal).unsqueeze(1)
    return Margins(
        name={"diagonal": "entries", "circulant": "frequencies"}[structure],
        structure=structure,
        gradients=signs * inputs,
        norms=("l2", "l1", "l2/3"),
    )
