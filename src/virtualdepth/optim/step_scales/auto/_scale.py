"""The object "auto" among the step scales: it chooses the step of a group, or takes one back."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.nn.parameter import is_lazy

from virtualdepth.maths import inner_product, times_power
from virtualdepth.optim._finite_check import FiniteCheck
from virtualdepth.optim._matrices import Group, GroupStep, States, parameter_name
from virtualdepth.optim.solvers import Knows
from virtualdepth.optim.step_scales._protocol import StepScale
from virtualdepth.optim.step_scales.auto._batches import (
    WINDOW,
    look_for_batches,
    look_for_halvings,
    rounding,
)
from virtualdepth.optim.step_scales.auto._direction import choose_steps
from virtualdepth.optim.step_scales.auto._points import (
    POINT_KEYS,
    common_units,
    init_points,
    moving_matrix,
    next_points,
)

LOSSES = 10  # losses that a step is compared with


class AutoScale(StepScale):
    """Steps without a learning rate; see virtualdepth.optim.step_scales.auto._direction."""

    needs: ClassVar[Knows] = Knows.DECOMPOSITION
    memory: ClassVar[Mapping[str, Any]] = {
        "auto_losses": [],
        "auto_squares": [],
        "auto_changes": [],
        "auto_largest": 0.0,
        "auto_wait": 0,
        "auto_backs": [],
    }
    state_keys: ClassVar[frozenset[str]] = POINT_KEYS
    maskable: ClassVar[bool] = False
    cannot: ClassVar[Mapping[str, str]] = {
        "structure": "measures steps in the singular basis of whole matrices",
        "precondition_frequency": "measures steps in the singular basis of W itself",
    }
    chooses_step: ClassVar[bool] = True

    def check(self, group: Mapping[str, Any], number: int) -> None:
        """Refuse plain parameters, momentum, decay, an origin and maximize."""
        for name in ("momentum", "weight_decay"):
            if group[name] != 0:
                raise ValueError(
                    f"{name}: expected 0 with step_scale='auto', which has no learning rate that "
                    f"it could go with, but got {group[name]!r}"
                )
        if group["maximize"]:
            raise ValueError("maximize: expected False with step_scale='auto' but got True")
        if group["origin"] is not None:
            raise ValueError(
                f"origin: expected None with step_scale='auto' but got {group['origin']!r}"
            )
        plain = [
            parameter_name(group, number, index)
            for index, p in enumerate(group["params"])
            if not is_lazy(p) and (p.ndim < 2 or group["depth"] == 1)
        ]
        if plain:
            raise ValueError(
                "step_scale: expected matrices of depth > 1 only with 'auto', which chooses no "
                f"step for others, but got {', '.join(plain)}; give them a group of their own with "
                "step_scale='raw'"
            )

    def init(self, group: Group, states: States) -> None:
        """Make the state that it needs, unless it is there already: 2 x 5 tensors a parameter."""
        super().init(group, states)
        for parameter in group["params"]:
            if not is_lazy(parameter) and (parameter.requires_grad or parameter.grad is not None):
                init_points(states[parameter], parameter)

    def compute(
        self,
        step: GroupStep,
        finite: FiniteCheck,
        *,
        lr: Any,
        rounded: bool,
        loss: float | None = None,
    ) -> None:
        """Fill in directions, divided by the learning rate that they will be multiplied by."""
        group = step.group
        self.init(group, step.states)
        rate, losses = float(lr), group["auto_losses"]
        loss = None if loss is None else _number(loss)
        if rate == 0 or not step.matrices:
            # as checkpoints take to make state: must change nothing
            for matrix in step.matrices:
                matrix.direction = torch.zeros_like(matrix.parameter)
                matrix.weight_peak = matrix.direction_peak = 0.0
            return
        points = min(int(matrix.state["auto_points"]) for matrix in step.matrices)
        if loss is not None and math.isnan(loss):
            _refuse(loss)
        if points > 0 and loss is not None and losses and loss > max(losses):
            _go_back(step, finite, rate)
            return
        if loss is not None and not math.isfinite(loss):
            _refuse(loss)
        memory = _go_on(step, finite, rate, points)
        memory["auto_losses"] = [*losses, *([] if loss is None else [loss])][-LOSSES:]
        # a matrix that did not move has no part in this step's secant: its points do not go on
        moved = {matrix.parameter for matrix in step.matrices}
        still = [step.states[p] for p in group["params"] if p in step.states and p not in moved]
        step.writes = [(group, memory), *((state, {"auto_points": 0}) for state in still)]


def _number(loss: Any) -> float:
    """Return what a closure returned, perhaps a tensor, as a number."""
    try:
        return float(loss)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            "loss: expected a number from the closure with step_scale='auto' but got "
            f"{type(loss).__name__}; return the loss, summed or averaged over the batch"
        ) from error


def _refuse(loss: float) -> None:
    """Refuse a loss from which "auto" cannot tell whether a step went too far."""
    raise FloatingPointError(
        f"loss: expected a finite number from the closure with step_scale='auto' but got {loss}; "
        "the step was not taken, weights and state are unchanged"
    )


def _go_on(step: GroupStep, finite: FiniteCheck, rate: float, points: int) -> dict[str, Any]:
    """Choose the step of each matrix from its last points, and what the group must remember."""
    group = step.group
    units = common_units(step.matrices, finite)
    moving = [moving_matrix(matrix, points, units) for matrix in step.matrices]
    here = [each.grads[0] for each in moving]
    grad_unit = 1.0 if units is None else 2.0 ** float(units.grad)
    square = grad_unit * grad_unit * inner_product(here, here)
    resolved = square > rounding(group, step.matrices)
    changes, wait = choose_steps(moving, group, resolved=resolved)
    for matrix, change in zip(step.matrices, changes, strict=True):
        scaled = (change if units is None else times_power(change, units.weight)) / rate
        matrix.direction_peak = finite.check(matrix.name, "update", scaled)
        matrix.direction = matrix.view.join(scaled, like=matrix.parameter)
        matrix.new_state = next_points(matrix, points)
    backs = [*group["auto_backs"], 0][-WINDOW:]
    memory: dict[str, Any] = {"auto_wait": wait, "auto_backs": backs}
    if points > 0:
        turn = [each.grads[0] - each.grads[1] for each in moving]
        turned = grad_unit * grad_unit * inner_product(turn, turn)
        memory |= look_for_batches(group, step.matrices, square, turned)
    return memory


def _go_back(step: GroupStep, finite: FiniteCheck, rate: float) -> None:
    """Halve a step that went too far; the secants that led there are forgotten."""
    for matrix in step.matrices:
        before = matrix.state["auto_weight_0"].to(matrix.weight)
        matrix.direction = (matrix.weight - before) / (2 * rate)
        matrix.weight_peak = finite.check(matrix.name, matrix.kind, matrix.weight)
        matrix.direction_peak = finite.check(matrix.name, "update", matrix.direction)
        matrix.new_state = {"auto_points": 1}
    step.writes = [(step.group, look_for_halvings(step.group, step.matrices))]
