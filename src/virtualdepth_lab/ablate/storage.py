"""Optuna's relational storage, made safe for workers that come, go and die.

SQLite, a file in the output folder, serves the processes of one machine; PostgreSQL any number of
machines.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from virtualdepth.runs import UnusableError

# seconds between two signs of life of a running cell, and after which its worker counts as dead
HEARTBEAT, GRACE = 5, 60
_WAIT_FOR_LOCK = 60.0  # seconds; a writer holds SQLite's lock for milliseconds


class CellStorage(RDBStorage):
    """Optuna's RDBStorage; here a cell whose worker died waits again, in the same row.

    Optuna's own way fails the row and adds another one. A process killed between the two would lose
    the cell, and two processes that see the same death could add it twice.

    Args:
        url: "sqlite:///FILE" or "postgresql://USER@HOST/DATABASE".
        heartbeat: seconds between two signs of life.
        grace: seconds without one after which a worker counts as dead.
    """

    def __init__(self, url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> None:
        parsed = make_url(url)
        options: dict[str, Any]
        if parsed.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": _WAIT_FOR_LOCK}}
        else:
            options = {"pool_pre_ping": True}  # a cell may outlive its connection
            # the driver that this package asks for, whatever SQLAlchemy takes by default
            parsed = parsed.set(drivername="postgresql+psycopg")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of the heartbeat
            super().__init__(
                # Optuna takes braces for places to fill in
                parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}"),
                engine_kwargs=options,
                heartbeat_interval=heartbeat,
                grace_period=grace,
            )
        if parsed.get_backend_name() == "sqlite":
            _serialise(self.engine)

    def close(self) -> None:
        """Close the connections."""
        self.remove_session()
        self.engine.dispose()

    def give_back(self, trial_id: int) -> bool:
        """Let a cell wait again whose worker is gone.

        Args:
            trial_id: of its row.

        Returns:
            Whether it was not finished.
        """
        try:
            return self.set_trial_state_values(trial_id, TrialState.WAITING)
        except UpdateFinishedTrialError:
            return False

    def give_back_stale(self, study_id: int) -> None:
        """Let cells wait again whose workers have shown no sign of life for the grace period.

        Args:
            study_id: of the study.
        """
        for trial_id in self._get_stale_trial_ids(study_id):
            self.give_back(trial_id)

    def waiting(self, study_id: int) -> list[int]:
        """List the first rows that wait, as :meth:`counts` in one query.

        Args:
            study_id: of the study.

        Returns:
            Their ids: a few, since other workers take them meanwhile.
        """
        query = sqlalchemy.text(
            "SELECT trial_id FROM trials WHERE study_id = :study AND state = 'WAITING' "
            "ORDER BY number LIMIT 8"
        )
        with self.engine.connect() as connection:
            return [int(row[0]) for row in connection.execute(query, {"study": study_id})]

    def counts(self, study_id: int) -> dict[str, int]:
        """Count rows by state: one query, where loading a thousand trials takes a second.

        Args:
            study_id: of the study.

        Returns:
            Name of an optuna.trial.TrialState -> number, if not 0.
        """
        query = sqlalchemy.text(
            "SELECT state, COUNT(*) FROM trials WHERE study_id = :study GROUP BY state"
        )
        with self.engine.connect() as connection:
            rows = connection.execute(query, {"study": study_id}).all()
        return {str(state): int(number) for state, number in rows}


def _serialise(engine: sqlalchemy.Engine) -> None:
    """Make every transaction take SQLite's write lock at its start.

    Otherwise two workers can both read that a cell waits, and then both take it.
    """

    @sqlalchemy.event.listens_for(engine, "connect")
    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        # With a log written ahead a commit outlives the process without waiting for the disk:
        # a tenth of a millisecond where it took ten, seven times a cell.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: sqlalchemy.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before this


def check_url(url: str) -> str:
    """Refuse a storage of another kind.

    Args:
        url: of the storage.

    Returns:
        ``url``.

    Raises:
        UnusableError: if it is neither a file of SQLite nor a PostgreSQL database.

    >>> check_url("redis://localhost")
    Traceback (most recent call last):
    virtualdepth.runs._errors.UnusableError: storage: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE but got redis://localhost
    """  # noqa: E501 (a message is one line)
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        parsed = None
    backend = None if parsed is None else parsed.get_backend_name()
    kept = parsed is not None and parsed.database not in {None, "", ":memory:"}
    if not kept or backend not in {"sqlite", "postgresql"}:
        raise UnusableError(
            "storage",
            f"expected sqlite:///FILE or postgresql://USER@HOST/DATABASE but got {shown(url)}",
        )
    return url


def shown(url: str) -> str:
    """Write a storage without its password.

    Args:
        url: of the storage.

    Returns:
        Text.

    >>> shown("postgresql://me:secret@host/studies")
    'postgresql://me:***@host/studies'
    """
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database and its driver raise into one line.

    Args:
        url: of the storage.

    Yields:
        Nothing.

    Raises:
        UnusableError: in place of such an error.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        raise UnusableError(
            "storage",
            f"expected to read and write {shown(url)} but got: {_reason(error)}; every cell "
            "recorded by then is kept: put this right and run the same command again",
        ) from error


def _reason(error: BaseException) -> str:
    """What the driver said, without the statement that SQLAlchemy adds."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    original = getattr(error, "orig", None) or error
    if isinstance(original, ImportError):
        original = original.__cause__ or original
        return f"{original} (pip install 'virtualdepth[studies]')"
    return " ".join(str(original).split())


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna's remarks on studies and trials off the terminal, here and only here.

    Yields:
        Nothing.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def lock(url: str, study: str) -> Iterator[None]:
    """Keep others from making tables or adding cells; the death of a process frees the lock.

    Args:
        url: of the storage.
        study: name.

    Yields:
        Nothing.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with FileLock(f"{parsed.database}.lock"):
            yield
        return
    engine = sqlalchemy.create_engine(parsed.set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            connection.execute(
                sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": crc32(study.encode())}
            )
            yield
    finally:
        engine.dispose()
