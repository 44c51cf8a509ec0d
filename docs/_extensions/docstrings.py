"""Turn the reST marks of docstrings into Markdown for the site; `help()` shows them as they are."""

import re
from copy import copy

from griffe import Class, Extension, Module, Object

INLINE_MATH = re.compile(r":math:`([^`]+)`")
# `.. math::` with the formula on the same line, on the indented lines below, or on both.
DISPLAY_MATH = re.compile(
    r"^(?P<indent> *)\.\. math::(?P<first>.*)\n(?P<rest>(?:\n*(?P=indent) +\S.*\n?)*)", re.MULTILINE
)
QUALIFIED = re.compile(r":(?:class|func|meth|mod):`~?(virtualdepth[\w.]*?)(\w+)`")
UNQUALIFIED = re.compile(r":(?:class|func|meth|mod):`([^`]+)`")
DOCTEST = re.compile(
    r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*", re.MULTILINE
)


def _display_math(match: re.Match[str]) -> str:
    indent = match["indent"]
    formula = " ".join((match["first"] + " " + match["rest"]).split())
    return f"{indent}\\[{formula}\\]\n\n"


def _doctest(match: re.Match[str]) -> str:
    indent = match["indent"]
    return f"{indent}```pycon\n{match[0]}\n{indent}```"


def to_markdown(text: str) -> str:
    """Translate formulas, references and examples."""
    text = DISPLAY_MATH.sub(_display_math, text)
    text = INLINE_MATH.sub(r"\\(\1\\)", text)
    text = QUALIFIED.sub(r"[`\2`][\1\2]", text)
    text = UNQUALIFIED.sub(r"`\1`", text)
    return DOCTEST.sub(_doctest, text)


class Docstrings(Extension):
    """A griffe extension that rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        """Rewrite the docstring of one object; griffe calls this for each that it collects."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)

    def on_package(self, *, pkg: Module, **_: object) -> None:
        """Let the classes for Lightning inherit docstrings; griffe calls this at the end."""
        for kind in pkg["lightning"].classes.values():
            if not kind.is_alias:
                _inherit_docstring(kind)


def _inherit_docstring(kind: Class) -> None:
    """Give a class that has no docstring that of its first base."""
    if kind.docstring is None:
        # a copy, for on_object rewrites each docstring once
        kind.docstring = copy(kind.resolved_bases[0].docstring)
