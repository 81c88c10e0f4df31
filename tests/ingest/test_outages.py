"""When its database cannot serve, the store says so, loses nothing, and goes on afterwards."""

import itertools
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, text
from sqlalchemy.exc import IntegrityError

from ingest import audit
from ingest.errors import StoreBusy, StoreFull, StoreReadOnly, StoreUnreachable
from ingest.schema import forgotten
from ingest.store import Store
from tests.ingest.given import DAY_1, incident


@pytest.fixture
def hasty(store_url, clock):
    """A store that waits a moment only."""
    opened = Store.open(store_url, clock=clock, busy_timeout_s=0.1)
    yield opened
    opened.close()


def test_a_locked_database_is_busy_and_serves_again_when_it_is_free(hasty, store_url):
    hasty.put([incident(of="1")], actor="test")
    other = create_engine(store_url)
    with other.connect() as holder:
        if holder.dialect.name == "sqlite":
            holder.exec_driver_sql("BEGIN IMMEDIATE")
        holder.execute(text("UPDATE audit_head SET count = count"))

        with pytest.raises(StoreBusy, match=r"another process holds the database .*; try again"):
            hasty.put([incident(of="2")], actor="test")
        read_meanwhile = hasty.count()["incidents"]
        holder.rollback()
    other.dispose()

    hasty.put([incident(of="3")], actor="test")

    assert read_meanwhile == 1
    assert {s.incident.source_id for s in hasty.page()} == {"1", "3"}
    assert audit.verify(hasty).entries == 2


def test_a_writer_of_this_process_that_does_not_end_makes_the_next_busy(hasty):
    entered, leave = threading.Event(), threading.Event()

    def write_slowly() -> None:
        with hasty.transaction("slow"):
            entered.set()
            leave.wait(30)

    slow = threading.Thread(target=write_slowly)
    slow.start()
    entered.wait(30)

    with pytest.raises(StoreBusy, match="its other writers come first"):
        hasty.put([incident()], actor="test")

    leave.set()
    slow.join()
    assert hasty.put([incident()], actor="test")[0].outcome == "stored"


def test_a_full_disk_loses_nothing_acknowledged_and_can_still_be_read(sqlite_store):
    store = sqlite_store
    pages = pragma(store, "page_count")
    pragma(store, f"max_page_count = {pages + 40}")
    acknowledged = list[str]()

    with pytest.raises(StoreFull, match=r"no room is left for the database .*scarwise\.db"):
        put_for_ever(store, acknowledged)

    assert {s.incident.id for s in store.page(limit=10_000)} == set(acknowledged)
    assert [c.incident_id for c in store.changes(0)] == acknowledged
    assert audit.verify(store).entries == len(acknowledged) > 0
    assert pragma(store, "integrity_check") == "ok"

    pragma(store, f"max_page_count = {pages + 4_000}")
    assert store.put([incident("after room was made")], actor="test")[0].outcome == "stored"


def put_for_ever(store: Store, acknowledged: list[str]) -> None:
    for n in itertools.count():
        told = [incident(of=f"{n}-{k}", summary=os.urandom(400).hex()) for k in range(5)]
        acknowledged += [r.id for r in store.put(told, actor="test")]


def pragma(store: Store, words: str) -> object:
    """What SQLite says; a limit holds for the one connection that a single thread uses."""
    with store.reading() as connection:
        return connection.execute(text(f"PRAGMA {words}")).scalar()


def test_a_file_that_may_not_be_written_is_read_only_and_can_be_read(sqlite_store, tmp_path):
    sqlite_store.put([incident()], actor="test")
    store = Store.open(f"sqlite:///file:{tmp_path / 'scarwise.db'}?mode=ro&uri=true")

    with pytest.raises(StoreReadOnly, match=r"scarwise\.db or its folder cannot be written"):
        store.put([incident(of="8")], actor="test")

    assert store.count()["incidents"] == 1
    store.close()


