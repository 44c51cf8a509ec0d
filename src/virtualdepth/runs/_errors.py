"""The one error that a command answers with a single line and status 2."""

import re

# A path has one of the two slashes of an address.
_PASSWORD = re.compile(r"(://?[^\s:/@]*):.*@|((?:password|passfile|sslpassword)=)[^\s&]*", re.I)


def masked(text: str) -> str:
    """Write text without the passwords of addresses in it.

    >>> masked("got postgresql://me:se/cr@t@host/db?password=x&a=1")
    'got postgresql://me:***@host/db?password=***&a=1'
    """
    return _PASSWORD.sub(lambda found: f"{found[1]}:***@" if found[1] else f"{found[2]}***", text)


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
