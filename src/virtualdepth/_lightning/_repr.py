"""How callbacks show themselves: as the call that makes them."""

from inspect import signature


def call_of(made: object) -> str:
    """Return the call that makes an object, which keeps its arguments under their names.

    >>> from virtualdepth.lightning import GapMonitor
    >>> call_of(GapMonitor(interval=5))
    'GapMonitor(interval=5, figure=True)'
    """
    names = [name for name in signature(type(made)).parameters if hasattr(made, name)]
    given = ", ".join(f"{name}={getattr(made, name)!r}" for name in names)
    return f"{type(made).__qualname__}({given})"
