"""What the tests of several rooms need: a clock, and a store on each of the two databases."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text

from ingest.store import Store
from tests.postgres import Server, programs, running

NOT_INSTALLED = "PostgreSQL is not installed; these tests ran on SQLite only (see .ci/postgres)"


class Clock:
    """A clock that a test sets; it stands still in between."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        """Move on by so many `days`, `hours`, `seconds`; the new time."""
        self.now += timedelta(**by)
        return self.now


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that spin for each other make a tiny model ten times slower on two busy cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2030, 1, 1, 12, tzinfo=UTC))


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """An empty store; a test that takes it runs on SQLite and on PostgreSQL."""
    opened = Store.open(store_url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(sqlite_url: str, clock: Clock) -> Iterator[Store]:
    """An empty store on SQLite, for what only SQLite has; its file is `scarwise.db`."""
    opened = Store.open(sqlite_url, clock=clock)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Where an empty store is, in each kind of database."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def sqlite_url(empty_file: Path, tmp_path: Path) -> str:
    shutil.copy(empty_file, tmp_path / "scarwise.db")
    return f"sqlite:///{tmp_path / 'scarwise.db'}"


@pytest.fixture
def postgres_url(postgres: URL, empty_database: str) -> Iterator[str]:
    name = f"{empty_database}_{os.urandom(4).hex()}"
    _command(postgres, f"CREATE DATABASE {name} TEMPLATE {empty_database}")
    yield _of(postgres, name)
    _command(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with its tables and nothing in them: copied, it costs no migration."""
    path = tmp_path_factory.mktemp("empty") / "scarwise.db"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[URL]:
    """A PostgreSQL server: the one that SCARWISE_TEST_POSTGRES_URL names, else one of our own."""
    named = os.environ.get("SCARWISE_TEST_POSTGRES_URL")
    if named:
        yield make_url(named).set(drivername="postgresql+psycopg")
        return
    with own_server() as server:
        yield server.url


@pytest.fixture
def mortal_postgres() -> Iterator[Server]:
    """A PostgreSQL server that a test may stop and start again."""
    with own_server() as server:
        yield server


@contextmanager
def own_server() -> Iterator[Server]:
    """One that runs, and is gone afterwards; the test is skipped where there is none."""
    if programs() is None:
        pytest.skip(NOT_INSTALLED)
    with running() as server:
        yield server


@pytest.fixture(scope="session")
def empty_database(postgres: URL) -> Iterator[str]:
    """A PostgreSQL store with its tables and nothing in them, to make others from."""
    name = f"scarwise_test_{os.getpid()}"
    _command(postgres, f"CREATE DATABASE {name}")
    Store.open(_of(postgres, name)).close()
    yield name
    _command(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def _command(server: URL, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def _of(server: URL, name: str) -> str:
    return server.set(database=name).render_as_string(hide_password=False)
