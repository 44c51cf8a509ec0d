"""``solver="layers"``: the explicit network behind each matrix, as factors in the state.

The gradient by factor j is (W_N ... W_{j+1})^T G (W_{j-1} ... W_1)^T. torch's own SGD moves the
factors, and their product is the weight. This is the discrete network itself, while the model has
the cost of one layer. Source: arXiv 1802.06509, equation 9.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from virtualdepth.maths import (
    LinAlgError,
    balanced_factors,
    factor_gradients,
    layer_sizes,
    partial_products,
)
from virtualdepth.maths.jacobi import fingerprint, fingerprint_differs
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Matrix, State, check_full_precision
from virtualdepth.optim._momentum import descend
from virtualdepth.optim.solvers._protocol import DEFAULT, Knows, Solver

# memory and time of a step grow with the depth: more would look like a run that hangs
_DEEPEST = 1000


class Network(NamedTuple):
    """The explicit layers that stand behind one parameter."""

    weight: Tensor | None  # their product, (..., m, n); None leaves the parameter as it is
    factors: list[Tensor]  # [W_1, ..., W_N], W_1 applied first
    momenta: list[Tensor]  # of the factors; empty without momentum
    steps: int  # that the momenta have taken
    refactored: int  # how often new factors were made after a change from outside
    products: list[Tensor]  # W_1, W_2 W_1, ..., without the whole


class _Cache(NamedTuple):
    """What a checkpoint leaves out, because it follows from what a checkpoint holds."""

    version: int  # the parameter's count of writes, after our last one
    products: list[Tensor]  # those of Network; they save N - 2 products a step


class LayersSolver(Solver):
    """Gradient descent on the factors of W; momentum and decay act on each of them."""

    knows: ClassVar[Knows] = Knows.NOTHING
    moves_parameter: ClassVar[bool] = True
    closed_form: ClassVar[bool] = False
    keeps_state: ClassVar[bool] = True
    maskable: ClassVar[bool] = False
    cannot: ClassVar[Mapping[str, str]] = {
        "structure": "keeps layers that are whole matrices",
        "precondition_frequency": "decomposes nothing but a weight that was changed from outside",
    }

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Refuse a depth that is no number of layers, and what acts on P_W(G)."""
        depth = group["depth"]
        if depth > _DEEPEST or depth % 1 != 0:
            raise ValueError(
                f"depth: expected an integer <= {_DEEPEST} with solver='layers', which keeps and "
                f"multiplies so many layers, but got {depth!r}; for other depths use "
                f"solver={DEFAULT!r}"
            )
        for name in ("origin", "rtol"):
            if group.get(name) is not None:
                raise ValueError(
                    f"{name}: expected None with solver='layers', which computes no P_W(G) that it "
                    f"could act on, but got {group[name]!r}; use solver={DEFAULT!r}"
                )

    def check(self, matrix: Matrix) -> None:
        """Refuse half precision, and hidden widths that do not fit."""
        why = "to which the product of the layers would be rounded at every step"
        check_full_precision(matrix, "solver='layers'", why)
        try:
            _sizes(matrix)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{matrix.name}: {error}") from error

    def check_state(self, matrix: Matrix) -> None:
        """Refuse layers that are incomplete, or whose product is no matrix like this one."""
        state, size = matrix.state, matrix.parameter.numel()
        factors, momenta = _read(state, "factor"), _read(state, "momentum")
        if not factors and "layers_probe" not in state:
            return
        shapes = [tuple(factor.shape) for factor in factors]
        # of another depth or other blocks, if these have changed since: then W is factored anew
        fits = bool(shapes) and all(
            before[:-2] == after[:-2] and before[-2] == after[-1]
            for before, after in pairwise(shapes)
        )
        fits = fits and math.prod(shapes[0][:-2]) * shapes[0][-1] * shapes[-1][-2] == size
        fits = fits and tuple(state.get("layers_probe", factors[0]).shape) == shapes[-1][:-1]
        fits = fits and (not momenta or [tuple(each.shape) for each in momenta] == shapes)
        if not fits or not {"layers_factored", "layers_refactored"} <= set(state):
            raise ValueError(
                f"{matrix.name}: expected layers whose product has {size} entries, momenta of "
                f"their shapes and a probe of its rows, but got shapes {shapes}; nothing was loaded"
            )

    def init(self, matrix: Matrix) -> None:
        """Make room for the layers; the first step factors W, loaded by then."""
        state, parameter = matrix.state, matrix.parameter
        if "layers_probe" in state:
            return
        matrices = matrix.view.split(parameter)
        zeros = [
            torch.zeros(
                (*matrices.shape[:-2], rows, columns),
                dtype=parameter.dtype,
                device=parameter.device,
            )
            for columns, rows in pairwise(_sizes(matrix))
        ]
        has_momentum = matrix.group["momentum"] != 0
        _write(state, zeros, [torch.zeros_like(factor) for factor in zeros if has_momentum], 0)
        state.update(
            layers_probe=torch.zeros_like(matrices[..., 0], memory_format=torch.contiguous_format),
            layers_factored=False,
            layers_refactored=0,
        )

    def init_other(self, state: State) -> None:
        """Mark the state of a parameter that it does not serve."""
        # distributed checkpoints want state for every parameter, or for none
        state.setdefault("layers_factored", False)

    def solve(self, matrices: Sequence[Matrix], finite: FiniteCheck) -> None:
        """Fill in the network after the step."""
        for matrix in matrices:
            self.init(matrix)
            after = _descend(matrix, _network(matrix))
            if after.weight is not None:
                finite.check(matrix.name, "update", after.weight)
            for written in (*after.factors, *after.momenta):
                finite.check(matrix.name, "new layer", written)
            matrix.outcome = after

    def commit(self, matrix: Matrix) -> None:
        """Write the network and its product."""
        network: Network = matrix.outcome
        state, parameter = matrix.state, matrix.parameter
        if network.weight is not None:
            parameter.copy_(matrix.view.join(network.weight, like=parameter))
        _write(state, network.factors, network.momenta, network.steps)
        # of the parameter as it lies in memory: so the same again, to the last bit
        state["layers_probe"] = fingerprint(matrix.view.split(parameter))
        state["layers_factored"] = True
        state["layers_refactored"] = network.refactored
        matrix.caches[parameter] = _Cache(parameter._version, network.products)

    def note(self, state: State) -> str:
        """Say how often a change from outside was noticed."""
        count = state.get("layers_refactored", 0)
        return f"changed from outside and factored anew {count} times" if count else ""

    def cached_tensors(self, matrix: Matrix) -> list[Tensor]:
        """List the partial products but for the first, which is a factor."""
        cache = matrix.caches.get(matrix.parameter)
        return cache.products[1:] if isinstance(cache, _Cache) else []


