"""The index behind the service: it follows, it heals, and search never waits for it."""

import json
import shutil
import sqlite3
import time

import pytest

from ingest.incident import Incident
from retrieval.search import Question
from serving.service import Service
from tests.serving.conftest import client_of, incident


def fill(service, count=3):
    titles = ["orders-db refuses connections", "cart is slow", "certificate of the edge expired"]
    service.store.put(
        [
            Incident(**incident(str(n), title=f"{titles[n % 3]} {n}", symptoms=f"seen {n}"))
            for n in range(count)
        ],
        actor="test",
    )


def sources(answer):
    return [h.stored.incident.source_id for h in answer.hits]


def kept(service):
    """Everything embedded, and Chroma's copy made."""
    service.embed_all()
    service.index.tend()
    assert service.index.condition().copy == "sound"


def until(true, seconds=30):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def test_what_is_stored_is_found_by_words_at_once_and_by_meaning_after_embedding(service):
    fill(service)
    service.noticed()

    by_words = service.search(Question("certificate expired"))
    service.embed_all()
    by_meaning = service.search(Question("TLS cert is no longer valid"))

    assert sources(by_words)[0] == "2"
    assert "until they are embedded" in by_words.degraded
    assert (sources(by_meaning)[0], by_meaning.degraded) == ("2", None)


def test_the_background_keeps_in_step_with_what_another_process_writes(cold_settings):
    service = Service.open(cold_settings)
    service.start()
    try:
        until(lambda: service.index.embedder)
        other = Service.open(cold_settings)
        fill(other)
        other.close()
        until(lambda: service.index.facets.count() == 3 and service.index.lag() == 0)

        found = service.search(Question("TLS cert is no longer valid"))
    finally:
        service.close()

    assert (sources(found)[0], found.degraded) == ("2", None)


def test_a_running_service_writes_the_copy_anew_when_asked(cold_settings):
    service = Service.open(cold_settings)
    fill(service)
    service.start()
    try:
        until(lambda: service.index.lag() == 0 and service.index.condition().copy == "sound")
        with client_of(service) as client:
            answer = client.post("/v1/index/rebuild")
    finally:
        service.close()

    assert (answer.status_code, answer.json()) == (200, {"vectors": 3})


def test_a_restart_embeds_nothing_again(cold_settings):
    first = Service.open(cold_settings)
    first.warm()
    fill(first)
    assert first.embed_all() == 3
    first.close()

    again = Service.open(cold_settings)
    again.warm()

    assert again.embed_all() == 0
    assert sources(again.search(Question("TLS cert is no longer valid")))[0] == "2"
    again.close()


@pytest.mark.parametrize("harm", ["removed", "damaged", "foreign"])
def test_a_copy_harmed_between_two_starts_is_healed_while_search_goes_on(cold_settings, harm):
    first = Service.open(cold_settings)
    first.warm(copy=True)
    fill(first)
    kept(first)
    generation = first.index.mirror._generations.current()
    first.close()
    if harm == "removed":
        shutil.rmtree(generation)
    elif harm == "damaged":
        path = generation / "chroma.sqlite3"
        path.write_bytes(path.read_bytes()[:5000])
    else:
        pointer = cold_settings.index / "current.json"
        pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "model_id": "other"}))

    again = Service.open(cold_settings)
    again.warm(copy=True)
    again.index.embed_some(0)
    before = again.search(Question("TLS cert is no longer valid"))
    again.index.tend()
    after = again.index.condition()
    again.close()

    assert (sources(before)[0], before.degraded) == ("2", None)
    assert (after.copy, after.healed) == ("sound", 1)


def test_a_copy_removed_under_a_running_service_is_noticed_and_written_anew(service):
    fill(service)
    kept(service)
    shutil.rmtree(service.settings.index)

    service.index.mirror._looked = float("-inf")  # as if five seconds had gone by
    service.index.mirror._generations.disown()
    service.index.tend()

    condition = service.index.condition()
    assert (condition.copy, condition.healed) == ("sound", 1)


def test_the_graph_and_the_exact_scan_find_the_same(cold_settings):
    graph = cold_settings.model_copy(
        update={"retrieval": cold_settings.retrieval.model_copy(update={"exact_below": 0})}
    )
    service = Service.open(graph)
    service.warm(copy=True)
    fill(service, 30)
    kept(service)
    asked = Question("cart answers slowly", limit=5)

    by_graph = service.search(asked)
    service.index.exact_below = 10**9
    by_scan = service.search(asked)
    service.close()

    assert sources(by_graph) == sources(by_scan)


def test_another_embedder_embeds_again_and_the_words_bridge_the_gap(service):
    fill(service)
    kept(service)
    embedder = service.index.embedder
    other = type("Other", (), {})()
    other.__dict__.update(embedder.__dict__)
    other.model_id = "another-model"
    other.embed, other.embed_query = embedder.embed, embedder.embed_query

    service.index.close()
    service.index.use(other)
    between = service.search(Question("certificate expired"))
    assert service.embed_all() == 3
    after = service.search(Question("certificate expired"))

    assert sources(between)[0] == "2"
    assert "until they are embedded" in between.degraded
    assert after.degraded is None


def test_a_forgotten_incident_leaves_the_vectors_and_chroma(service):
    fill(service)
    kept(service)
    one = service.search(Question("edge certificate")).hits[0]
    gone = one.stored.incident.id

    service.store.forget(gone, actor="test", reason="asked for")
    service.noticed()
    service.index.tend()

    ids = service.index.mirror._generations.open()
    assert not any(i.startswith(gone) for i in ids)
    assert gone not in [
        h.stored.incident.id for h in service.search(Question("edge certificate")).hits
    ]


def test_searching_writes_nothing_but_the_questions(service):
    fill(service)
    service.embed_all()
    path = service.settings.home / "scarwise.db"

    def tables():
        with sqlite3.connect(path) as connection:
            names = [
                r[0]
                for r in connection.execute("select name from sqlite_master where type='table'")
            ]
            return {
                n: connection.execute(f"select * from {n}").fetchall()
                for n in names
                if n not in ("query", "answer")
            }

    before = tables()
    for _ in range(3):
        service.search(Question("certificate expired"))
    service.keep_questions()

    assert tables() == before
