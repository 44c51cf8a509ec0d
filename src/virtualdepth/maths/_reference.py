"""The paper's formulas written literally: slow, for tests and for readers.

Nothing in the package calls these. They raise Gram matrices to fractional powers, which the fast
versions avoid: in working precision the noise of a zero eigenvalue leaks as eps^{1/N}.
"""

import torch
from torch import Tensor


def matrix_power(gram: Tensor, exponent: float) -> Tensor:
    """Raise a symmetric positive semidefinite matrix to a power; to the power 0 it is the identity.

    Args:
        gram: (n, n), symmetric positive semidefinite.
        exponent: >= 0.

    Returns:
        (n, n); the identity at exponent 0, on the null space too.

    >>> matrix_power(torch.diag(torch.tensor([4.0, 0.0])), 0.5)
    tensor([[2., 0.],
            [0., 0.]])
    """
    if exponent == 0:
        return torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    eigenvalues, vectors = torch.linalg.eigh(gram)
    power: Tensor = (vectors * eigenvalues.clamp(min=0).pow(exponent)) @ vectors.T
    return power


def precondition_literally(weight: Tensor, grad: Tensor, depth: int) -> Tensor:
    r"""Sum :math:`\sum_{j=1}^{N} [W W^\top]^{(N-j)/N}\, G\, [W^\top W]^{(j-1)/N}` term by term.

    Args:
        weight: W, (m, n).
        grad: G, (m, n).
        depth: number of layers N, a positive integer.

    Returns:
        P_W(G), (m, n).

    Source: arXiv 1802.06509, Theorem 1, equation 10.

    >>> precondition_literally(torch.diag(torch.tensor([4.0, 9.0])), torch.ones(2, 2), 2)
    tensor([[ 8., 13.],
            [13., 18.]])
    """
    left, right = weight @ weight.T, weight.T @ weight
    terms = [
        matrix_power(left, (depth - j) / depth) @ grad @ matrix_power(right, (j - 1) / depth)
        for j in range(1, depth + 1)
    ]
    return torch.stack(terms).sum(0)


def end_to_end_step_literally(
    weight: Tensor, grad: Tensor, depth: int, lr: float, weight_decay: float = 0.0
) -> Tensor:
    r"""Take one step :math:`W \leftarrow (1 - \eta\lambda N) W - \eta P_W(G)`.

    Args:
        weight: W, (m, n).
        grad: G, (m, n).
        depth: number of layers N, a positive integer.
        lr: eta.
        weight_decay: lambda, the decay on every factor.

    Returns:
        The next W.

    Source: arXiv 1802.06509, Theorem 1.

    >>> end_to_end_step_literally(torch.eye(2), torch.eye(2), 2, lr=0.1)
    tensor([[0.8000, 0.0000],
            [0.0000, 0.8000]])
    """
    decayed = (1 - lr * weight_decay * depth) * weight
    return decayed - lr * precondition_literally(weight, grad, depth)


def factor_gradients_literally(factors: list[Tensor], grad: Tensor) -> list[Tensor]:
    r"""Chain rule: :math:`dl/dW_j = (W_N \cdots W_{j+1})^\top\, G\, (W_{j-1} \cdots W_1)^\top`.

    Args:
        factors: [W_1, ..., W_N], W_1 applied first.
        grad: G = dl/dW of the end-to-end matrix.

    Returns:
        N gradients, shaped as the factors.

    Source: arXiv 1802.06509, equation 9.

    >>> two = [torch.tensor([[2.0]]), torch.tensor([[5.0]])]
    >>> factor_gradients_literally(two, torch.tensor([[1.0]]))
    [tensor([[5.]]), tensor([[2.]])]
    """
    gradients = []
    for j in range(len(factors)):
        result = grad
        for after in reversed(factors[j + 1 :]):
            result = after.T @ result
        for before in factors[:j]:
            result = result @ before.T
        gradients.append(result)
    return gradients
