"""Names of columns, as a user writes them in one word."""

import csv


def column_names(text: str) -> tuple[str, ...]:
    """Split names at commas; a name with a comma in it stands in double quotes.

    >>> column_names('"a,b", c'), column_names("")
    (('a,b', 'c'), ())
    """
    try:
        (names,) = csv.reader([text], skipinitialspace=True, strict=True) if text.strip() else [()]
    except (csv.Error, ValueError) as error:
        raise ValueError(f"expected names separated by commas but got {text!r}") from error
    return tuple(name.strip() for name in names)
