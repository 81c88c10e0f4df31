"""A model's reply, checked: what is named, what stays a hypothesis, and what is blocked."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.incident import Incident, incident_id
from ingest.store import Stored
from retrieval import grounded as words
from retrieval.diagnosis import Diagnosis, diagnose_from
from retrieval.grounded import grounded
from retrieval.prompt import Reply, prompt
from retrieval.quotes import cite, key, occurs
from retrieval.search import Answer, Hit, Question

POOL = "The connection pool of checkout was exhausted by a slow query on db-3."
CERT = "The TLS certificate of the payment gateway had expired."
DISK = "The disk of db-3 was full of rotated logs that nobody deleted."
RAISED = "Raised the pool size of checkout to 60."
ALERT = Question(text="checkout returns HTTP 503, connection timeouts to db-3, p99 latency 4 s")
MODEL = {"name": "diag-v7", "version": "7"}


def stored(source_id: str, **fields: object) -> Stored:
    given = {"title": f"Checkout outage {source_id}", **fields}
    incident = Incident(source="pager", source_id=source_id, **given)  # type: ignore[arg-type]
    numbered = {"id": incident_id("pager", source_id), "version": 1}
    return Stored(incident.model_copy(update=numbered), 1, "", {}, None, [])


def hit(kept: Stored, **fields: object) -> Hit:
    return Hit(stored=kept, score=1.0, why=["shares the word checkout"], **fields)  # type: ignore[arg-type]


def checked(reply: Reply, *hits: Hit, status: str = "known") -> Diagnosis:
    answer = Answer(status, list(hits), "q-1", 2.0)  # type: ignore[arg-type]
    asked = prompt(ALERT.text, [h.stored for h in hits])
    before = diagnose_from(ALERT, answer, clock=lambda: 0.0)
    return grounded(before, asked, reply, hits, MODEL)


def says(cause: str, fix: str | None = None, *cites: int) -> Reply:
    return Reply(status="known", cause=cause, fix=fix, cites=list(cites))


NOVEL = Reply(status="novel")
# Two causes of the same weight: without a model none is named.
UNDECIDED = (hit(stored("A", root_cause=POOL)), hit(stored("B", root_cause=CERT)))


def test_a_cause_that_the_cited_precedent_states_is_named_in_its_words():
    diagnosis = checked(says(CERT.lower().rstrip("."), None, 2), *UNDECIDED)

    assert (diagnosis.status, diagnosis.root_cause) == ("known", CERT)
    [citation] = diagnosis.citations
    assert occurs(citation, UNDECIDED[1].stored)
    assert diagnosis.words == words.CHOSEN
    assert diagnosis.confidence_words == "seen once, no fix on record"
    assert [c.quote for c in diagnosis.causes] == [CERT, POOL]
    assert [p.supports for p in diagnosis.precedents] == [False, True]
    assert (diagnosis.model, diagnosis.hypothesis) == (MODEL, None)


def test_the_quote_is_what_counts_not_the_number_before_it():
    diagnosis = checked(says(CERT, None, 1, 3), *UNDECIDED)

    assert diagnosis.root_cause == CERT
    assert [c.source_id for c in diagnosis.citations] == ["B"]


def test_a_cause_in_nearly_the_same_words_is_quoted_as_the_precedent_has_it():
    said = "A slow query on db-3 exhausted the connection pool of checkout"

    assert checked(says(said, None, 1), *UNDECIDED).root_cause == POOL


@pytest.mark.parametrize(
    "said",
    [
        "The connection pool of checkout was exhausted by a slow query on db-4.",
        "The connection pool of checkout was not exhausted by a slow query on db-3.",
        "The connection pool of checkout was exhausted by a slow query of a nightly job on db-3.",
        "checkout",
        "A cosmic ray flipped a bit.",
    ],
)
def test_a_cause_that_no_precedent_states_stays_a_hypothesis(said):
    diagnosis = checked(says(said, "Restarted checkout.", 1), *UNDECIDED)

    assert (diagnosis.status, diagnosis.root_cause) == ("inconclusive", None)
    assert diagnosis.hypothesis is not None
    assert diagnosis.hypothesis.text == said
    assert diagnosis.hypothesis.fix == "Restarted checkout."
    assert diagnosis.hypothesis.ruling is not None
    assert diagnosis.hypothesis.ruling.decision == "needs_approval"
    assert diagnosis.hypothesis.words == words.OWN_WORDS


def test_words_without_evidence_do_not_unseat_what_the_precedents_agree_on():
    agreeing = (hit(stored("A", root_cause=POOL)), hit(stored("B", root_cause=POOL)))

    diagnosis = checked(says(DISK), *agreeing)

    assert (diagnosis.status, diagnosis.root_cause) == ("known", POOL)
    assert diagnosis.hypothesis is not None
    assert diagnosis.hypothesis.text == DISK


def test_a_stated_cause_that_most_precedents_contradict_is_named_with_that_said():
    most = [hit(stored(s, root_cause=POOL, started_at=day(n))) for n, s in enumerate("AB", 1)]

    diagnosis = checked(says(CERT, None, 3), *most, hit(stored("C", root_cause=CERT)))

    assert (diagnosis.status, diagnosis.root_cause) == ("known", CERT)
    assert diagnosis.words == words.OTHERWISE
    assert [c.quote for c in diagnosis.causes] == [CERT, POOL]


def test_a_precedent_that_people_called_wrong_states_nothing():
    wrong = hit(stored("A", root_cause=POOL), outcomes={"wrong": 1})

    diagnosis = checked(says(POOL, None, 1), wrong, hit(stored("B", root_cause=CERT)))

    assert diagnosis.root_cause == CERT
    assert diagnosis.hypothesis is not None
    assert diagnosis.hypothesis.words == words.DISOWNED


def test_an_unknown_cause_is_no_cause():
    unknown = hit(stored("A", root_cause="The root cause was not found."))

    diagnosis = checked(says("The root cause was not found.", None, 1), unknown)

    assert (diagnosis.status, diagnosis.root_cause) == ("inconclusive", None)


@pytest.mark.parametrize(
    ("search", "precedents", "status", "said"),
    [
        ("novel", UNDECIDED, "novel", words.NEW["novel"]),
        ("known", UNDECIDED, "novel", words.NEW["inconclusive"]),
        ("known", UNDECIDED[:1], "inconclusive", words.UNRECOGNISED),
    ],
)
def test_novel_by_the_model_claims_no_cause_and_never_hides_agreement(
    search, precedents, status, said
):
    diagnosis = checked(NOVEL, *precedents, status=search)

    assert (diagnosis.status, diagnosis.root_cause, diagnosis.words) == (status, None, said)
    assert not any(p.supports for p in diagnosis.precedents)


def test_a_stated_cause_of_something_far_off_is_shown_and_not_named():
    diagnosis = checked(says(CERT, None, 2), *UNDECIDED, status="novel")

    assert (diagnosis.status, diagnosis.root_cause) == ("inconclusive", None)
    assert diagnosis.words == words.FAR
    assert [c.quote for c in diagnosis.causes] == [CERT]
    assert [c.source_id for c in diagnosis.citations] == ["B"]


def test_the_fix_that_the_model_names_comes_first_in_the_precedents_words():
    cause = hit(
        stored(
            "A",
            root_cause=POOL,
            actions=[{"text": "Restarted checkout.", "held": True}, {"text": RAISED}],
        )
    )

    diagnosis = checked(says(POOL, RAISED.upper(), 1), cause)

    assert [f.text for f in diagnosis.actions] == [RAISED, "Restarted checkout."]
    assert diagnosis.actions[0].ruling.decision == "needs_approval"
    assert diagnosis.hypothesis is None


def test_a_fix_of_the_resolution_that_is_no_listed_act_is_quoted_too():
    fix = "Traffic went to the standby until the pool was larger."
    cause = hit(stored("A", root_cause=POOL, resolution=fix, actions=["Restarted checkout."]))

    diagnosis = checked(says(POOL, fix, 1), cause)

    first = diagnosis.actions[0]
    assert (first.text, first.field) == (fix, "resolution")


def test_a_fix_in_the_models_own_words_is_no_action():
    diagnosis = checked(says(POOL, "Buy a larger database.", 1), *UNDECIDED)

    assert diagnosis.actions == []
    assert diagnosis.hypothesis is not None
    assert diagnosis.hypothesis.fix == "Buy a larger database."
    assert diagnosis.hypothesis.words == words.OWN_FIX


def test_a_forbidden_fix_never_comes_first():
    drop = "Ran DROP DATABASE orders; on db-3."
    cause = hit(stored("A", root_cause=POOL, actions=[RAISED, drop]))

    diagnosis = checked(says(POOL, drop, 1), cause)

    assert [(f.text, f.ruling.decision) for f in diagnosis.actions] == [
        (RAISED, "needs_approval"),
        (drop, "forbidden"),
    ]


def test_a_forbidden_fix_in_the_models_own_words_is_ruled_on_and_not_shown():
    diagnosis = checked(says(DISK, "Run rm -rf / on every host."), *UNDECIDED)

    assert diagnosis.hypothesis is not None
    assert diagnosis.hypothesis.fix is None
    assert diagnosis.hypothesis.ruling is not None
    assert diagnosis.hypothesis.ruling.decision == "forbidden"
    assert diagnosis.hypothesis.words.endswith(words.WITHHELD)


def test_a_fix_that_failed_is_not_moved_to_the_front():
    failed = {"text": RAISED, "held": False}
    cause = hit(stored("A", root_cause=POOL, actions=["Restarted checkout.", failed]))

    diagnosis = checked(says(POOL, RAISED, 1), cause)

    assert [f.text for f in diagnosis.actions] == ["Restarted checkout.", RAISED]


def test_the_models_words_are_shown_without_secrets():
    diagnosis = checked(says("The key AKIAIOSFODNN7EXAMPLE was revoked."), *UNDECIDED)

    assert diagnosis.hypothesis is not None
    assert "AKIAIOSFODNN7EXAMPLE" not in diagnosis.hypothesis.text


def test_only_what_the_prompt_showed_is_evidence():
    shown = [hit(stored(s, root_cause=POOL)) for s in "ABC"]

    diagnosis = checked(says(CERT, None, 3), *shown, hit(stored("D", root_cause=CERT)))

    assert diagnosis.root_cause == POOL
    assert diagnosis.hypothesis is not None


TEXTS = st.sampled_from([POOL, CERT, DISK, RAISED, "Ran DROP DATABASE orders;", "nothing of it"])


@given(
    reply=st.one_of(
        st.just(NOVEL),
        st.builds(says, TEXTS, st.none() | TEXTS, st.integers(-2, 5)),
    ),
    held=st.lists(st.fixed_dictionaries({"root_cause": TEXTS, "resolution": TEXTS}), max_size=5),
    status=st.sampled_from(["known", "novel"]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_the_model_says_every_quote_stands_and_nothing_forbidden_leads(
    reply, held, status
):
    hits = [hit(stored(str(n), **fields)) for n, fields in enumerate(held)]

    diagnosis = checked(reply, *hits, status=status)

    kept = {key(h.stored): h.stored for h in hits}
    for citation in [*diagnosis.citations, *(c for x in diagnosis.causes for c in x.citations)]:
        assert occurs(citation, kept[citation.incident_id, citation.version])
    for fix in diagnosis.actions:
        assert cite(kept[fix.incident_id, fix.version], fix.field, fix.text)
    if diagnosis.root_cause:
        assert diagnosis.citations[0].quote == diagnosis.root_cause
    decisions = [fix.ruling.decision for fix in diagnosis.actions]
    assert decisions == sorted(decisions, key=lambda decision: decision == "forbidden")


def day(n: int) -> datetime:
    return datetime(2030, 1, n, 3, tzinfo=UTC)


def test_what_was_degraded_before_still_says_so():
    answer = replace(
        Answer("known", list(UNDECIDED), "q-1", 2.0), degraded="compared by words only"
    )
    before = diagnose_from(ALERT, answer, clock=lambda: 0.0)

    after = grounded(before, prompt(ALERT.text), NOVEL, UNDECIDED, MODEL)

    assert after.degraded == "compared by words only"
