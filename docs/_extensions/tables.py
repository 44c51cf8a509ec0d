"""Keep numbers of tables on one line: MkDocs calls :func:`on_page_content` for each page."""

import re
from typing import Any

# A cell that is a number, or a few numbers such as "0.36 / 0.17 R" and "92.4 (92.3-92.7)".
NUMBER = re.compile(r"<td(?P<how>[^>]*)>(?P<text>[✓(−<>≤≥~-]*\s*\d[^<]{,22})</td>")


def on_page_content(html: str, **_: Any) -> str:
    """Mark the cells that hold numbers; the style sheet keeps them from breaking."""
    return NUMBER.sub(r'<td\g<how> class="number">\g<text></td>', html)
