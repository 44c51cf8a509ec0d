"""The paper's formulas written literally: slow, for tests and for readers; nothing else calls them.

They raise Gram matrices to fractional powers, which the fast versions avoid: in working precision
the noise of a zero eigenvalue leaks in as eps^{1/N}.
"""

import torch
from torch import Tensor


def matrix_power(gram: Tensor, exponent: float) -> Tensor:
    """Raise a symmetric positive semidefinite (n, n) to a power >= 0; power 0 is the identity."""
    if exponent == 0:
        return torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    eigenvalues, vectors = torch.linalg.eigh(gram)
    power: Tensor = (vectors * eigenvalues.clamp(min=0).pow(exponent)) @ vectors.T
    return power


def precondition_literally(weight: Tensor, grad: Tensor, depth: int) -> Tensor:
    """Sum [W W^T]^{(N-j)/N} G [W^T W]^{(j-1)/N}, j = 1, ..., N (arXiv 1802.06509, equation 10)."""
    left, right = weight @ weight.T, weight.T @ weight
    terms = [
        matrix_power(left, (depth - j) / depth) @ grad @ matrix_power(right, (j - 1) / depth)
        for j in range(1, depth + 1)
    ]
    return torch.stack(terms).sum(0)


def end_to_end_step_literally(
    weight: Tensor, grad: Tensor, depth: int, lr: float, weight_decay: float = 0.0
) -> Tensor:
    """Take one step, W <- (1 - lr weight_decay N) W - lr P_W(G) (arXiv 1802.06509, Theorem 1)."""
    decayed = (1 - lr * weight_decay * depth) * weight
    return decayed - lr * precondition_literally(weight, grad, depth)


def factor_gradients_literally(factors: list[Tensor], grad: Tensor) -> list[Tensor]:
    """Chain rule: dl/dW_j = (W_N ... W_{j+1})^T G (W_{j-1} ... W_1)^T (arXiv 1802.06509, eq. 9)."""
    gradients = []
    for j in range(len(factors)):
        result = grad
        for after in reversed(factors[j + 1 :]):
            result = after.T @ result
        for before in factors[:j]:
            result = result @ before.T
        gradients.append(result)
    return gradients
