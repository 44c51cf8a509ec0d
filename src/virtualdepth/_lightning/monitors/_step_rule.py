"""How an optimizer trains a watched layer: the lr, depth and weight decay of its steps."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth._lightning.monitors._tensor_nodes import WatchedNode
from virtualdepth.maths import STRUCTURES, StructureName
from virtualdepth.optim import OPTIONS, EndToEndSGD, MatrixView

Group = dict[str, Any]
Owner = tuple[Optimizer, Group]
Owners = Mapping[int, Owner]
"""The optimizer and the group of each parameter, by the parameter's id."""


class StepRule(NamedTuple):
    """The layer, and the optimizer and group of each of its weights that is in one."""

    layer: WatchedLayer
    owners: list[Owner]

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer of the layer."""
        return self.owners[0][0]

    @property
    def group(self) -> Group:
        """The parameter group of W_1; its options are read live."""
        return self.owners[0][1]

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
        return self.layer.length * self._depth_of_part

    @property
    def decay(self) -> float:
        """The weight decay lambda of each of the layers that :attr:`depth` counts."""
        decay = float(self.group.get("weight_decay", 0))
        # EndToEndSGD decays every virtual layer, other optimizers W once, whatever its depth
        decays_each = isinstance(self.optimizer, EndToEndSGD) or math.isinf(self._depth_of_part)
        return decay if decays_each else decay / self._depth_of_part

    @property
    def structure(self) -> StructureName:
        """The blocks that W moves in."""
        if self._view is None:
            return self.layer.structure
        structure: StructureName = self.group.get("structure", "matrix")
        return structure

    @property
    def imbalance(self) -> float:
        """How much one of the layers that :attr:`depth` counts is smaller than the others."""
        imbalance = self.layer.imbalance if self._view is None else self.group.get("imbalance", 0.0)
        return float(imbalance)

    @property
    def _view(self) -> MatrixView | None:
        return _view_of(self.layer.weights[0], self.group)

    @property
    def _depth_of_part(self) -> float:
        return _depth_of(self.layer.weights[0], self.group)

    def check_theory(self) -> None:
        """Refuse options whose steps are not lr P_W(G) of one matrix W."""
        name, weights = self.layer.name, self.layer.weights
        if len(self.owners) < len(weights):
            raise ValueError(
                f"layers: expected all layers of the product {name!r} to be trained but got "
                f"{len(self.owners)} of {len(weights)} in an optimizer; watch them one by one"
            )
        if isinstance(self.layer, WatchedNode):
            self._check_tensor(self.layer)
        else:
            self._check_product()
        for option in ("step_scale", "origin"):
            expected = OPTIONS[option].default
            value = self.group.get(option, expected)
            if value != expected:
                raise ValueError(
                    f"{option}: expected {expected!r} but got {value!r} (layer {name!r}): the "
                    f"theory is about steps lr P_W(G); train with {option}={expected!r}, or leave "
                    "the layer out"
                )
        options: dict[str, list[Any]] = {
            option: [group.get(option) for _, group in self.owners]
            for option in ("lr", "weight_decay")
        }
        options["depth"] = [
            _depth_of(weight, group)
            for weight, (_, group) in zip(weights, self.owners, strict=True)
        ]
        for option, values in options.items():
            if any(value != values[0] for value in values):
                raise ValueError(
                    f"{option}: expected one value for all layers of the product {name!r} but got "
                    f"{values}: the theory is about layers that share it; watch them one by one"
                )
        for weight, (_, group) in zip(weights, self.owners, strict=True):
            view = _view_of(weight, group)
            if view is not None and view.count > 1:
                raise ValueError(
                    f"{name}: expected a weight that trains as one matrix but its parameter group "
                    f"trains it as {view.count} matrices (blocks or conv_groups), each with a "
                    "spectrum of its own; leave the layer out"
                )

    def _check_product(self) -> None:
        """Refuse products whose layers have depth of their own, and more than that."""
        weights = self.layer.weights
        groups = [
            group
            for weight, (_, group) in zip(weights, self.owners, strict=True)
            if len(weights) > 1 and _view_of(weight, group) is not None
        ]
        own = {"structure": self.layer.structure, "imbalance": self.layer.imbalance}
        for group, (option, of_layer) in product(groups, own.items()):
            expected = OPTIONS[option].default
            for value in (of_layer, group.get(option, expected)):
                if value != expected:
                    raise ValueError(
                        f"{option}: expected {expected!r} for the product {self.layer.name!r}, "
                        f"whose layers have depth of their own, but got {value!r}: no rule "
                        "is known for it; watch the layers one by one"
                    )

    def _check_tensor(self, node: WatchedNode) -> None:
        """Refuse depth on the factors of a tensor, but on the rows of vectors."""
        expected = "rows" if node.has_rule_for_depth else None
        for weight, (_, group) in zip(node.weights, self.owners, strict=True):
            structure = group.get("structure", "matrix")
            if _depth_of(weight, group) != 1 and structure != expected:
                wanted = "structure 'rows'" if node.has_rule_for_depth else "depth 1"
                raise ValueError(
                    f"{node.name}: expected {wanted} for the factors of the tensor but got depth "
                    f"{group['depth']} and structure {structure!r}: no rule is known for its "
                    "components; leave the tensor out"
                )

    def check_matrix(self) -> None:
        """Refuse a layer that does not move as one matrix."""
        if self.structure != "matrix":
            raise ValueError(
                f"structure: expected 'matrix' but got {self.structure!r} (layer "
                f"{self.layer.name!r}): its blocks have no singular basis in common; leave the "
                "layer out"
            )


def structure_of(layer: WatchedLayer, optimizers: Sequence[Optimizer]) -> StructureName:
    """Find the blocks that a layer moves in, whether it is trained or not."""
    rule = find_rule(layer, owners_of(optimizers))
    return layer.structure if rule is None else rule.structure


def blocks_of(array: Tensor, structure: StructureName) -> Tensor:
    """Transform W or G, as a layer stores it, to its blocks, (..., m, n)."""
    kind = STRUCTURES[structure]
    return kind.to_blocks(array.flatten(1) if kind.of_matrices else array)


def owners_of(optimizers: Sequence[Optimizer]) -> Owners:
    """Find the optimizer and the group of every parameter; groups may come and go in a run."""
    return {
        id(parameter): (optimizer, group)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def find_rule(layer: WatchedLayer, owners: Owners) -> StepRule | None:
    """Find what trains a layer; None if none of its weights is in an optimizer, or not yet."""
    found = [owners[id(weight)] for weight in layer.weights if id(weight) in owners]
    return StepRule(layer, found) if found else None


def _depth_of(weight: Tensor, group: Group) -> float:
    return 1.0 if _view_of(weight, group) is None else float(group["depth"])


def _view_of(weight: Tensor, group: Group) -> MatrixView | None:
    place = next(i for i, parameter in enumerate(group["params"]) if parameter is weight)
    return MatrixView.of(group, place)
