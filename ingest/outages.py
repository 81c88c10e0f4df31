"""What a database says when it cannot serve, in our words and with the way out."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from ingest.errors import StoreBusy, StoreFull, StoreReadOnly, StoreUnreachable, Unavailable

# By the primary codes of sqlite.org/rescode.html and by the codes of PostgreSQL's appendix A.
_SQLITE: dict[int, type[Unavailable]] = {
    sqlite3.SQLITE_BUSY: StoreBusy,
    sqlite3.SQLITE_LOCKED: StoreBusy,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_IOERR: StoreUnreachable,
    sqlite3.SQLITE_CORRUPT: StoreUnreachable,
    sqlite3.SQLITE_CANTOPEN: StoreUnreachable,
    sqlite3.SQLITE_NOTADB: StoreUnreachable,
}
_POSTGRES: dict[str, type[Unavailable]] = {
    "55P03": StoreBusy,  # lock_not_available
    "40P01": StoreBusy,  # deadlock_detected
    "53300": StoreBusy,  # too_many_connections
    "53100": StoreFull,  # disk_full
    "25006": StoreReadOnly,  # read_only_sql_transaction
    "42501": StoreReadOnly,  # insufficient_privilege
}
_WORDS: dict[type[Unavailable], str] = {
    StoreBusy: "another process holds the database {name} ({said}); try again",
    StoreFull: "no room is left for the database {name} ({said}); free some, then try again",
    StoreReadOnly: "the database {name} or its folder cannot be written ({said}); let this user "
    "write there, or name another place",
    StoreUnreachable: "the database {name} cannot be used ({said}); check that it is there and "
    "sound, or restore it from a copy",
}


@contextmanager
def in_our_words(where: URL) -> Iterator[None]:
    """Turn an error of the database into an `Unavailable` that names it and the way out.

    What no caller can act on (a wrong statement, a broken constraint) passes as it is: a bug.
    """
    try:
        yield
    except NoConnectionFree as error:
        raise outage(StoreBusy, where, "every connection is in use") from error
    except DBAPIError as error:
        kind = _kind(error, where)
        if kind is None:
            raise
        raise outage(kind, where, str(error.orig)) from error


def make_folder(where: URL) -> None:
    """The folder of a SQLite file, closed to other users when it is new."""
    path = file_of(where)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        kind: type[Unavailable] = StoreUnreachable
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            kind = StoreReadOnly
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            kind = StoreFull
        raise outage(kind, where, os.strerror(error.errno or 0)) from error


def outage(kind: type[Unavailable], where: URL, said: str) -> Unavailable:
    """An error of this kind about this database; `said` is the machine's own reason."""
    reason = (said.strip().splitlines() or ["it gave no reason"])[0]
    return kind(_WORDS[kind].format(name=name_of(where), said=reason))


def name_of(where: URL) -> str:
    """What a person calls this database: its file, or its URL without the password."""
    path = file_of(where)
    return str(path) if path else where.render_as_string(hide_password=True)


def file_of(where: URL) -> Path | None:
    """The file of a SQLite database."""
    if where.get_backend_name() != "sqlite" or not where.database:
        return None
    return Path(where.database.removeprefix("file:").partition("?")[0])


def _kind(error: DBAPIError, where: URL) -> type[Unavailable] | None:
    said = error.orig
    if isinstance(said, sqlite3.Error):
        return _sqlite_kind(said, where)
    state: str | None = getattr(said, "sqlstate", None)
    if state is None:  # never connected, or no longer
        return StoreUnreachable if isinstance(error, OperationalError | InterfaceError) else None
    # Classes 08, 28, 3D, 57P, 58, XX: no connection, no such user or database, shutting down,
    # the server's own disk or memory.
    lost = state.startswith(("08", "28", "3D", "57P", "58", "XX"))
    return _POSTGRES.get(state, StoreUnreachable if lost else None)


def _sqlite_kind(said: sqlite3.Error, where: URL) -> type[Unavailable] | None:
    code: int | None = getattr(said, "sqlite_errorcode", None)
    if code is None:  # the driver's own: it read text that is none, so the file was damaged
        return StoreUnreachable if isinstance(said, sqlite3.OperationalError) else None
    if code == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull
    if code & 0xFF == sqlite3.SQLITE_CANTOPEN and _closed(where):
        return StoreReadOnly
    return _SQLITE.get(code & 0xFF)


def _closed(where: URL) -> bool:
    path = file_of(where)
    if path is None or not path.parent.is_dir():
        return False
    as_we_are = os.access in os.supports_effective_ids
    return not os.access(path.parent, os.W_OK, effective_ids=as_we_are)
