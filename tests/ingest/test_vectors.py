import pytest

from ingest import audit, vectors
from ingest.incident import incident_id
from ingest.store import Store
from ingest.vectors import Shelved, all_vectors, forget_model, put_vectors
from tests.ingest.given import incident

ID = incident_id("pager", "7")


def shelved(id: str = ID, version: int = 1, made_of: str = "h1") -> Shelved:
    return Shelved(id, version, made_of, b"\x00\xff" * 8, b"\x01" * 4, '{"dim": 2}')


@pytest.fixture
def told(store: Store) -> Store:
    store.put([incident()], actor="test")
    store.put([incident("edited")], actor="test")
    return store


def test_what_was_shelved_is_read_back_byte_for_byte(told):
    put_vectors(told, "minilm", [shelved(), shelved(version=2)])

    found = vectors.vectors(told, "minilm", [(ID, 1), (ID, 2), (ID, 3), ("inc-none", 1)])

    assert found == {(ID, 1): shelved(), (ID, 2): shelved(version=2)}


def test_what_is_shelved_again_takes_the_place_of_what_lay_there(told):
    put_vectors(told, "minilm", [shelved()])

    put_vectors(told, "minilm", [shelved(made_of="h2"), shelved(made_of="h3")])

    assert list(all_vectors(told, "minilm")) == [shelved(made_of="h3")]


def test_each_model_has_a_shelf_of_its_own(told):
    put_vectors(told, "minilm", [shelved()])
    put_vectors(told, "other", [shelved(made_of="h2")])

    forget_model(told, "minilm")

    assert list(all_vectors(told, "minilm")) == []
    assert list(all_vectors(told, "other")) == [shelved(made_of="h2")]


def test_the_whole_shelf_is_read_in_slices_each_row_once(store):
    receipts = store.put([incident(of=str(n)) for n in range(1_200)], actor="test")
    rows = [shelved(r.id) for r in receipts]
    put_vectors(store, "minilm", rows)

    found = list(all_vectors(store, "minilm"))

    assert sorted(found, key=lambda s: s.incident_id) == sorted(rows, key=lambda s: s.incident_id)
    assert len(vectors.vectors(store, "minilm", [(r.id, 1) for r in receipts])) == 1_200


def test_a_slow_reader_of_the_shelf_holds_nothing_open(told):
    put_vectors(told, "minilm", [shelved(), shelved(version=2)])
    reader = all_vectors(told, "minilm")
    next(reader)

    told.forget(ID, actor="test", reason="asked to")

    assert list(all_vectors(told, "minilm")) == []
    reader.close()


def test_what_was_forgotten_while_it_was_embedded_is_not_shelved(told):
    told.forget(ID, actor="test", reason="asked to")

    put_vectors(told, "minilm", [shelved()])

    assert list(all_vectors(told, "minilm")) == []


def test_shelving_leaves_no_act(told):
    before = audit.entries(told)

    put_vectors(told, "minilm", [shelved()])
    put_vectors(told, "minilm", [])
    forget_model(told, "minilm")

    assert audit.entries(told) == before
