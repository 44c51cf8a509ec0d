"""The nodes of factorised tensors, whose components DynamicsMonitor follows as singular values."""

from dataclasses import dataclass

from torch import Tensor, nn

from virtualdepth._lightning.monitors._layers import WatchedLayer
from virtualdepth.maths import Node, check_finite, component_slopes, vector_norms, widened
from virtualdepth.networks import CPTensor, FactorizedTensor


@dataclass(frozen=True)
class WatchedNode(WatchedLayer):
    """One node of a factorised tensor: R components, each a product of K vectors.

    Attributes:
        tensor: the module.
        node: the axes below the node.
    """

    tensor: FactorizedTensor
    node: Node

    @property
    def weights(self) -> list[Tensor]:
        """All factors of the tensor, which move together."""
        return list(self.tensor.factors)

    @property
    def length(self) -> int:
        """Each vector counts by itself: K of them are the node's own matter."""
        return 1

    @property
    def has_rule_for_depth(self) -> bool:
        """Whether depth on the rows of the factors has a rule."""
        return isinstance(self.tensor, CPTensor)

    def array(self) -> Tensor:
        """Return the norms of the vectors, (K, R), detached and at least in float32."""
        norms = vector_norms(self._vectors(self.factors()))
        check_finite(norms, self.name)
        return norms

    def gradient(self) -> Tensor | None:
        """Return the slopes along unit components, (R,), from the factors' gradients; or None."""
        grads = [factor.grad for factor in self.weights]
        found = [widened(grad.detach()) for grad in grads if grad is not None]
        if len(found) < len(grads):
            return None
        return component_slopes(self._vectors(self.factors()), self._vectors(found))

    def _vectors(self, factors: list[Tensor]) -> list[Tensor]:
        return self.tensor.component_vectors(factors)[self.node]


def find_nodes(root: nn.Module) -> list[WatchedNode]:
    """List the nodes of all factorised tensors, named as ``tensor.0-1``, or ``tensor`` for one."""
    found = []
    for path, module in root.named_modules():
        if not isinstance(module, FactorizedTensor):
            continue
        name = ".".join(part for part in path.split(".") if part != "_orig_mod")
        nodes = module.component_vectors(list(module.factors))
        for node in nodes:
            axes = "" if len(nodes) == 1 else "." + "-".join(map(str, node))
            watched = WatchedNode(name + axes, module, (), False, module, node)
            found.append(watched)
    return found
