"""The step scales by name: no other module knows the names."""

from collections.abc import Mapping
from typing import Literal

from virtualdepth.optim.step_scales._protocol import StepScale
from virtualdepth.optim.step_scales._raw import RawScale
from virtualdepth.optim.step_scales._rms import RmsScale
from virtualdepth.optim.step_scales._unit import UnitScale
from virtualdepth.optim.step_scales.auto import AutoScale, MiniBatchWarning

__all__ = ["STEP_SCALES", "MiniBatchWarning", "MultiplierName", "StepScale", "StepScaleName"]

StepScaleName = Literal["raw", "unit", "rms", "auto"]
# those that multiply P_W(G), and so go with another optimizer; "auto" chooses the whole step
MultiplierName = Literal["raw", "unit", "rms"]

STEP_SCALES: Mapping[StepScaleName, StepScale] = {
    "raw": RawScale(),
    "unit": UnitScale(),
    "rms": RmsScale(),
    "auto": AutoScale(),
}
