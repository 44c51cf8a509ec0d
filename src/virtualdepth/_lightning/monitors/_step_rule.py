"""How an optimizer trains a watched layer: the lr, depth and weight decay of its steps."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth.optim import OPTIONS, EndToEndSGD, MatrixView

Group = dict[str, Any]


class StepRule(NamedTuple):
    """The optimizer of a layer and the parameter group of its W_1, whose options are read live."""

    layer: WatchedLayer
    optimizer: Optimizer
    group: Group

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.group["lr"])

    @property
    def ascends(self) -> bool:
        """Whether steps go along the gradient, not against it."""
        return bool(self.group.get("maximize"))

    @property
    def depth(self) -> float:
        """How deep a network W trains as: number of layers times the depth given to each."""
        return len(self.layer.weights) * self._depth_of_part

    @property
    def decay(self) -> float:
        """The weight decay lambda of each of the layers that :attr:`depth` counts."""
        decay = float(self.group.get("weight_decay", 0))
        # EndToEndSGD decays every virtual layer, other optimizers W once, whatever its depth
        decays_each = isinstance(self.optimizer, EndToEndSGD) or math.isinf(self._depth_of_part)
        return decay if decays_each else decay / self._depth_of_part

    @property
    def _depth_of_part(self) -> float:
        return _depth_of(self.layer.weights[0], self.group)

    def refuse_other_steps(self) -> None:
        """Refuse options whose steps are not lr P_W(G) of one matrix W."""
        name = self.layer.name
        for option in ("step_scale", "origin"):
            expected = OPTIONS[option].default
            value = self.group.get(option, expected)
            if value != expected:
                raise ValueError(
                    f"{name}: expected {option}={expected!r} but got {value!r}: the theory is "
                    "about steps lr P_W(G)"
                )
        for weight in self.layer.weights:
            view = _view_of(weight, self.group)
            if view is not None and view.count > 1:
                raise ValueError(
                    f"{name}: expected a weight that trains as one matrix but its parameter group "
                    f"trains it as {view.count} matrices (blocks or conv_groups), each with a "
                    "spectrum of its own"
                )


def find_rule(layer: WatchedLayer, optimizers: Sequence[Optimizer]) -> StepRule:
    """Find the optimizer and the group that train a layer; its parts must share their options."""
    owners = [_owner_of(weight, layer.name, optimizers) for weight in layer.weights]
    options: dict[str, list[Any]] = {
        option: [group.get(option) for _, group in owners] for option in ("lr", "weight_decay")
    }
    options["depth"] = [
        _depth_of(weight, group) for weight, (_, group) in zip(layer.weights, owners, strict=True)
    ]
    for option, values in options.items():
        if any(value != values[0] for value in values):
            raise ValueError(
                f"{layer.name}: expected one {option} for all its layers but got {values}; the "
                "theory is about layers that share it"
            )
    return StepRule(layer, *owners[0])


def _owner_of(
    weight: Tensor, name: str, optimizers: Sequence[Optimizer]
) -> tuple[Optimizer, Group]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if any(parameter is weight for parameter in group["params"]):
                return optimizer, group
    raise ValueError(
        f"layers: expected {name!r} to be trained but its weight is in no optimizer; leave it out"
    )


def _depth_of(weight: Tensor, group: Group) -> float:
    return 1.0 if _view_of(weight, group) is None else float(group["depth"])


def _view_of(weight: Tensor, group: Group) -> MatrixView | None:
    # None also where the weight is in another group, which has the same options
    places = (i for i, p in enumerate(group["params"]) if p is weight)
    return next((MatrixView.of(group, place) for place in places), None)
