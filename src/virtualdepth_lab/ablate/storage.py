"""Optuna's relational storage, made safe for workers that come, go and die.

SQLite, a file in the output folder, serves the processes of one machine; PostgreSQL any number of
machines.
"""

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from zlib import crc32

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from virtualdepth.runs import UnusableError
from virtualdepth_lab.ablate.address import patience, secrets, with_driver, without_password

# Seconds between two heartbeats of a running cell, and after which its worker counts as dead.
HEARTBEAT, GRACE = 5, 60
LOCK = ".virtualdepth-lock"  # after a database's name; some versions of filelock empty their file
_WAIT_FOR_LOCK = 60.0  # seconds; a writer holds SQLite's lock for milliseconds
_MOST_PATIENCE = 600  # seconds; a command that adds thousands of cells holds its lock for some


class _Silence(NamedTuple):
    """For how long a running cell has had the same heartbeat."""

    heartbeat: object
    seen: float  # when, on the clock of this process that never jumps
    seconds: float


class CellStorage(RDBStorage):
    """Optuna's RDBStorage, but a cell whose worker died waits again, in the same row.

    Optuna's own way fails the row and adds another one. A process killed between the two would lose
    the cell, and two processes that see the same death could add it twice.
    """

    def __init__(self, url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> None:
        parsed = with_driver(make_url(url))
        is_sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = (
            {"connect_args": {"timeout": _WAIT_FOR_LOCK}}
            if is_sqlite
            # a cell may outlive its connection
            else {"connect_args": patience(parsed), "pool_pre_ping": True}
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
        self._beat, self._grace = heartbeat, grace
        self._silent: dict[int, _Silence] = {}  # by trial

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
        """Let cells wait again of whose workers no heartbeat is seen for the grace period.

        No clock is asked, which may jump: a heartbeat counts when the storage has another one than
        at the look before. Between two looks, at most the time of one heartbeat counts.
        """
        now = time.monotonic()
        query = (
            "SELECT t.trial_id, h.heartbeat FROM trials t LEFT JOIN trial_heartbeats h "
            "ON h.trial_id = t.trial_id WHERE t.study_id = :study AND t.state = 'RUNNING'"
        )
        before, self._silent = self._silent, {}
        for trial_id, heartbeat in self._select(query, study_id):
            last = before.get(trial_id)
            if last is None or last.heartbeat != heartbeat:
                seconds = 0.0
            else:
                seconds = last.seconds + max(0.0, min(now - last.seen, self._beat))
            self._silent[trial_id] = _Silence(heartbeat, now, seconds)
            if seconds > self._grace:
                self.give_back(trial_id)

    def describe(self, study_id: int, name: str, distribution: BaseDistribution) -> None:
        """Describe a parameter anew, in every row that has it; the values stay the same.

        Optuna wants one kind of distribution for all rows, and the same choices.
        """
        text = distribution_to_json(distribution)
        query = (
            "SELECT param_id, param_value, distribution_json FROM trial_params p JOIN trials t "
            "ON p.trial_id = t.trial_id WHERE t.study_id = :study AND p.param_name = :name"
        )
        update = (
            "UPDATE trial_params SET param_value = :value, distribution_json = :text "
            "WHERE param_id = :row"
        )
        with self.engine.begin() as connection:
            found = connection.execute(sqlalchemy.text(query), {"study": study_id, "name": name})
            changed = [
                {
                    "row": row,
                    "text": text,
                    "value": distribution.to_internal_repr(
                        json_to_distribution(old).to_external_repr(value)
                    ),
                }
                for row, value, old in found.all()
                if old != text
            ]
            if changed:
                connection.execute(sqlalchemy.text(update), changed)

    def finished_cells(self, study: str) -> set[str]:
        """Return the names of the cells that ended by themselves; none if there is no study."""
        try:
            trials = self.get_all_trials(self.get_study_id_from_name(study), deepcopy=False)
        except KeyError:
            return set()
        ended = {TrialState.COMPLETE, TrialState.PRUNED}
        return {str(t.user_attrs.get("cell")) for t in trials if t.state in ended}

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


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a database and its driver raise into one UnusableError."""
    try:
        yield
    except (StorageInternalError, SQLAlchemyError, ImportError) as error:
        reason = _reason(error)
        for secret in sorted(secrets(url), key=len, reverse=True):
            reason = reason.replace(secret, "***")
        raise UnusableError(
            "storage",
            f"expected to read and write {without_password(url)} but got: {reason}; every "
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
    parsed = with_driver(make_url(url))
    if parsed.get_backend_name() == "sqlite":
        try:
            held = FileLock(f"{parsed.database}{LOCK}").acquire(timeout=_MOST_PATIENCE)
        except OSError as error:  # a Timeout is one
            raise UnusableError(
                "storage",
                f"expected to lock {parsed.database}{LOCK}, as no other command does for long, but "
                f"got {error.strerror or error}",
            ) from error
        with held:
            yield
        return
    engine = sqlalchemy.create_engine(parsed, connect_args=patience(parsed))
    try:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text(f"SET lock_timeout = '{_MOST_PATIENCE}s'"))
            connection.execute(
                sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": crc32(study.encode())}
            )
            yield
    finally:
        engine.dispose()
