"""``step_scale="auto"``: steps that need no learning rate, for full-batch gradients."""

from virtualdepth.optim.step_scales.auto._batches import MiniBatchWarning
from virtualdepth.optim.step_scales.auto._scale import AutoScale

__all__ = ["AutoScale", "MiniBatchWarning"]
