"""Tensors as products of vectors: canonical polyadic and hierarchical factorisations."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from virtualdepth.maths import (
    Node,
    component_vectors,
    full_tensor,
    mode_tree,
    tensor_entries,
    vector_norms,
)
from virtualdepth.networks._tensor_sizes import check_dtype, checked_shape, checked_widths, size_of


class FactorizedTensor(nn.Module):
    """A tensor of a tree of factors, see :mod:`virtualdepth.maths._mode_tree`.

    Attributes:
        shape: of the tensor.
        factors: the trained ones, from the leaves up.
        branching: the number of children of a node.
    """

    def __init__(self, shape: tuple[int, ...], branching: int, factors: Sequence[Tensor]) -> None:
        super().__init__()
        self.shape, self.branching = shape, branching
        self.factors = nn.ParameterList(factors)

    def _all_factors(self) -> list[Tensor]:
        """List the factors with those that are not trained."""
        return list(self.factors)

    def tensor(self) -> Tensor:
        """Compute the whole tensor, shaped ``shape``, differentiable."""
        return full_tensor(self._all_factors(), len(self.shape), self.branching)

    def forward(self, indices: Tensor) -> Tensor:
        """Compute single entries, differentiable, without the rest of the tensor.

        Args:
            indices: integers (..., N), one for each axis; none is negative.

        Returns:
            The entries, (...).

        Raises:
            TypeError: if the indices are no integers.
            ValueError: if they are not one for each axis.
            IndexError: on the CPU, if one is out of range.
        """
        order = len(self.shape)
        if not isinstance(indices, Tensor) or indices.dtype not in (torch.int32, torch.int64):
            kind = getattr(indices, "dtype", type(indices).__name__)
            raise TypeError(f"indices: expected a tensor of int64 or int32 but got {kind}")
        if indices.ndim == 0 or indices.shape[-1] != order:
            raise ValueError(
                f"indices: expected shape (..., {order}), one for each axis, but got "
                f"{tuple(indices.shape)}"
            )
        return tensor_entries(self._all_factors(), indices, self.branching)

    def component_vectors(self, factors: Sequence[Tensor]) -> dict[Node, list[Tensor]]:
        """List every node's K matrices (R, ...) of vectors: of the factors, or gradients."""
        return component_vectors(factors, len(self.shape), self.branching)

    def _norms(self) -> dict[Node, Tensor]:
        return {
            node: vector_norms(vectors).prod(0)
            for node, vectors in self.component_vectors(list(self.factors)).items()
        }

    def draw_near_zero_(self, scale: float, generator: torch.Generator | None) -> None:
        """Draw every entry of every factor from a Gaussian."""
        for factor in self.factors:
            factor.copy_(_gaussian(factor, generator)).mul_(scale)

    def draw_balanced_(self, scale: float, generator: torch.Generator | None) -> None:
        """Draw components whose vectors have one norm: at the top, components of norm ``scale``."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the shape."""
        return f"shape={self.shape}"


