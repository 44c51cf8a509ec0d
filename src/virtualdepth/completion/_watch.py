"""Who looks on while a table is completed: a progress bar, and who must end early."""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

# Called after each step with its name and the factors that it ended at.
Watch = Callable[[str, NDArray[Any], NDArray[Any]], None]


def unwatched(what: str, left: NDArray[Any], right: NDArray[Any]) -> None:
    """Look away."""
