"""Checks of one value each, which raise UnusableError."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from virtualdepth.runs import UnusableError


def is_number(given: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; True and False are not."""
    return isinstance(given, int | float) and not isinstance(given, bool)


def check_positive(name: str, given: object) -> None:
    """Refuse what is not a finite number > 0."""
    if not is_number(given) or not 0 < given < math.inf:
        raise UnusableError(name, f"expected a finite number > 0 but got {given!r}")


def check_not_negative(name: str, given: object) -> None:
    """Refuse what is not a finite number >= 0."""
    if not is_number(given) or not 0 <= given < math.inf:
        raise UnusableError(name, f"expected a number >= 0 but got {given!r}")


def check_count(name: str, given: object, most: float = math.inf) -> None:
    """Refuse what is not an integer from 1 to ``most``."""
    if not is_number(given) or not isinstance(given, int) or not 1 <= given <= most:
        limit = "" if most == math.inf else f" and <= {most}"
        raise UnusableError(name, f"expected an integer >= 1{limit} but got {given!r}")


def check_choice(name: str, given: object, choices: Sequence[str]) -> None:
    """Refuse what is not one of some words."""
    if given not in choices:
        raise UnusableError(name, f"expected one of {', '.join(choices)} but got {given!r}")


def check_text(name: str, given: object) -> None:
    """Refuse what is not text, or empty."""
    if not isinstance(given, str) or not given.strip():
        raise UnusableError(name, f"expected a name but got {given!r}")


def check_mapping(name: str, given: Any) -> None:
    """Refuse what does not map names to values."""
    if not isinstance(given, Mapping):
        raise UnusableError(name, f"expected names with values but got {given!r}")


def check_word(name: str, given: object) -> None:
    """Refuse text with line breaks or other characters that do not print."""
    if not isinstance(given, str) or not given.isprintable():
        raise UnusableError(name, f"expected text in one line, that prints, but got {given!r}")


def check_file_name(name: str, given: str) -> None:
    """Refuse what cannot name a file or folder beside others: separators, "." and ".."."""
    if given in {".", ".."} or given != given.strip() or not set(given).isdisjoint("/\\"):
        raise UnusableError(
            name,
            f"expected a name without separators of paths, not . or .., but got {given!r}",
        )
    check_word(name, given)
