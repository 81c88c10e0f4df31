import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select, text

from ingest import audit, schema
from ingest.errors import StoreUnreachable
from ingest.store import Store
from tests.ingest.given import incident

ROOT = Path(__file__).parents[2]


def in_a_process(script: str, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-c", script, *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_the_migrations_end_where_the_schema_says(tmp_path):
    config = Config()
    config.set_main_option("script_location", "ingest:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


def test_the_migrations_make_the_tables_that_the_schema_describes(store):
    with store.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), schema.metadata)

    assert differences == []


def test_a_folder_that_is_not_there_is_made_for_this_user_alone(tmp_path):
    path = tmp_path / "data" / "scarwise.db"

    Store.open(f"sqlite:///{path}").close()

    assert path.exists()
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_store_that_is_up_to_date_is_opened_without_alembic(sqlite_url):
    script = (
        "import sys; from ingest.store import Store; Store.open(sys.argv[1]).close(); "
        "print('alembic' in sys.modules)"
    )

    said, _ = in_a_process(script, sqlite_url).communicate()

    assert said == "False\n"


def test_processes_that_open_a_new_store_at_once_make_its_tables_once(tmp_path):
    script = (
        "import sys; from ingest.store import Store; s = Store.open(sys.argv[1]); print(s.count())"
    )
    url = f"sqlite:///{tmp_path / 'new.db'}"

    said = [p.communicate()[0] for p in [in_a_process(script, url) for _ in range(4)]]

    nothing = "{'incidents': 0, 'versions': 0, 'quarantined': 0, 'feedback': 0}\n"
    assert said == [nothing] * 4


def test_a_store_that_a_newer_version_made_is_left_alone(store, store_url):
    with store.transaction("the future") as writing:
        writing.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreUnreachable, match="a newer Scarwise made its tables: upgrade"):
        Store.open(store_url)

    with store.reading() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    assert found == "9999"


def test_a_store_of_the_first_release_is_brought_up_to_date_with_all_that_it_holds(
    store, store_url
):
    [kept] = store.put([incident()], actor="test")
    since = [schema.pointer, schema.lesson, schema.embargo, schema.retraining]
    with store.transaction("the past") as writing:
        for table in [*since, schema.model, schema.dataset]:
            table.drop(writing.connection)
        writing.connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))

    again = Store.open(store_url)

    with again.reading() as connection:
        migrated = MigrationContext.configure(connection)
        assert migrated.get_current_revision() == schema.REVISION
        assert compare_metadata(migrated, schema.metadata) == []
        pointer = connection.execute(select(schema.pointer)).mappings().one()
    assert dict(pointer) == {
        "id": 1,
        "champion": None,
        "earlier": [],
        "challenger": None,
        "frozen": False,
        "revision": 0,
    }
    assert again.get(kept.id).incident.title == "db-3 disk full"
    assert audit.verify(again).ok
    again.close()


def test_a_database_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE accounts (id INTEGER)")
    other.commit()

    with pytest.raises(StoreUnreachable, match="the tables of something else, such as accounts"):
        Store.open(f"sqlite:///{path}")

    tables = other.execute("SELECT name FROM sqlite_master").fetchall()
    other.close()
    assert tables == [("accounts",)]


def test_tables_of_others_beside_ours_are_fine_on_postgres(postgres_url):
    store = Store.open(postgres_url)
    with store.transaction("somebody") as writing:
        for table in [*reversed(schema.metadata.sorted_tables), "alembic_version"]:
            writing.connection.execute(text(f"DROP TABLE {table} CASCADE"))
        writing.connection.execute(text("DROP FUNCTION audit_refuses CASCADE"))
        writing.connection.execute(text("CREATE TABLE accounts (id INTEGER)"))
    store.close()

    again = Store.open(postgres_url)

    assert again.head() == 0
    again.close()
