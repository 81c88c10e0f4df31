"""One database, SQLite or PostgreSQL: opened, brought up to date, read from and written to."""

import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar

import orjson
from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from ingest.errors import Refused, StoreBusy, StoreUnreachable, Unavailable
from ingest.outages import file_of, in_our_words, make_folder, name_of, outage
from ingest.schema import REVISION, metadata

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 64  # more than the service has threads: nobody waits for one
_MIGRATING = 0x5CA12  # PostgreSQL's advisory lock that lets one process migrate at a time
_OPTIONS = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": orjson.loads,
    "max_overflow": MOST_CONNECTIONS,
}


Item = TypeVar("Item")


class Readable(Protocol):
    """Whatever can be read from, one consistent snapshot at a time."""

    def reading(self) -> AbstractContextManager[Connection]: ...


class Database:
    """Snapshots to read from and transactions to write in; safe to share between threads."""

    def __init__(self, engine: Engine, *, busy_timeout_s: float) -> None:
        self.url = engine.url
        self._engine = engine
        self._reader = engine
        if engine.dialect.name == "postgresql":
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")
        self._writer = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._busy_timeout_s = busy_timeout_s
        # SQLite lets waiting writers race, so one thread of many could lose until it times out;
        # in one process they take turns.
        self._turn = threading.Lock()
        self._unswept = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A snapshot: every statement in it sees the same moment."""
        with in_our_words(self.url), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction, committed at the end, or rolled back by whatever is raised inside."""
        if not self._turn.acquire(timeout=self._busy_timeout_s):
            raise outage(StoreBusy, self.url, "this one: its other writers come first")
        try:
            with in_our_words(self.url), self._writer.begin() as connection:
                yield connection
        finally:
            self._turn.release()
        if self._unswept:
            self.sweep(wait_s=0)

    @contextmanager
    def alone(self, what: str) -> Iterator[bool]:
        """True for one session at a time on PostgreSQL, whose lock ends with its connection."""
        if self._engine.dialect.name != "postgresql":
            yield True
            return
        number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:7], "big")
        free = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with in_our_words(self.url), free.connect() as connection:
            locked = bool(
                connection.execute(text("SELECT pg_try_advisory_lock(:n)"), {"n": number}).scalar()
            )
            try:
                yield locked
            finally:
                if locked:
                    _let_go(connection, number)

    def sweep(self, *, wait_s: float = 1.0) -> None:
        """Let what was deleted leave SQLite's write-ahead log too.

        A snapshot that is still being read, or a full disk, holds the log back: then the next
        write tries again. PostgreSQL overwrites what was deleted in its own time (VACUUM).
        """
        if self._engine.dialect.name != "sqlite":
            return
        self._unswept = True
        alone = self._engine.execution_options(begin=None)
        try:
            with in_our_words(self.url), alone.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {_ms(wait_s)}")
                try:
                    held = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar()
                finally:
                    usual = f"PRAGMA busy_timeout = {_ms(self._busy_timeout_s)}"
                    connection.exec_driver_sql(usual)
        except Unavailable as error:
            # What was written is written: failing now would say that it was not.
            log.warning("store.unswept why=%r", str(error))
            return
        self._unswept = bool(held)

    def close(self) -> None:
        self._engine.dispose()


def _let_go(connection: Connection, number: int) -> None:
    """Give the lock back; one whose connection was lost is free already, and that is no failure of
    what was done meanwhile."""
    try:
        connection.execute(text("SELECT pg_advisory_unlock(:n)"), {"n": number})
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        log.warning("store.lock_lost why=%r", str(error.orig).strip())


def slices(items: Sequence[Item], size: int = 500) -> Iterator[Sequence[Item]]:
    """The items in runs that one statement may name: SQLite takes 32,766 parameters at most."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def open_database(url: str, *, busy_timeout_s: float) -> Database:
    """The database at `url`, made if it is not there and brought to our schema.

    Raises `Refused` for a URL that names neither SQLite nor PostgreSQL, `Unavailable` for a
    database that cannot be used as it is.
    """
    where = _parsed(url)
    make_folder(where)
    engine = _engine(where, busy_timeout_s)
    try:
        with in_our_words(where):
            if not _is_current(engine):
                _migrate(where, busy_timeout_s)
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, busy_timeout_s=busy_timeout_s)


def _parsed(url: str) -> URL:
    try:
        where = make_url(url)
    except ArgumentError:
        raise Refused("the store's URL cannot be read; write sqlite:////path/to/file.db") from None
    if where.drivername in ("postgresql", "postgres"):
        where = where.set(drivername="postgresql+psycopg")
    if where.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise Refused(f"{name_of(where)} is neither sqlite:// nor postgresql://; use one of them")
    if where.drivername.startswith("sqlite") and where.database in (None, "", ":memory:"):
        raise Refused("a store in memory loses everything; name a file: sqlite:////path/to/file.db")
    return where


def _engine(where: URL, busy_timeout_s: float, *, foreign_keys: bool = True) -> Engine:
    if file_of(where) is None:
        return _postgres(where, busy_timeout_s)
    return _sqlite(where, busy_timeout_s, foreign_keys=foreign_keys)


def _sqlite(where: URL, busy_timeout_s: float, *, foreign_keys: bool) -> Engine:
    pragmas = {
        "journal_mode": "WAL",
        "synchronous": "FULL",  # what is acknowledged survives a power cut
        "foreign_keys": "ON" if foreign_keys else "OFF",
        "secure_delete": "ON",  # what is forgotten is overwritten
        "mmap_size": "0",  # so that a failing disk is an error, not a signal that kills us
    }
    own_begin = {"timeout": busy_timeout_s, "isolation_level": None}
    engine = create_engine(where, connect_args=own_begin, **_OPTIONS)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # SQLite cannot turn a snapshot that others have written past into a writer, so who will
        # write says so first.
        words = connection.get_execution_options().get("begin", "BEGIN")
        if words:
            connection.exec_driver_sql(words)

    return engine


def _postgres(where: URL, busy_timeout_s: float) -> Engine:
    options = f"{where.query.get('options', '')} -c TimeZone=UTC -c lock_timeout="
    try:
        return create_engine(
            where,
            connect_args={"options": f"{options}{_ms(busy_timeout_s)}", "connect_timeout": 5},
            pool_pre_ping=True,  # a restarted server costs nobody an error
            **_OPTIONS,
        )
    except ModuleNotFoundError as error:
        said = f"{error}: run `pip install 'scarwise[postgres]'`"
        raise outage(StoreUnreachable, where, said) from error


def _is_current(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) == REVISION


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version"))
    return found.scalar_one_or_none()


def _migrate(where: URL, busy_timeout_s: float) -> None:
    # Without foreign keys: SQLite alters a table by making it anew, and dropping the old one
    # would delete, by cascade, all that refers to it.
    engine = _engine(where, busy_timeout_s, foreign_keys=False)
    try:
        with engine.execution_options(begin="BEGIN IMMEDIATE").begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATING})
            _refuse_a_stranger(connection)
            _upgrade(connection)
    finally:
        engine.dispose()


def _refuse_a_stranger(connection: Connection) -> None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" in tables:
        return
    theirs = tables if connection.dialect.name == "sqlite" else tables & metadata.tables.keys()
    if theirs:
        said = f"it holds the tables of something else, such as {min(theirs)}: name another one"
        raise outage(StoreUnreachable, connection.engine.url, said)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "ingest:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        # A revision that we do not have: somebody newer was here.
        said = f"a newer Scarwise made its tables: upgrade this one. {error}"
        raise outage(StoreUnreachable, connection.engine.url, said) from error


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
