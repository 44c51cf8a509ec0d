"""``solver="layers"``: the explicit network behind each matrix, as factors in the state.

The gradient by factor j is (W_N ... W_{j+1})^T G (W_{j-1} ... W_1)^T; torch's own SGD moves the
factors, and their product is the weight: the discrete network itself, at the model's cost of one
layer. Source: arXiv 1802.06509, equation 9.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from virtualdepth.maths import (
    LinAlgError,
    balanced_factors,
    factor_gradients,
    layer_sizes,
    partial_products,
)
from virtualdepth.maths.jacobi import fingerprint, fingerprint_differs
from virtualdepth.optim._directions import GroupStep, Network
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._matrix_view import MatrixView
from virtualdepth.optim._momentum import State, descend
from virtualdepth.optim._solving import MatrixGradient, without_autocast


class _Committed(NamedTuple):
    """What need not be in a checkpoint, since it follows from what is.

    Attributes:
        version: the parameter's count of writes after ours.
        products: W_1, W_2 W_1, ..., without the whole: kept, they save N - 2 products a step.
    """

    version: int
    products: list[Tensor]


LayersMemory = dict[Tensor, _Committed]


def check_layers(name: str, parameter: Tensor, view: MatrixView, group: Mapping[str, Any]) -> None:
    """Refuse a parameter whose layers would not be those of the explicit network.

    Args:
        name: for the message.
        parameter: what is to be the product of layers.
        view: as matrices.
        group: options.

    Raises:
        TypeError: if it is of half precision, or a hidden width is no integer.
        ValueError: if the hidden widths do not fit.
    """
    if parameter.dtype.itemsize < 4:
        raise TypeError(
            f"{name}: expected float32 or float64 with solver='layers' but got {parameter.dtype}, "
            "to which the product of the layers would be rounded at every step; keep the weights "
            "in float32 and use autocast, or solver='svd'"
        )
    try:
        _sizes(parameter, view, group)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def init_layers(
    state: State, parameter: Tensor, view: MatrixView, group: Mapping[str, Any]
) -> None:
    """Make room for the layers; the first step factors W, after pretrained weights are loaded.

    Args:
        state: of the parameter; changed.
        parameter: gives dtype and place.
        view: as matrices.
        group: options.
    """
    if "layers_probe" in state:
        return
    matrices = view.split(parameter)
    zeros = [
        torch.zeros(
            (*matrices.shape[:-2], rows, columns), dtype=parameter.dtype, device=parameter.device
        )
        for columns, rows in pairwise(_sizes(parameter, view, group))
    ]
    momenta = [torch.zeros_like(factor) for factor in zeros] if group["momentum"] != 0 else []
    _write(state, zeros, momenta, 0)
    state.update(
        layers_probe=torch.zeros_like(matrices[..., 0], memory_format=torch.contiguous_format),
        layers_factored=False,
        layers_refactored=0,
    )


def layers_step(
    group: Mapping[str, Any],
    matrices: Sequence[MatrixGradient],
    states: Mapping[Tensor, State],
    memory: LayersMemory,
    guard: StepGuard,
) -> GroupStep:
    """Take a step of gradient descent on the layers of a group's matrices; nothing changes yet.

    Args:
        group: options.
        matrices: parameters with a gradient.
        states: of the parameters.
        memory: of the last step.
        guard: what checks the matrices.

    Returns:
        The networks after the step.

    Raises:
        FloatingPointError: if a weight, a gradient or the new weight is not finite.
        LinAlgError: if an SVD does not converge.
    """
    for matrix in matrices:
        guard.admit(matrix.name, "weight", matrix.weight)
        guard.admit(matrix.name, "gradient", matrix.grad)
    # whether a weight was changed is read below: on a device too this step waits for it
    guard.settle()
    networks = {}
    for matrix in matrices:
        p = matrix.parameter
        with without_autocast(p.device.type):
            before = _network(matrix, group, states[p], memory.get(p))
            networks[p] = _descend(matrix, group, before)
        weight = networks[p].weight
        if weight is not None:
            guard.admit(matrix.name, "update", weight)
    weights = {matrix.parameter: matrix.weight for matrix in matrices}
    return GroupStep({}, weights, {}, networks=networks)


def commit_layers(parameter: Tensor, network: Network, state: State) -> _Committed:
    """Write a network and its product.

    Args:
        parameter: changed.
        network: after the step.
        state: of the parameter; changed.

    Returns:
        What to remember of it beside the state.
    """
    if network.weight is not None:
        parameter.copy_(network.view.join(network.weight, like=parameter))
    _write(state, network.factors, network.momenta, network.steps)
    with without_autocast(parameter.device.type):
        # of the parameter as it lies in memory: so the same again, to the last bit
        state["layers_probe"] = fingerprint(network.view.split(parameter))
    state["layers_factored"] = True
    state["layers_refactored"] = network.refactored
    return _Committed(parameter._version, network.products)


def layers_note(state: Mapping[str, Any]) -> str:
    """Say how often a change from outside was noticed.

    Args:
        state: of the parameter.

    Returns:
        A line for the routing table; empty if never.
    """
    count = state.get("layers_refactored", 0)
    return f"changed from outside and factored anew {count} times" if count else ""


def kept_products(optimizer: Optimizer, parameter: Tensor) -> list[Tensor]:
    """List what is kept for a parameter beside its state.

    Args:
        optimizer: with or without layers.
        parameter: one of its.

    Returns:
        Partial products of layers, but for the first, which is a factor.
    """
    memory: LayersMemory = getattr(optimizer, "_layers", {})
    return memory[parameter].products[1:] if parameter in memory else []


def _sizes(parameter: Tensor, view: MatrixView, group: Mapping[str, Any]) -> list[int]:
    rows, columns = view.split(parameter).shape[-2:]
    return layer_sizes(columns, rows, group["depth"], group["hidden_features"])


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


def _network(
    matrix: MatrixGradient, group: Mapping[str, Any], state: State, last: _Committed | None
) -> Network:
    """Find the network whose product the parameter is: the one in the state, or a new one."""
    weight, p = matrix.view.split(matrix.weight), matrix.parameter
    init_layers(state, p, matrix.view, group)
    factors, refactored = _read(state, "factor"), state["layers_refactored"]
    sizes = _sizes(p, matrix.view, group)
    fits = [factor.shape[-2:] for factor in factors] == [(m, n) for n, m in pairwise(sizes)]
    # the group's blocks may have changed since: other matrices, of the same W
    factored = state["layers_factored"] and state["layers_probe"].shape == weight.shape[:-1]
    # writes to p.data do not count as such, and a copy or checkpoint starts its count anew
    written = last is not None and last.version != p._version
    changed = factored and bool(fingerprint_differs(weight, state["layers_probe"], exact=written))
    if factored and fits and not changed:
        products = partial_products(factors[:-1]) if last is None else last.products
        momenta, steps = _read(state, "momentum"), int(state.get("step", 0))
        return Network(matrix.view, None, factors, momenta, steps, refactored, products)
    try:
        factors = balanced_factors(weight, len(sizes) - 1, hidden_features=sizes[1:-1])
    except LinAlgError as error:
        raise LinAlgError(f"{matrix.name}: {error}") from error
    factors = [factor.contiguous() for factor in factors]
    products = partial_products(factors[:-1])
    return Network(matrix.view, None, factors, [], 0, refactored + changed, products)


def _descend(matrix: MatrixGradient, group: Mapping[str, Any], before: Network) -> Network:
    """Move the layers as torch.optim.SGD moves those of an explicit network."""
    gradients = factor_gradients(before.factors, before.products, matrix.view.split(matrix.grad))
    factors = [factor.clone() for factor in before.factors]
    momenta, steps = [momentum.clone() for momentum in before.momenta], before.steps
    states: list[State] = []
    if group["momentum"] != 0:
        if not momenta:
            momenta, steps = [torch.zeros_like(factor) for factor in factors], 0
        states = [{"momentum_buffer": each, "step": steps} for each in momenta]
    descend(factors, gradients, states, dict(group))
    if states:
        momenta, steps = [state["momentum_buffer"] for state in states], steps + 1
    if group["lr"] == 0:
        # as checkpoints take to make state: W must not be replaced by its rounded product
        return before._replace(momenta=momenta, steps=steps)
    *products, weight = partial_products(factors)
    return before._replace(
        weight=weight, factors=factors, momenta=momenta, steps=steps, products=products
    )
