import pytest
from pydantic import ValidationError

from ingest import audit, feedback, queries
from ingest.errors import Unknown
from ingest.feedback import Feedback
from ingest.incident import incident_id
from ingest.queries import KeptQuery
from ingest.store import Store
from tests.ingest.given import DAY_9, incident

ID = incident_id("pager", "7")


def give(store: Store, verdict: str = "same", **said) -> Feedback:
    with store.transaction("on-call") as writing:
        return feedback.give(writing, Feedback(incident_id=ID, verdict=verdict, **said))


def withdraw(store: Store, given: Feedback, reason: str = "a slip") -> None:
    with store.transaction("on-call") as writing:
        feedback.withdraw(writing, str(given.id), reason=reason)


@pytest.fixture
def told(store: Store) -> Store:
    """A store with an incident in two versions and one question."""
    store.put([incident()], actor="test")
    store.put([incident("edited")], actor="test")
    asked = KeptQuery("q-1", DAY_9, "search", "disk full", "known", 1.5)
    queries.keep(store, [asked])
    return store


def test_a_verdict_is_bound_to_a_version_and_a_question(told, clock):
    given = give(told, "fixed_it", version=1, query_id="q-1", note="held for a week", who="sre-2")

    assert feedback.given(told) == [given]
    assert given == Feedback(
        id=given.id,
        incident_id=ID,
        version=1,
        query_id="q-1",
        verdict="fixed_it",
        note="held for a week",
        who="sre-2",
        when=clock.now,
    )
    assert str(given.id).startswith("fb-")


def test_without_a_version_it_judges_the_current_one(told):
    assert give(told).version == 2


def test_the_id_and_the_time_are_the_stores_to_set(told, clock):
    given = give(told, id="fb-mine", when=DAY_9)

    assert given.id != "fb-mine"
    assert given.when == clock.now


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"incident_id": "inc-none"}, "there is no incident 'inc-none' here"),
        ({"version": 3}, f"incident {ID} has no version 3; its newest is 2"),
        ({"query_id": "q-none"}, "there is no query 'q-none' here"),
    ],
)
def test_a_verdict_on_what_is_not_here_is_refused_and_leaves_nothing(told, said, why):
    before = told.head()

    with pytest.raises(Unknown, match=why), told.transaction("on-call") as writing:
        feedback.give(writing, Feedback(**{"incident_id": ID, "verdict": "same", **said}))

    assert feedback.given(told) == []
    assert told.head() == before


@pytest.mark.parametrize("version", [0, -1, 2**31, 10**30])
def test_a_version_that_no_incident_can_have_is_refused(version):
    with pytest.raises(ValidationError):
        Feedback(incident_id=ID, verdict="same", version=version)


def test_a_verdict_taken_back_counts_no_more_but_did_until_then(told, clock):
    given = give(told)
    afterwards = clock.forward(hours=1)
    clock.forward(hours=1)

    withdraw(told, given)

    assert feedback.given(told) == []
    assert feedback.given(told, as_of=afterwards) == [given]
    assert feedback.given(told, as_of=given.when) == []
    assert feedback.outcomes(told, [(ID, 2)]) == {}


def test_taking_back_twice_is_one_act(told):
    given = give(told)

    withdraw(told, given)
    withdraw(told, given, reason="as I said")

    acts = [(e.act, e.subject) for e in audit.entries(told)[-2:]]
    assert acts == [("feedback.given", given.id), ("feedback.withdrawn", given.id)]
    with pytest.raises(Unknown, match="there is no feedback 'fb-none' here"):
        withdraw(told, Feedback(id="fb-none", incident_id=ID, verdict="same"))


def test_the_trail_names_what_was_judged_but_no_words(told):
    given = give(told, note="some words")

    entry = audit.entries(told)[-1]
    assert entry.detail == (
        f'{{"incident_id":"{ID}","query_id":null,"verdict":"same","version":2}}'
    )
    assert entry.subject == given.id


def test_outcomes_count_verdicts_by_version(told):
    for verdict in ("same", "fixed_it", "fixed_it"):
        give(told, verdict)
    give(told, "wrong", version=1)

    found = feedback.outcomes(told, [(ID, 1), (ID, 2), ("inc-none", 1)])

    assert found == {(ID, 1): {"wrong": 1}, (ID, 2): {"same": 1, "fixed_it": 2}}


def test_verdicts_are_given_by_incident_the_oldest_first(told, clock):
    other = told.put([incident(of="8")], actor="test")[0].id
    first = give(told)
    clock.forward(seconds=1)
    second = give(told, "stale")
    with told.transaction("on-call") as writing:
        feedback.give(writing, Feedback(incident_id=other, verdict="wrong"))

    assert feedback.given(told, incident_id=ID) == [first, second]
    assert len(feedback.given(told)) == 3
