"""Text such as names and messages of others, in Markdown, in figures and in file names."""

import re

# An underscore inside a word, as in init_scale, means nothing to Markdown, nor do brackets without
# an address behind them, as in [0.1].
_MEANINGFUL = re.compile(r"[\\`*<>|&]|\](?=[(\[:])|~~|(?<!\w)_|_(?!\w)")


def one_line(text: object) -> str:
    r"""Write text in one line, without what moves a terminal's cursor.

    >>> one_line("no such\nluck \x1b[2J")
    'no such luck [2J'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def escaped(text: object) -> str:
    r"""Write text for a paragraph, list or table of Markdown, in one line.

    >>> print(escaped("init_scale | <b>"))
    init_scale \| \<b\>
    """
    return _MEANINGFUL.sub(lambda found: "\\" + found[0], one_line(text))


def code(text: object) -> str:
    """Write text as code, between more backticks than it has in a row.

    >>> print(code("x=1"), code("a`b"))
    `x=1` ``a`b``
    """
    line = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") or not line else ""
    return f"{fence}{space}{line}{space}{fence}"


def figure_text(text: object, most: int = 60) -> str:
    r"""Write text for a figure, where dollars would enclose mathematics.

    >>> print(figure_text("cost ($)"))
    cost (\$)
    """
    line = one_line(text)
    return (line if len(line) <= most else f"{line[: most - 1]}…").replace("$", "\\$")


def file_name(text: str, most: int = 80) -> str:
    """Return text as part of a file's name: letters, digits and "_.+=-", the rest as "-".

    >>> file_name("val/loss (top 5)"), file_name("../../x")
    ('val-loss-top-5', 'x')
    """
    return re.sub(r"[^\w.+=-]+", "-", text)[:most].strip("-.") or "_"