class CPTensor(FactorizedTensor):
    r"""A sum of R products of vectors, :math:`\sum_r w_r^1 \otimes \dots \otimes w_r^N`.

    The canonical polyadic factorisation, the step from matrices (N = 2) to tensors. Its components
    grow under gradient descent as the singular values of N layers do, each by itself:

    .. math:: \frac{d\sigma_r}{dt} = -N \sigma_r^{2-2/N} \langle G, u_r \rangle, \qquad
        \sigma_r u_r = w_r^1 \otimes \dots \otimes w_r^N

    from a balanced start, see :func:`virtualdepth.maths.component_velocity`. There is no such rule
    for the sum. Train ``factors`` by
    :class:`virtualdepth.EndToEndSGD` with ``structure="rows"`` and ``depth=L``, and N becomes N L.

    Args:
        shape: of the tensor, two axes or more.
        components: R, how many there are at most.
        device: of the factors.
        dtype: of the factors.

    Attributes:
        shape: of the tensor.
        factors: N parameters (R, d), one for each axis: row r is a vector of component r. A new
            one's entries are Gaussian, so that those of the tensor have variance 1;
            :func:`virtualdepth.init.balanced_` and :func:`virtualdepth.init.near_zero_` draw small
            starts.

    Raises:
        TypeError: if a size is no integer, or the dtype is not of real floating-point numbers.
        ValueError: if there are fewer than two axes, or a size is below 1.

    Source: arXiv 2102.09972.

    >>> tensor = CPTensor((2, 2, 2), components=1)
    >>> with torch.no_grad():
    ...     for factor, row in zip(tensor.factors, ([1.0, 0.0], [3.0, 4.0], [0.0, 2.0])):
    ...         _ = factor.copy_(torch.tensor([row]))
    >>> tensor.tensor().detach()[0]  # (3, 4) times (0, 2)
    tensor([[0., 6.],
            [0., 8.]])
    >>> tensor(torch.tensor([[0, 1, 1], [1, 1, 1]])).detach()
    tensor([8., 0.])
    >>> tensor.component_norms().detach()  # 1 * 5 * 2
    tensor([10.])
    """

    def __init__(
        self,
        shape: Sequence[int],
        components: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_dtype(dtype)
        checked = checked_shape(shape)
        components = size_of(components, "components")
        deviation = components ** (-0.5 / len(checked))
        factors = [
            deviation * torch.randn(components, size, device=device, dtype=dtype)
            for size in checked
        ]
        super().__init__(checked, len(checked), factors)

    @property
    def components(self) -> int:
        """The number R of components."""
        return cast(Tensor, self.factors[0]).shape[0]

    def _all_factors(self) -> list[Tensor]:
        factors = list(self.factors)
        return [*factors, factors[0].new_ones(1, self.components)]

    def component_vectors(self, factors: Sequence[Tensor]) -> dict[Node, list[Tensor]]:
        """List the factors, under the one node of the tree."""
        return {tuple(range(len(self.shape))): list(factors)}

    def component_norms(self) -> Tensor:
        r"""Compute :math:`\sigma_r = \prod_n \|w_r^n\|`, (R,), differentiable."""
        [norms] = self._norms().values()
        return norms

    @torch.no_grad()
    def draw_balanced_(self, scale: float, generator: torch.Generator | None) -> None:
        """Draw random directions; all components have norm ``scale``, all vectors its root."""
        for factor in self.factors:
            _draw_rows_(factor, scale ** (1 / len(self.shape)), generator)

    def extra_repr(self) -> str:
        """Show shape and components."""
        return f"{super().extra_repr()}, components={self.components}"


class HierarchicalTensor(FactorizedTensor):
    r"""A tensor of a tree of small factorisations: an arithmetic network, with products for ReLUs.

    Each node multiplies the features of its children, and mixes the products by a matrix. With
    :math:`f_n = W_n e_{i_n}` at the leaf of axis n, and :math:`f_\nu = A_\nu (f_{c_1} \circ \dots
    \circ f_{c_P})` at a node of P children, the entry at :math:`(i_1, \dots, i_N)` is that of the
    top. A local component r of a node consists of rows r of its children's matrices and column r of
    its own. Its norm moves by the law of singular values with K = P + 1 layers,

    .. math:: \frac{d\sigma_r}{dt} = -K \sigma_r^{2-2/K} \langle G, u_r \rangle

    from a balanced start, see :func:`virtualdepth.maths.component_velocity`;
    :math:`\langle G, u_r \rangle` is the slope of the loss along it. Virtual depth on its factors
    has no such rule, since each inner matrix is rows of one node and columns of another.

    Args:
        shape: of the tensor; a power of ``branching`` axes, such as 4 or 8 for 2.
        widths: the number of local components of every node: one number, or one for each level,
            from just above the leaves to the top.
        branching: P >= 2, the children of a node.
        device: of the factors.
        dtype: of the factors.

    Attributes:
        shape: of the tensor.
        factors: one parameter (R, d) for each axis, then one (R_parent, R) for each node, level by
            level; the last is the top's, (1, R). A new one's entries are Gaussian, so that those of
            the tensor have variance 1; :func:`virtualdepth.init.balanced_` and
            :func:`virtualdepth.init.near_zero_` draw small starts.
        widths: one for each level.
        branching: P.

    Raises:
        TypeError: if a size is no integer, or the dtype is not of real floating-point numbers.
        ValueError: if the axes are no power of ``branching``, there is not one width for each
            level, or a size is below 1.

    Source: arXiv 2201.11729.

    >>> tensor = HierarchicalTensor((3, 3, 3, 3), widths=(4, 2))
    >>> [tuple(factor.shape) for factor in tensor.factors]
    [(4, 3), (4, 3), (4, 3), (4, 3), (2, 4), (2, 4), (1, 2)]
    >>> with torch.no_grad():
    ...     for factor in tensor.factors:
    ...         _ = factor.fill_(1.0)
    >>> tensor(torch.tensor([0, 0, 0, 0])).item()  # 2 * 4 * 4
    32.0
    >>> for node, norms in tensor.component_norms().items():
    ...     print(node, norms.detach())  # 3^(1/2) 3^(1/2) 2^(1/2), and 4^(1/2) 4^(1/2) 1 at the top
    (0, 1) tensor([4.2426, 4.2426, 4.2426, 4.2426])
    (2, 3) tensor([4.2426, 4.2426, 4.2426, 4.2426])
    (0, 1, 2, 3) tensor([4., 4.])
    """

    def __init__(
        self,
        shape: Sequence[int],
        widths: int | Sequence[int],
        branching: int = 2,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_dtype(dtype)
        checked = checked_shape(shape)
        levels = mode_tree(len(checked), size_of(branching, "branching"))
        self.widths = checked_widths(widths, len(levels) - 1)
        # rows of each factor and columns of the inner ones
        above = [*self.widths, 1]
        columns = [
            checked,
            *([width] * len(level) for width, level in zip(self.widths, levels[1:], strict=True)),
        ]
        factors = [
            torch.randn(above[place], size, device=device, dtype=dtype)
            / (size**0.5 if place else 1)
            for place, level in enumerate(columns)
            for size in level
        ]
        super().__init__(checked, branching, factors)

    def component_norms(self) -> dict[Node, Tensor]:
        r"""Compute the norms of every inner node's local components, differentiable.

        Returns:
            The node, as the tuple of its axes, -> (R,). Levels from the leaves to the top.
        """
        return self._norms()

    @torch.no_grad()
    def draw_balanced_(self, scale: float, generator: torch.Generator | None) -> None:
        """Draw leaves of random directions, and inner entries of one size and random signs.

        All vectors of all local components of a node have one norm. The top's components have norm
        ``scale``.
        """
        # rows of the parent's norm and columns of the node's own hold the same squares, so that
        # the squared norm times R is one constant
        constant = scale ** (1 / (self.branching + 1)) * self.widths[-1] ** 0.5
        leaves, inner = self.factors[: len(self.shape)], self.factors[len(self.shape) :]
        for leaf in leaves:
            _draw_rows_(leaf, constant / leaf.shape[0] ** 0.5, generator)
        for factor in inner:
            factor.copy_(_gaussian(factor, generator).sign()).mul_(constant / factor.numel() ** 0.5)

    def extra_repr(self) -> str:
        """Show shape, widths and branching."""
        return f"{super().extra_repr()}, widths={self.widths}, branching={self.branching}"


def _gaussian(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw standard Gaussians, shaped as ``like``, on the generator's device."""
    device = like.device if generator is None else generator.device
    drawn = torch.randn(like.shape, dtype=like.dtype, device=device, generator=generator)
    return drawn.to(like.device)


def _draw_rows_(factor: Tensor, norm: float, generator: torch.Generator | None) -> None:
    """Draw rows of random directions and one norm."""
    factor.copy_(nn.functional.normalize(_gaussian(factor, generator), dim=-1)).mul_(norm)
