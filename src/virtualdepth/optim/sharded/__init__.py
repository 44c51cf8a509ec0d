"""Steps of parameters that lie on several processes: they wrap the computation of the others."""

from virtualdepth.optim.sharded._parameters import Part, parts
from virtualdepth.optim.sharded._step import Agreed, agreed_steps

__all__ = ["Agreed", "Part", "agreed_steps", "parts"]
