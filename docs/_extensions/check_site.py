"""Fail the build where a page lost text on its way to HTML, or says a thing twice.

MkDocs calls :func:`on_post_page` for each page. A warning ends `mkdocs build --strict`.
"""

import logging
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

from mkdocs.plugins import event_priority

LOG = logging.getLogger("mkdocs.hooks.check_site")

# What the theme and Markdown write. Any other tag is text such as "<G, P_W(G)>", which a browser
# takes for HTML and does not show.
_NAMES = """
a article aside b body br button code dd details div dl dt em figure footer form h1 h2 h3 h4 h5 h6
head header hr html i img input kbd label li link main mark meta nav ol option p path pre script
section small span strong style sub summary sup svg table tbody td th thead title tr ul
"""
TAGS = frozenset(_NAMES.split())
# Parts of docstrings and Markdown that something should have turned into HTML.
LEFT_OVER = re.compile(r":(?:class|func|meth|mod|attr|math):|\]\[|``|\.\. \w+::|\*\*\w")
# Text with formulas; the browser turns \( \) and \[ \] into mathematics.
FORMULA = re.compile(r"\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
UNSHOWN = ("script", "style", "code", "pre")


class Page(HTMLParser):
    """Collects tags, ids, and the text outside of code."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: Counter[str] = Counter()
        self.text: list[str] = []
        self._unshown = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and its id."""
        self.tags.add(tag)
        self.ids.update(value for name, value in attrs if name == "id" and value)
        self._unshown += tag in UNSHOWN

    def handle_endtag(self, tag: str) -> None:
        """Note where code ends."""
        self._unshown -= tag in UNSHOWN

    def handle_data(self, data: str) -> None:
        """Keep what a reader sees."""
        if not self._unshown:
            self.text.append(data)


def faults(html: str) -> list[str]:
    """Return what is wrong with a page, one line each."""
    page = Page()
    page.feed(html)
    text = " ".join(page.text)
    found = [f"text swallowed as the tag <{tag}>" for tag in sorted(page.tags - TAGS)]
    found += [f"the id {name} is given twice" for name, count in page.ids.items() if count > 1]
    words = FORMULA.sub(" ", text)
    for match in LEFT_OVER.finditer(words):
        around = words[max(0, match.start() - 40) : match.end() + 40]
        found.append(f"left as it was written: {' '.join(around.split())}")
    found += [f"a formula without its end: {part}" for part in re.findall(r"\\[(\[].{,40}", words)]
    return found


@event_priority(-100)  # after the plugins that put references in
def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Warn of each fault of a page."""
    for fault in faults(output):
        LOG.warning("%s: %s", page.file.src_path, fault)
    return output
