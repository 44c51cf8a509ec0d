"""Linear problems with commuting measurements, whose smallest nuclear norm is known.

Sources: arXiv 1705.09280 (depth 2); arXiv 1905.13655, Theorems 1 and 2 (every depth).
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linprog
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Fit <A_i, W> = y_i under half the sum of squares, the A_i symmetric and commuting.

    Attributes:
        name: of the problem.
        basis: Q, (d, d), orthogonal: A_i = Q diag(a_i) Q^T.
        spectra: the a_i as rows, (k, d).
        values: y, (k,).
    """

    name: str
    basis: Tensor
    spectra: Tensor
    values: Tensor

    def objective(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradient, (d, d), and the loss at W, (d, d)."""
        residual = self.spectra @ (self.basis.T @ weight @ self.basis).diagonal() - self.values
        grad = (self.basis * (self.spectra.T @ residual)) @ self.basis.T
        return grad, residual.square().sum() / 2

    def smallest_nuclear_norm(self) -> float:
        """Return the smallest nuclear norm of a positive semidefinite solution.

        The flow from alpha I stays among these. Averaging a solution over the signs of the basis
        gives a solution Q diag(w) Q^T of the same trace. So a linear programme decides: minimise
        the sum of w over spectra @ w = values, w >= 0.
        """
        size = self.spectra.shape[1]
        found = linprog([1.0] * size, A_eq=self.spectra.numpy(), b_eq=self.values.numpy())
        return float(found.fun)


def random_problem(seed: int, size: int = 6, count: int = 3) -> Measurements:
    """Draw ``count`` commuting measurements of a positive semidefinite matrix of rank 2."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(size, size, generator=generator, dtype=torch.float64)
    spectra = torch.randn(count, size, generator=generator, dtype=torch.float64)
    truth = torch.zeros(size, dtype=torch.float64)
    truth[:2] = torch.tensor([2.0, 1.0])
    basis = torch.linalg.qr(normal)[0]
    return Measurements(name="commuting", basis=basis, spectra=spectra, values=spectra @ truth)


def contradiction() -> Measurements:
    """Build the problem that both diag(0, 0, 2.2) and diag(1, 1, 0) solve.

    Their nuclear norms are 2.2 and 2; their Schatten-2/3 sums of powers are 1.69 and 2.
    """
    spectra = torch.tensor([[1.0, -1.0, 0.0], [1.0, 0.0, 1 / 2.2]], dtype=torch.float64)
    return Measurements(
        name="contradiction",
        basis=torch.eye(3, dtype=torch.float64),
        spectra=spectra,
        values=torch.tensor([0.0, 1.0], dtype=torch.float64),
    )
