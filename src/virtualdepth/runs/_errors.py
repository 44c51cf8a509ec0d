"""The one error that a command answers with a single line and status 2."""


class UnusableError(ValueError):
    """An argument or an input file that cannot be used: "name: expected X but got Y".

    Args:
        name: the argument that has to change.
        problem: "expected X but got Y", and what to do about it.

    >>> raise UnusableError("time", "expected a number > 0 but got -1.0")
    Traceback (most recent call last):
    virtualdepth.runs._errors.UnusableError: time: expected a number > 0 but got -1.0
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
