"""A PostgreSQL server of the test's own, where its programs are installed."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACES = [*os.environ.get("PATH", "").split(os.pathsep), *sorted(
    map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True
)]  # fmt: skip


def program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(PLACES))


def missing() -> str | None:
    """Why there can be no server here, if so."""
    if program("initdb") is None or program("postgres") is None:
        return "initdb and postgres are not installed"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "psycopg, the driver of PostgreSQL, is not installed"
    return None if _user() is not None else "PostgreSQL refuses to run as root; no other user"


def _user() -> str | None:
    """The server refuses root; "" is who we are."""
    if os.name != "posix" or os.geteuid() != 0:
        return ""
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in names), None)


@contextmanager
def server() -> Iterator[str]:
    """The address of an empty database."""
    user = _user()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        if user:
            shutil.chown(folder, user)
        options = {"user": user} if user else {}
        data, port = Path(folder) / "data", _free_port()
        subprocess.run(
            [str(program("initdb")), "-D", data, "-U", "tester", "-A", "trust", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **options,
        )  # fmt: skip
        with subprocess.Popen(
            [str(program("postgres")), "-D", data, "-p", str(port), "-k", folder, "-F",
             "-c", "listen_addresses=127.0.0.1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **options,
        ) as process:  # fmt: skip
            try:
                _wait(f"host=127.0.0.1 port={port} user=tester dbname=postgres")
                yield f"postgresql://tester@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)  # closes what is connected
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str) -> None:
    import psycopg

    deadline = time.monotonic() + 300
    while True:
        try:
            psycopg.connect(address).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