@pytest.fixture
def closed_folder():
    """A folder that this user, and not even root, may not write in."""
    folder = Path(tempfile.mkdtemp(prefix="scarwise-closed-"))
    folder.chmod(0o555)
    was = os.geteuid()
    os.seteuid(65534 if was == 0 else was)
    yield folder
    os.seteuid(was)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_written_is_read_only(closed_folder):
    for url in (f"sqlite:///{closed_folder}/new.db", f"sqlite:///{closed_folder}/new/x.db"):
        with pytest.raises(StoreReadOnly, match=f"{closed_folder}.* cannot be written"):
            Store.open(url)


def test_a_server_that_lets_nobody_write_is_read_only(postgres_url):
    store = Store.open(f"{postgres_url}&options=-cdefault_transaction_read_only%3Don")

    with pytest.raises(StoreReadOnly, match="cannot execute SELECT FOR UPDATE in a read-only"):
        store.put([incident()], actor="test")

    assert store.count()["incidents"] == 0
    store.close()


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "scarwise.db").write_bytes(b"not a database at all" * 99)

    with pytest.raises(StoreUnreachable, match=r"scarwise\.db cannot be used .*not a database"):
        Store.open(f"sqlite:///{tmp_path / 'scarwise.db'}")


@pytest.mark.parametrize("place", ["", "file.txt/scarwise.db"])
def test_a_place_where_no_file_can_be_is_named(tmp_path, place):
    (tmp_path / "file.txt").write_text("in the way")

    with pytest.raises(StoreUnreachable, match=f"{tmp_path}.* cannot be used"):
        Store.open(f"sqlite:///{tmp_path / place}")


def test_a_damaged_file_is_named_and_does_not_kill_the_process(sqlite_store, sqlite_url, tmp_path):
    told = [incident(of=str(n), summary="x" * 2_000, started_at=DAY_1) for n in range(100)]
    sqlite_store.put(told, actor="test")
    sqlite_store.close()
    with (tmp_path / "scarwise.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size // 2)
        file.write(os.urandom(size // 4))

    store = Store.open(sqlite_url)
    with pytest.raises(StoreUnreachable, match=r"scarwise\.db cannot be used"):
        store.page(limit=1_000)
    store.close()


def test_a_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(StoreUnreachable) as told:
        Store.open("postgresql://scarwise:hunter2@127.0.0.1:1/incidents")

    assert "//scarwise:***@127.0.0.1:1/incidents cannot be used" in str(told.value)
    assert "hunter2" not in str(told.value)


def test_a_server_that_was_restarted_costs_only_what_was_under_way(postgres_url, clock):
    store = Store.open(postgres_url, clock=clock)
    store.put([incident(of="1")], actor="test")

    with pytest.raises(StoreUnreachable):
        put_through_a_restart(store, postgres_url)
    store.put([incident(of="4")], actor="test")
    disconnect_everybody(postgres_url)

    assert {s.incident.source_id for s in store.page()} == {"1", "4"}
    assert audit.verify(store).ok
    store.close()


def put_through_a_restart(store: Store, url: str) -> None:
    with store.transaction("test") as writing:
        writing.put([incident(of="2")])
        disconnect_everybody(url)
        writing.put([incident(of="3")])


def test_a_lock_that_a_lost_connection_let_go_of_undoes_nothing_that_was_done(postgres_url):
    store = Store.open(postgres_url)

    with store.alone("retrain") as first:
        disconnect_everybody(postgres_url)
    with store.alone("retrain") as second:
        pass

    assert (first, second) == (True, True)
    store.close()


def disconnect_everybody(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_a_mistake_of_ours_is_not_called_an_outage(store):
    twice = insert(forgotten).values([{"incident_id": "inc-1", "at": DAY_1}] * 2)

    with pytest.raises(IntegrityError), store.transaction("test") as writing:
        writing.connection.execute(twice)
    with pytest.raises(FileNotFoundError), store.transaction("test"):
        Path("/nowhere/at/all").read_bytes()
