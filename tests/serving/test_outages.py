"""What the service does when its machine fails it: one clear problem, and nothing lost."""

import sqlite3

import pytest
from sqlalchemy import event, text

from tests.serving.conftest import incident


def database(service):
    return service.settings.home / "scarwise.db"


def test_a_locked_database_is_a_503_with_a_way_out_and_search_goes_on(client, cold):
    client.post("/v1/incidents", json=incident("before"))
    other = sqlite3.connect(database(cold), isolation_level=None)
    other.execute("begin immediate")

    refused = client.post("/v1/incidents", json=incident("during"))
    found = client.post("/v1/search", json={"text": "too many clients"})
    other.rollback()
    other.close()
    after = client.post("/v1/incidents", json=incident("during"))

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert "another process" in refused.json()["detail"]
    assert [h["source_id"] for h in found.json()["hits"]] == ["before"]
    assert after.json()["stored"] == 1


def test_a_full_disk_is_a_507_and_what_was_acknowledged_stays(client, cold):
    client.post("/v1/incidents", json=incident("before"))
    with cold.store.reading() as connection:
        pages = connection.execute(text("pragma page_count")).scalar()
    limit_pages(cold, pages + 40)
    statuses = []
    for n in range(40):
        big = incident(f"big-{n}", summary="disk " * 8_000)
        statuses.append(client.post("/v1/incidents", json=big).status_code)
    found = client.post("/v1/search", json={"text": "too many clients"})

    acknowledged = statuses.count(200)
    assert set(statuses) <= {200, 507}
    assert 507 in statuses
    assert found.status_code == 200
    assert cold.store.count()["incidents"] == 1 + acknowledged


def limit_pages(service, most):
    """As many pages as a full disk would leave: SQLite's own error, on every connection."""
    engine = service.store._database._engine

    @event.listens_for(engine, "checkout")
    def limit(connection, record, proxy):
        connection.execute(f"pragma max_page_count = {most}")


def test_a_broken_database_file_is_named_at_the_start(cold_settings):
    from ingest.errors import StoreUnreachable
    from serving.service import Service

    (cold_settings.home / "scarwise.db").write_bytes(
        b"this is no database, whatever its name" * 200
    )

    with pytest.raises(StoreUnreachable, match=r"scarwise\.db"):
        Service.open(cold_settings)
