"""Linear regression under the l_p loss, for a whole batch of weight vectors at once.

Source: arXiv 1802.06509, section 8 (ethanol data, l_2 and l_4 loss).
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from virtualdepth.data import load_ethanol, standardise


@dataclass(frozen=True, kw_only=True)
class LpRegression:
    r"""Fit :math:`l(w) = \frac1{pk} \sum_i (w x_i - y_i)^p` over k samples, p even.

    Attributes:
        inputs: x as rows, (k, n), float64.
        targets: y, (k,).
        power: p, 2 or more, even.
    """

    inputs: Tensor
    targets: Tensor
    power: int

    def objective(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return gradients, (runs, 1, n), and losses, (runs,), at rows w, (runs, 1, n)."""
        residuals = weights.squeeze(1) @ self.inputs.T - self.targets
        powers = residuals.pow(self.power - 2) * residuals
        count = len(self.targets)
        losses = torch.linalg.vecdot(powers, residuals) / (self.power * count)
        return (powers @ self.inputs / count).unsqueeze(1), losses

    def compressed(self) -> "LpRegression":
        r"""Return a problem of at most n + 1 samples with the same loss, where p = 2.

        With the thin QR decomposition :math:`[X\ y] = Q R` and :math:`k'` rows of R, the loss of
        the samples :math:`\sqrt{k'/k}\,R` is that of the data.
        For other p the problem itself is returned.
        """
        if self.power != 2:
            return self
        samples = torch.cat([self.inputs, self.targets.unsqueeze(-1)], dim=1)
        rows = torch.linalg.qr(samples).R
        rows = rows * (len(rows) / len(samples)) ** 0.5
        return LpRegression(inputs=rows[:, :-1].contiguous(), targets=rows[:, -1], power=2)

    def solve(self) -> tuple[Tensor, float]:
        """Return the minimum w, (1, n), and its loss: least squares, then trust-region Newton."""
        inputs = self.inputs.numpy()
        first = torch.linalg.lstsq(self.inputs, self.targets.unsqueeze(-1), driver="gelsd").solution

        def loss_and_grad(point: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> object:
            grads, losses = self.objective(torch.from_numpy(point)[None, None])
            return losses.item(), grads.flatten().numpy()

        def hessian(point: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> object:
            residuals = inputs @ point - self.targets.numpy()
            scales = (self.power - 1) * residuals ** (self.power - 2) / len(inputs)
            return (inputs.T * scales) @ inputs

        found = minimize(
            loss_and_grad,
            first.flatten().numpy(),
            jac=True,
            hess=hessian,
            method="trust-exact",
            options={"gtol": 1e-11},
        )
        return torch.from_numpy(found.x)[None], float(found.fun)


def ethanol_regression(data_dir: str | None, power: int) -> LpRegression:
    """Load the ethanol data, 2565 samples of 128 features, standardised (ddof 0).

    ``data_dir`` holds ethanol/ethanol.npz; default the environment variable VIRTUALDEPTH_DATA.
    """
    features, ppm = load_ethanol(data_dir)
    return LpRegression(
        inputs=standardise(features), targets=standardise(ppm).squeeze(-1), power=power
    )
