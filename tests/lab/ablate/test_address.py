"""Addresses of storages: what is refused at once, and that no password is shown."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from tests.platforms import posix

from virtualdepth.runs import UnusableError, masked
from virtualdepth_lab.ablate.address import check_url, patience, without_password
from virtualdepth_lab.ablate.storage import lock, storage_errors
from virtualdepth_lab.ablate.study import StudyConfig

UNUSABLE = [
    "",
    "study.db",
    "sqlite",
    "sqlite:",
    "sqlite:/",
    "sqlite://",
    "sqlite:///",
    "sqlite:///:memory:",
    "sqlite:///a.db?mode=ro",
    "sqlite:///file:a.db",
    "sqlite:///no/such/folder/a.db",
    "postgresql://",
    "postgresql://me:secret@host",
    "postgresql://me:secret@host/",
    "postgresql://me:secret@host:port/db",
    "postgresql://me:secret",
    "postgresql://me:sec@ret-secret@host/db",
    "postgres://me:secret@host/db",
    "postgresql//me:secret@host/db",
    "me:secret@host/db",
    "mysql://me:secret@host/db",
    "mysql://host/db?password=secret",
    "nosuch+driver://me:secret@host/db",
    "password=secret",
    "postgresql://host:1/db?PGPASSWORD=a@secret",
    "mysql://host:1/db?PGPASSWORD=a@secret",
    "sqlite://me:secret@host/db",
    "sqlite://host/db",
]


@pytest.mark.parametrize("url", UNUSABLE)
def test_what_is_no_storage_is_refused_in_one_line(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableError, match=r"^storage: expected ") as refusal:
        check_url(url)
    assert "secret" not in masked(str(refusal.value))
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///a.db",
        "sqlite+pysqlite:///a b {0}%.db",
        "postgresql://me@host/db",
        "postgresql://me:p%40ss@[::1]:5432/db",
        "postgresql://me:p/w@host/db",
        "postgresql+psycopg2://host/db?sslmode=require",
        "postgresql:///db?host=/run/postgresql",
    ],
)
def test_what_is_a_storage(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_url(url) == url


@posix
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    with pytest.raises(UnusableError, match="since it is a folder, a pipe or a device"):
        check_url(f"sqlite:///{path}")


@pytest.mark.parametrize("password", ["secret", "sec%40ret", "s%2Fcret%20x", "a+b"])
def test_what_a_driver_says_is_without_the_password(password: str) -> None:
    from urllib.parse import unquote

    url = f"postgresql://me:{password}@host/db?sslpassword=other"
    said = f"cannot connect to {url} with {unquote(password)} or other"
    with pytest.raises(UnusableError) as refusal, storage_errors(url):
        raise OperationalError("SELECT 1", {}, Exception(said))
    text = str(refusal.value)
    assert text.startswith(
        "storage: expected to read and write postgresql://me:***@host/db but got"
    )
    for secret in (password, unquote(password), "other"):
        assert secret not in text.replace("another", "")


def test_no_wait_is_without_end() -> None:
    from sqlalchemy.engine import make_url

    assert patience(make_url("postgresql://host/db"))["connect_timeout"] <= 60
    assert "connect_timeout" not in patience(make_url("postgresql://host/db?connect_timeout=3"))


def test_a_lock_that_is_not_given_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("virtualdepth_lab.ablate.storage._MOST_PATIENCE", 0.1)
    url = f"sqlite:///{tmp_path}/a.db"
    with (
        lock(url, "a"),
        pytest.raises(UnusableError, match=r"^storage: expected to lock .*a\.db\.virtu"),
        lock(url, "a"),
    ):
        pass


def test_an_address_is_shown_without_its_password() -> None:
    shown = without_password("postgresql://me:secret@host:1/db?password=secret")
    assert shown == "postgresql://me:***@host:1/db"


@pytest.mark.slow  # loads torch twice
def test_a_worker_that_fails_prints_no_password(tmp_path: Path) -> None:
    """Neither where the server is gone, nor in the traceback of what nobody foresaw."""
    url = "postgresql://me:sec%40ret@127.0.0.1:1/studies?sslpassword=sec%40ret"
    study = StudyConfig(name="own", problem="regression", seeds=[0]).to_json()
    said = [_worker_says(url, study, tmp_path), _worker_says(url, {"nonsense": 1}, tmp_path)]
    assert "storage: expected to read and write postgresql://me:***@127.0.0.1:1/studies" in said[0]
    assert "Traceback" in said[1]
    for text in said:
        assert "sec" not in text.replace("seconds", "")


def _worker_says(url: str, study: dict[str, Any], folder: Path) -> str:
    task = {"storage": url, "study": study, "threads": 1, "scratch": str(folder / "scratch")}
    with subprocess.Popen(
        [sys.executable, "-m", "virtualdepth_lab.ablate.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # it ends its group when its input does
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(task) + "\n")
        process.stdin.flush()
        return process.stdout.read()
