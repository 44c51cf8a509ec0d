"""The address of a storage: what it may be, and how it is shown without its password."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from virtualdepth.runs import UnusableError


def with_driver(url: URL) -> URL:
    """Name the drivers that this package requires; SQLAlchemy's default may be another."""
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url.set(drivername="sqlite")


def patience(url: URL) -> dict[str, Any]:
    """Return options of a connection to PostgreSQL that end each wait for a lost server."""
    limits = {
        "connect_timeout": 15,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
    }
    return {name: limit for name, limit in limits.items() if name not in url.query}


def check_url(url: str) -> str:
    """Return the address; refuse what is neither a file of SQLite nor a PostgreSQL database."""
    expected = "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE but got"
    try:
        parsed = make_url(url)
        backend, database, host = parsed.get_backend_name(), parsed.database, parsed.host or ""
    except (SQLAlchemyError, ValueError) as error:
        raise UnusableError(
            "storage",
            f"{expected} {_shown(url)}; write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25",
        ) from error
    is_server = backend == "postgresql"
    if database in {None, "", ":memory:"} or not (is_server or (backend == "sqlite" and not host)):
        raise UnusableError("storage", f"{expected} {_shown(url)}")
    if re.fullmatch(r"[\w.%:-]*", host) is None:
        raise UnusableError(
            "storage", f"{expected} a host of other characters; write @ in a password as %40"
        )
    if not is_server:
        _check_file(str(database), with_options=bool(parsed.query))
    return url


def _shown(url: str) -> str:
    """Show an address that is refused, of one that may have a password only its kind."""
    kind, _, rest = url.rpartition("://")
    if set(rest).isdisjoint(":@?="):
        return repr(url)
    return f"{kind}://..." if re.fullmatch(r"[\w+]+", kind) else "an address that cannot be read"


def _check_file(database: str, *, with_options: bool) -> None:
    path = Path(database)
    if with_options or database.startswith("file:"):
        raise UnusableError("storage", f"expected sqlite:///FILE, without options, but got {path}")
    if path.exists() and not path.is_file():
        raise UnusableError(
            "storage",
            f"expected to read and write a file of SQLite but got {path}: unable to open database "
            "file, since it is a folder, a pipe or a device",
        )
    if not path.parent.is_dir():
        raise UnusableError(
            "storage", f"expected a file in a folder that is there but got {path}; make the folder"
        )


def without_password(url: str) -> str:
    """Write an address for people to read: postgresql://me:***@host/studies."""
    try:
        return make_url(url).set(query={}).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return "an address that cannot be read"


def secrets(url: str) -> set[str]:
    """Return the passwords of an address, as it has them and as they are."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return set()
    words = [parsed.password, *(v for k, v in parsed.query.items() if "pass" in k)]
    plain = {str(word) for word in words if word}
    return plain | {quote(word, safe="") for word in plain}