def _sizes(matrix: Matrix) -> list[int]:
    """List the widths [n, d_1, ..., m] of the network."""
    rows, columns = matrix.view.shape
    return layer_sizes(columns, rows, matrix.group["depth"], matrix.group["hidden_features"])


def _write(state: State, factors: list[Tensor], momenta: list[Tensor], steps: int) -> None:
    for key in [key for key in state if key.startswith(("layers_factor_", "layers_momentum_"))]:
        del state[key]  # of another depth
    for kind, tensors in (("factor", factors), ("momentum", momenta)):
        state.update({f"layers_{kind}_{j}": each for j, each in enumerate(tensors, start=1)})
    if momenta:
        state["step"] = steps


def _read(state: State, kind: str) -> list[Tensor]:
    found: list[Tensor] = []
    while (key := f"layers_{kind}_{len(found) + 1}") in state:
        found.append(state[key])
    return found


def _network(matrix: Matrix) -> Network:
    """Find the network whose product the parameter is: the one in the state, or a new one."""
    weight, p, state = matrix.view.split(matrix.weight), matrix.parameter, matrix.state
    factors = [factor.to(weight) for factor in _read(state, "factor")]
    probe, refactored = state["layers_probe"], state["layers_refactored"]
    sizes = _sizes(matrix)
    fits = [factor.shape[-2:] for factor in factors] == [(m, n) for n, m in pairwise(sizes)]
    # the group's blocks may have changed since: other matrices, of the same W
    factored = state["layers_factored"] and probe.shape == weight.shape[:-1]
    # writes to p.data do not count as such, and a copy or checkpoint starts its count anew
    cache = matrix.caches.get(p)
    last = cache if isinstance(cache, _Cache) else None  # of another solver until now
    written = last is not None and last.version != p._version
    if (probe.dtype, probe.device) != (weight.dtype, weight.device):
        # the model was moved, or its precision changed: W is the same but for rounding
        last, written = None, False
    coarse = min(probe.dtype, weight.dtype, key=lambda dtype: dtype.itemsize)
    changed = factored and bool(
        fingerprint_differs(weight.to(coarse), probe.to(weight.device, coarse), exact=written)
    )
    if factored and fits and not changed:
        products = partial_products(factors[:-1]) if last is None else last.products
        momenta = [momentum.to(weight) for momentum in _read(state, "momentum")]
        steps = int(state.get("step", 0))
        return Network(None, factors, momenta, steps, refactored, products)
    try:
        factors = balanced_factors(
            weight,
            len(sizes) - 1,
            hidden_features=sizes[1:-1],
            imbalance=matrix.group["imbalance"],
        )
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    factors = [factor.contiguous() for factor in factors]
    products = partial_products(factors[:-1])
    return Network(None, factors, [], 0, refactored + changed, products)


def _descend(matrix: Matrix, before: Network) -> Network:
    """Move the layers as torch.optim.SGD moves those of an explicit network."""
    group = matrix.group
    gradients = factor_gradients(before.factors, before.products, matrix.view.split(matrix.grad))
    factors = [factor.clone() for factor in before.factors]
    momenta, steps = [momentum.clone() for momentum in before.momenta], before.steps
    states: dict[Tensor, State] = {}
    if group["momentum"] != 0:
        if not momenta:
            momenta, steps = [torch.zeros_like(factor) for factor in factors], 0
        for factor, momentum in zip(factors, momenta, strict=True):
            states[factor] = {"momentum_buffer": momentum, "step": steps}
    descend(group, factors, gradients, states)
    if states:
        momenta, steps = [state["momentum_buffer"] for state in states.values()], steps + 1
    if group["lr"] == 0:
        # as checkpoints take to make state: W must not be replaced by its rounded product
        return before._replace(momenta=momenta, steps=steps)
    *products, weight = partial_products(factors)
    return Network(weight, factors, momenta, steps, before.refactored, products)
