"""The norms that theory predicts for the components of a tensor, from one record to the next."""

from typing import Any

import torch
from torch import Tensor

from virtualdepth._lightning.monitors._predicted_spectrum import Change, Prediction
from virtualdepth.maths import StructureName, component_velocity


class PredictedComponents(Prediction):
    """Integrates :func:`virtualdepth.maths.component_velocity`: G are slopes, (R,)."""

    def __init__(self) -> None:
        super().__init__()
        self._norms: Tensor | None = None  # of the vectors at the last record, (K, R)

    @property
    def structure(self) -> StructureName:
        """Components are known by their places, as rows are."""
        return "rows"

    def _measure(
        self, array: Tensor, depth: float, imbalance: float
    ) -> tuple[Tensor, Change | None]:
        begin, self._norms = self._norms, array
        if begin is None:
            return array.prod(0), None

        def velocity(norms: Tensor, slopes: Tensor, decay: float) -> Tensor:
            return component_velocity(norms, slopes, depth, imbalance=imbalance, weight_decay=decay)

        def change(early: Tensor, early_decay: float, late: Tensor, late_decay: float) -> Tensor:
            return velocity(begin, early, early_decay) + velocity(array, late, late_decay)

        return array.prod(0), change

    def to(self, device: torch.device) -> None:
        """Move the tensors, which a checkpoint brings on the CPU."""
        super().to(device)
        self._norms = None if self._norms is None else self._norms.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and tensors, for a checkpoint."""
        return {"norms": self._norms, **super().state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self._norms = state["norms"]
        super().load_state_dict(state)
