import pytest

from ingest import audit, queries
from ingest.errors import Unknown
from ingest.incident import incident_id
from ingest.queries import Cited, KeptQuery
from ingest.store import Store
from tests.ingest.given import DAY_1, DAY_9, incident

ID, OTHER = incident_id("pager", "7"), incident_id("pager", "8")


def question(id: str = "q-1", **fields) -> KeptQuery:
    told = {"at": DAY_9, "kind": "search", "text": "disk full", "status": "known", "took_ms": 1.5}
    return KeptQuery(query_id=id, **{**told, **fields})


@pytest.fixture
def told(store: Store) -> Store:
    store.put([incident(), incident(of="8")], actor="test")
    return store


def test_a_question_is_kept_with_its_answer_in_order(told):
    asked = question(
        services=("billing",),
        as_of=DAY_1,
        answer=[Cited(OTHER, 1, 0.75), Cited(ID, 1, 0.5)],
    )

    queries.keep(told, [asked, question("q-2")])

    assert queries.kept(told, "q-1") == asked
    assert queries.kept(told, "q-2").answer == []


def test_a_question_leaves_no_act(told):
    before = len(audit.entries(told))

    queries.keep(told, [question()])
    queries.keep(told, [])

    assert len(audit.entries(told)) == before


def test_a_batch_that_comes_again_is_kept_once(told):
    batch = [question(answer=[Cited(ID, 1, 0.5)]), question("q-2")]
    queries.keep(told, batch)

    queries.keep(told, [*batch, question("q-3")])

    assert queries.kept(told, "q-1").answer == [Cited(ID, 1, 0.5)]
    assert queries.kept(told, "q-3").query_id == "q-3"


def test_what_was_forgotten_between_answer_and_keeping_is_not_cited(told):
    told.forget(ID, actor="test", reason="asked to")

    queries.keep(told, [question(answer=[Cited(ID, 1, 0.9), Cited(OTHER, 1, 0.5)])])

    assert queries.kept(told, "q-1").answer == [Cited(OTHER, 1, 0.5)]


def test_an_incident_knows_the_questions_that_it_answered(told):
    cites = {"answer": [Cited(ID, 1, 0.5)]}
    queries.keep(told, [question("q-1", at=DAY_1, **cites), question("q-2", **cites)])
    queries.keep(told, [question("q-3")])

    assert queries.citing(told, ID) == ["q-2", "q-1"]
    assert queries.citing(told, OTHER) == queries.citing(told, "\0") == []


def test_a_question_that_nobody_asked_is_unknown(told):
    with pytest.raises(Unknown, match="there is no query 'q-none' here"):
        queries.kept(told, "q-none")
