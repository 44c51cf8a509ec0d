"""Optuna's relational storage, made safe for workers that come, go and die.

SQLite, a file in the output folder, serves the processes of one machine; PostgreSQL any number of
machines.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from virtualdepth.runs import UnusableError

# Seconds between two heartbeats of a running cell, and after which its worker counts as dead.
HEARTBEAT, GRACE = 5, 60
_WAIT_FOR_LOCK = 60.0  # seconds; a writer holds SQLite's lock for milliseconds


class CellStorage(RDBStorage):
    """Optuna's RDBStorage, but a cell whose worker died waits again, in the same row.

    Optuna's own way fails the row and adds another one. A process killed between the two would lose
    the cell, and two processes that see the same death could add it twice.
    """

    def __init__(self, url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> None:
        parsed = _with_driver(make_url(url))
        is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = (
            {"connect_args": {"timeout": _WAIT_FOR_LOCK}}
            if is_sqlite
            else {"pool_pre_ping": True}  # a cell may outlive its connection
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of the heartbeat
            super().__init__(
                # Optuna takes braces for places to fill in
                parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=grace,
            )
        if is_sqlite:
            _serialise(self.engine)

    def close(self) -> None:
        """Close the connections."""
        self.remove_session()
        self.engine.dispose()

    def give_back(self, trial_id: int) -> bool:
        """Let a cell whose worker is gone wait again; return whether it was unfinished."""
        try:
            return self.set_trial_state_values(trial_id, TrialState.WAITING)
        except UpdateFinishedTrialError:
            return False

    def give_back_stale(self, study_id: int) -> None:
        """Let cells wait again whose workers have sent no heartbeat for the grace period."""
        for trial_id in self._get_stale_trial_ids(study_id):
            self.give_back(trial_id)

    def waiting(self, study_id: int) -> list[int]:
        """Return the ids of the first rows that wait; a few, since other workers take them too."""
        query = (
            "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'WAITING' "
            "ORDER BY number LIMIT 8"
        )
        return [int(trial_id) for (trial_id,) in self._select(query, study_id)]

    def counts(self, study_id: int) -> dict[str, int]:
        """Count rows by the name of their TrialState.

        One query: Optuna would load every trial, and a thousand of them take a second.
        """
        query = "SELECT state, COUNT(*) FROM trials WHERE study_id = :study GROUP BY state"
        return {str(state): int(number) for state, number in self._select(query, study_id)}

    def _select(self, query: str, study_id: int) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(sqlalchemy.text(query), {"study": study_id}).all()


def _serialise(engine: sqlalchemy.Engine) -> None:
    """Make every transaction take SQLite's write lock at its start.

    Otherwise two workers can both read that a cell waits, and then both take it.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        # With a write-ahead log a commit survives the death of the process without waiting for the
        # disk: it takes a tenth of a millisecond instead of ten, seven times a cell.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before this


def _with_driver(url: URL) -> URL:
    """Name the driver of PostgreSQL that this package requires; SQLAlchemy's default is another."""
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    return url


def check_url(url: str) -> str:
    """Return the address; refuse what is neither a file of SQLite nor a PostgreSQL database."""
    try:
        parsed = make_url(url)
        backend, database = parsed.get_backend_name(), parsed.database
    except SQLAlchemyError:
        backend, database = None, None
    if backend not in {"sqlite", "postgresql"} or database in {None, "", ":memory:"}:
        raise UnusableError(
            "storage",
            "expected sqlite:///FILE or postgresql://USER@HOST/DATABASE but got "
            f"{without_password(url)}",
        )
    return url


def without_password(url: str) -> str:
    """Write an address for people to read: postgresql://me:***@host/studies."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database and its driver raise into one UnusableError."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        raise UnusableError(
            "storage",
            f"expected to read and write {without_password(url)} but got: {_reason(error)}; every "
            "cell recorded by then is kept: solve this and run the same command again",
        ) from error


def _reason(error: BaseException) -> str:
    """Return what the driver said, without the statement that SQLAlchemy adds."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    if isinstance(original, ImportError):
        original = original.__cause__ or original
        return f"{original} (pip install 'virtualdepth[studies]')"
    return " ".join(str(original).split())


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Silence Optuna's remarks on studies and trials in the block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def lock(url: str, study: str) -> Iterator[None]:
    """Let no other process make tables or add cells; the death of a process frees the lock."""
    parsed = _with_driver(make_url(url))
    if parsed.get_backend_name() == "sqlite":
        with FileLock(f"{parsed.database}.lock"):
            yield
        return
    engine = sqlalchemy.create_engine(parsed)
    try:
        with engine.connect() as connection:
            connection.execute(
                sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": crc32(study.encode())}
            )
            yield
    finally:
        engine.dispose()
