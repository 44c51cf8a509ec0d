"""The step of a group's matrices that lie whole on one device; nothing is changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from virtualdepth.distributed import is_distributed
from virtualdepth.optim._auto_step import auto_step, check_auto, init_auto
from virtualdepth.optim._directions import (
    GroupStep,
    add_decay,
    precondition_group,
)
from virtualdepth.optim._guard import StepGuard
from virtualdepth.optim._layers import LayersMemory, check_layers, layers_step
from virtualdepth.optim._matrix_view import MatrixView, matrices
from virtualdepth.optim._momentum import State
from virtualdepth.optim._origin import check_origin, init_origin, start_of_change
from virtualdepth.optim._solving import MatrixGradient
from virtualdepth.optim._tracked import check_tracked


def check_matrices(
    group: Mapping[str, Any], number: int
) -> Iterator[tuple[str, Tensor, MatrixView]]:
    """Name the parameters of a group that depth acts on, sharded ones too.

    Args:
        group: options and "params".
        number: the group's place in the optimizer.

    Yields:
        (name, parameter, view) of those that do not move plainly.

    Raises:
        TypeError: if one of them, or its gradient, cannot have depth, or not of this kind.
        ValueError: if an option is out of range, or a parameter does not divide into its matrices.
    """
    for name, parameter, view in matrices(group, number, distributed=True):
        if group["origin"] is not None:
            check_origin(name, parameter)
        # a sharded parameter cannot have these solvers, whatever it is: see check_sharded_options
        if group["solver"] == "layers" and not is_distributed(parameter):
            check_layers(name, parameter, view, group)
        if group["solver"] == "tracked" and not is_distributed(parameter):
            check_tracked(name, parameter)
        yield name, parameter, view


def group_step(
    number: int,
    group: dict[str, Any],
    states: Mapping[Tensor, State],
    layers: LayersMemory,
    loss: float | None,
    guard: StepGuard,
) -> GroupStep:
    """Compute the step of a group's matrices that are not sharded.

    Args:
        number: the group's place in the optimizer.
        group: options and "params".
        states: of the optimizer.
        layers: what the last step left of networks, beside the states.
        loss: what the closure returned, if there was one.
        guard: refuses what is not finite.

    Returns:
        The directions, with sign and decay, or the networks; and what to remember.

    Raises:
        FloatingPointError: if a weight, gradient or direction is not finite.
        LinAlgError: if an SVD does not converge.
        TypeError: if a matrix cannot have depth.
        ValueError: if an option is out of range.
    """
    moving = [
        MatrixGradient(name, p, view, _change(p, view, group, states), p.grad)
        for name, p, view in check_matrices(group, number)
        if p.grad is not None and not is_distributed(p)
    ]
    if group["step_scale"] == "auto":
        check_auto(group)
        init_auto(group, states)
        return auto_step(group, moving, states, loss, guard)
    if group["solver"] == "layers":
        return layers_step(group, moving, states, layers, guard)
    rounded = group["momentum"] != 0
    step = precondition_group(group, moving, guard, group["lr"], states, rounded=rounded)
    for matrix in moving:
        add_decay(group, step.directions[matrix.parameter], matrix.weight)
    return step


def _change(
    parameter: Tensor, view: MatrixView, group: Mapping[str, Any], states: Mapping[Tensor, State]
) -> Tensor:
    """Return what P is taken of: W, or its change since the origin, at first a small start."""
    if group["origin"] is None:
        return parameter
    state = init_origin(states[parameter], parameter)
    if state["left_origin"]:
        change: Tensor = parameter - state["origin"]
        return change
    return start_of_change(parameter, view, group["origin_scale"])
