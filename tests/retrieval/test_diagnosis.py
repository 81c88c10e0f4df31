"""The diagnosis without a model: what it names, what it quotes, and what it leaves open."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.incident import Incident, incident_id
from ingest.store import Stored
from retrieval.diagnosis import Diagnosis, diagnose_from
from retrieval.quotes import Citation, cite, field_text, key, occurs
from retrieval.search import Answer, Hit, Question

POOL = "The connection pool of checkout was exhausted by a slow query on db-3."
CERT = "The TLS certificate of the payment gateway had expired."
ALERT = Question(text="checkout returns HTTP 503, connection timeouts to db-3, p99 latency 4 s")


def stored(source_id: str, **fields: object) -> Stored:
    """A version as the store hands it out."""
    given = {"title": f"Checkout outage {source_id}", **fields}
    incident = Incident(source="pager", source_id=source_id, **given)  # type: ignore[arg-type]
    numbered = {"id": incident_id("pager", source_id), "version": 1}
    return Stored(incident.model_copy(update=numbered), 1, "", {}, None, [])


def hit(kept: Stored, score: float = 1.0, **fields: object) -> Hit:
    return Hit(stored=kept, score=score, why=["shares the word checkout"], **fields)  # type: ignore[arg-type]


def known(*hits: Hit) -> Answer:
    return Answer(status="known", hits=list(hits), query_id="q-1", took_ms=2.0)


def diagnose(*hits: Hit, question: Question = ALERT) -> Diagnosis:
    return diagnose_from(question, known(*hits), clock=lambda: 0.0)


def day(n: int) -> datetime:
    return datetime(2030, 1, n, 3, tzinfo=UTC)


def name(source_id: str) -> str:
    return incident_id("pager", source_id)


def test_a_cause_that_precedents_share_is_named_in_their_words():
    hits = [
        hit(stored("A", root_cause=POOL + " It went unnoticed.", started_at=day(1))),
        hit(stored("B", root_cause=CERT, started_at=day(2))),
        hit(stored("C", root_cause="A slow query exhausted the connection pool.")),
    ]

    diagnosis = diagnose(*hits)

    assert diagnosis.status == "known"
    assert diagnosis.root_cause == POOL
    assert [(c.incident_id, c.field) for c in diagnosis.citations] == [
        (name("A"), "root_cause"),
        (name("C"), "root_cause"),
    ]
    assert [(c.quote, c.seen, c.words) for c in diagnosis.causes] == [
        (POOL, 2, "2 similar incidents had this cause, in similar words"),
        (CERT, 1, "one similar incident had this cause"),
    ]
    assert [p.supports for p in diagnosis.precedents] == [True, False, True]


def test_similar_is_never_called_the_same():
    diagnosis = diagnose(hit(stored("A", root_cause=POOL)))

    assert diagnosis.words == (
        "Similar incidents had this cause. Similar is not the same: read what differs first."
    )
    assert (diagnosis.confidence, diagnosis.model) == (None, None)


def test_a_novel_alert_gets_no_cause_and_no_fix_but_its_nearest_incidents():
    near = hit(stored("A", root_cause=POOL, actions=["Restarted checkout"]))
    answer = replace(known(near), status="novel", degraded="the index is being rebuilt")

    diagnosis = diagnose_from(ALERT, answer)

    assert diagnosis.status == "novel"
    assert diagnosis.words.startswith("Not seen before: nothing in memory is close enough.")
    assert diagnosis.confidence_words == "not seen before"
    assert diagnosis.root_cause is None
    assert diagnosis.causes + diagnosis.citations == []
    assert diagnosis.actions + diagnosis.checks == []
    assert [p.incident_id for p in diagnosis.precedents] == [name("A")]
    assert diagnosis.degraded == "the index is being rebuilt"


def test_an_empty_memory_says_so():
    diagnosis = diagnose_from(ALERT, replace(known(), status="novel"))

    assert diagnosis.words == "Not seen before: nothing in memory resembles this."


@pytest.mark.parametrize(
    "cause",
    [
        None,
        "Unknown",
        "n/a",
        "The root cause is still unknown.",
        "At this stage we do not have a definitive root cause.",
        "The cause has not been identified.",
    ],
)
def test_precedents_without_a_cause_are_inconclusive(cause):
    diagnosis = diagnose(hit(stored("A", root_cause=cause)), hit(stored("B")))

    assert diagnosis.status == "inconclusive"
    assert diagnosis.words == ("Similar incidents are on record, but none of them states a cause.")
    assert diagnosis.confidence_words == "similar incidents seen twice, no cause on record"


def test_causes_that_disagree_are_listed_and_none_is_named():
    diagnosis = diagnose(hit(stored("A", root_cause=POOL)), hit(stored("B", root_cause=CERT)))

    assert diagnosis.status == "inconclusive"
    assert diagnosis.root_cause is None
    assert [c.quote for c in diagnosis.causes] == [POOL, CERT]
    assert [c.quote for c in diagnosis.citations] == [POOL, CERT]
    assert (
        diagnosis.confidence_words == "similar incidents seen twice, 2 different causes on record"
    )


def test_a_distant_cause_is_not_named():
    hits = [hit(stored(n), score=1.0) for n in "ABCD"]
    hits.append(hit(stored("E", root_cause=POOL), score=0.3))

    diagnosis = diagnose(*hits)

    assert diagnosis.status == "inconclusive"
    assert diagnosis.words == "Only one of the less similar incidents states a cause."


def test_a_family_joins_causes_that_share_no_words():
    hits = [
        hit(stored("A", root_cause="Postgres ran out of slots.", cause_family="saturation")),
        hit(stored("B", root_cause="Too many clients connected.", cause_family="Saturation")),
    ]

    diagnosis = diagnose(*hits)

    [cause] = diagnosis.causes
    assert diagnosis.confidence_words == "a cause of this family seen twice, no fix on record"
    assert cause.supported_by == [name("A"), name("B")]
    assert cause.words == "2 similar incidents had a cause of this family"
    assert [c.quote for c in cause.citations] == [
        "Postgres ran out of slots.",
        "Too many clients connected.",
    ]


def test_a_single_shared_word_does_not_make_two_causes_one():
    hits = [
        hit(stored("A", root_cause="The disk was full.")),
        hit(stored("B", root_cause="A disk controller failed.")),
    ]

    assert len(diagnose(*hits).causes) == 2


def test_words_of_the_alert_do_not_make_two_causes_one():
    hits = [
        hit(stored("A", root_cause="checkout timeouts to db-3: the disk of db-3 was full")),
        hit(stored("B", root_cause="checkout timeouts to db-3: a firewall rule was missing")),
    ]

    assert len(diagnose(*hits).causes) == 2


@pytest.mark.parametrize("verdict", ["wrong", "stale"])
def test_a_precedent_that_people_disowned_supports_nothing(verdict):
    hits = [
        hit(stored("A", root_cause=POOL), outcomes={verdict: 1}),
        hit(stored("B", root_cause=CERT)),
    ]

    diagnosis = diagnose(*hits)

    assert diagnosis.root_cause == CERT
    assert [c.quote for c in diagnosis.causes] == [CERT]
    assert diagnosis.precedents[0].outcomes == {verdict: 1}


def test_a_precedent_confirmed_more_often_than_disowned_still_supports():
    confirmed = hit(stored("A", root_cause=POOL), outcomes={"wrong": 1, "same": 2})

    assert diagnose(confirmed).root_cause == POOL


def test_when_all_precedents_are_disowned_it_says_that():
    diagnosis = diagnose(hit(stored("A", root_cause=POOL), outcomes={"wrong": 1}))

    assert diagnosis.words == (
        "Similar incidents are on record, but people marked them wrong or stale."
    )


def test_the_sentence_nearest_to_the_question_is_quoted():
    text = (
        "The week had been quiet. Checkout lost its connections to db-3 because a backup held "
        "a lock. As a result, the on-call engineer was paged."
    )

    diagnosis = diagnose(hit(stored("A", root_cause=text)))

    assert diagnosis.root_cause == (
        "Checkout lost its connections to db-3 because a backup held a lock."
    )


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("Checkout was down. This was caused by a full disk on db-3.", True),
        ("**Root cause:** a full disk on db-3 stopped the writes.", True),
        ("Errors may have been caused by a full disk on db-3.", False),
        ("Checkout returned errors due to this incident.", False),
        ("We are investigating the root cause.", False),
    ],
)
def test_a_report_without_a_cause_field_is_quoted_only_where_it_states_one(said, quoted):
    diagnosis = diagnose(hit(stored("A", summary=said)))

    assert (diagnosis.status == "known") is quoted
    assert all(c.field == "summary" for c in diagnosis.citations)


def test_near_copies_count_as_seen_unless_they_are_one_event():
    kept = stored("A", root_cause=POOL, started_at=day(1))
    copies = [
        stored("B", root_cause=POOL, started_at=day(1)),
        stored("C", root_cause=POOL, started_at=day(5)),
    ]

    diagnosis = diagnose(hit(kept, copies=copies))

    assert diagnosis.causes[0].seen == 2
    assert diagnosis.causes[0].supported_by == [name("A"), name("B"), name("C")]
    assert diagnosis.confidence_words == "seen twice, no fix on record"


def test_fixes_are_ranked_by_whether_they_held():
    actions = [
        {"text": "Restarted the checkout pods", "held": False},
        {"text": "Told everybody to wait"},
        {"text": "Raised the pool size to 80", "held": True},
    ]

    diagnosis = diagnose(hit(stored("A", root_cause=POOL, actions=actions)))

    assert [(f.text, f.field, f.held, f.did_not_hold, f.words) for f in diagnosis.actions] == [
        ("Raised the pool size to 80", "actions[2].text", 1, 0, "held once"),
        ("Told everybody to wait", "actions[1].text", 0, 0, "nobody recorded whether it held"),
        ("Restarted the checkout pods", "actions[0].text", 0, 1, "failed once"),
    ]
    assert diagnosis.confidence_words == "seen once, this fix held once"


def test_nearly_the_same_fix_is_counted_once_with_all_that_became_of_it():
    hits = [
        hit(
            stored("A", root_cause=POOL, actions=[{"text": "Restart checkout pods", "held": True}])
        ),
        hit(
            stored("B", root_cause=POOL, actions=["restarted the checkout pods"]),
            outcomes={"fixed_it": 2, "did_not_fix": 1},
        ),
    ]

    [fix] = diagnose(*hits).actions

    assert (fix.text, fix.also) == ("Restart checkout pods", [name("B")])
    assert (fix.held, fix.did_not_hold, fix.words) == (3, 1, "held 3 times, failed once")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Increase the connection pool size", "Decrease the connection pool size"),
        ("Restart the checkout pods", "Do not restart the checkout pods"),
        ("Enable the retry flag in checkout", "Disable the retry flag in checkout"),
    ],
)
def test_opposite_fixes_are_not_merged(one, other):
    diagnosis = diagnose(hit(stored("A", actions=[one, other])))

    assert sorted(f.text for f in diagnosis.actions) == sorted([one, other])


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("did_not_fix", "failed once"),
        ("stale", "nobody recorded whether it held, marked stale once"),
        ("wrong", "nobody recorded whether it held, its incident was marked wrong once"),
    ],
)
def test_a_fix_that_people_reported_against_comes_last_and_says_why(verdict, words):
    hits = [
        hit(stored("A", actions=["Restart the checkout pods"]), outcomes={verdict: 1}),
        hit(stored("B", actions=["Raise the pool size"])),
    ]

    fixes = diagnose(*hits).actions

    assert [f.text for f in fixes] == ["Raise the pool size", "Restart the checkout pods"]
    assert fixes[-1].words == words


def test_fixes_of_another_cause_are_left_out():
    hits = [
        hit(stored("A", root_cause=POOL, actions=["Raise the pool size"])),
        hit(stored("B", root_cause=CERT, actions=["Renew the certificate"]), score=0.4),
    ]

    assert [f.text for f in diagnose(*hits).actions] == ["Raise the pool size"]


def test_each_fix_carries_its_ruling_and_a_forbidden_one_is_not_put_first():
    actions = [
        {"text": "Delete the volume of db-3", "held": True},
        {"text": "Restart checkout"},
        {"text": "Check the replication lag"},
    ]

    fixes = diagnose(hit(stored("A", actions=actions))).actions

    assert [(f.text, f.ruling.decision, f.ruling.rule) for f in fixes] == [
        ("Restart checkout", "needs_approval", "restarts"),
        ("Check the replication lag", "allowed", "look-up"),
        ("Delete the volume of db-3", "forbidden", "destroys-data"),
    ]


def test_what_was_done_is_found_in_a_resolution_and_what_is_planned_is_not():
    resolution = (
        "Error rates increased until 10:20. We rolled back the deploy of 09:55. "
        "Engineers then restarted the workers. We will add an alert."
    )

    fixes = diagnose(hit(stored("A", root_cause=POOL, resolution=resolution))).actions

    assert [(f.text, f.field) for f in fixes] == [
        ("We rolled back the deploy of 09:55.", "resolution"),
        ("Engineers then restarted the workers.", "resolution"),
    ]


def test_what_differs_is_listed_for_each_precedent():
    kept = stored(
        "A",
        title="Payments outage",
        symptoms="payments answered HTTP 429 on web-01 in eu-west-1, memory 97%",
        services=["payments"],
        severity="SEV1",
    )
    question = Question(
        text="HTTP 503 from checkout on db-3 in us-east-1: disk usage at 97%",
        services=("checkout",),
        severity="SEV3",
    )

    differs = diagnose(hit(kept), question=question).differs

    assert [(d.kind, d.here, d.there) for d in differs] == [
        ("error codes", ["503"], ["429"]),
        ("services", ["checkout"], ["payments"]),
        ("hosts", ["db-3"], ["web-01"]),
        ("places", ["us-east-1"], ["eu-west-1"]),
        ("measurements", ["disk usage at 97%"], ["memory 97%"]),
        ("severity", ["SEV3"], ["SEV1"]),
    ]
    assert differs[0].words == "error codes: 503 only here; 429 only there"
    assert {d.incident_id for d in differs} == {name("A")}


def test_what_both_say_is_no_difference():
    text = "checkout: HTTP 503 on db-3 in us-east-1, disk at 97%, p99 latency 4 s"
    kept = stored("A", title=text, services=["checkout"], severity="sev2")
    question = Question(text=text, services=("Checkout",), severity="SEV2")

    assert diagnose(hit(kept), question=question).differs == []


@pytest.mark.parametrize(
    ("there", "differs"),
    [("replication lag of 40 s", False), ("replication lag of 20 min", True)],
)
def test_the_same_measurement_differs_only_when_it_is_far_off(there, differs):
    question = Question(text="replication lag above 30 s")

    found = diagnose(hit(stored("A", symptoms=there)), question=question).differs

    assert [d.there for d in found] == ([[there]] if differs else [])


def test_checks_quote_what_the_alert_does_not_mention():
    kept = stored(
        "A",
        root_cause=POOL,
        updates=[
            {"text": "We apologize to all customers. Replication lag was above 300 s on db-3."},
            {"text": "HTTP 503 from checkout."},
        ],
        evidence=["2030-01-01T03:00:00Z ERROR PoolTimeoutError: no free connection. Giving up"],
    )

    checks = diagnose(hit(kept)).checks

    assert [(c.field, c.quote) for c in checks] == [
        (
            "evidence[0].text",
            "2030-01-01T03:00:00Z ERROR PoolTimeoutError: no free connection. Giving up",
        ),
        ("updates[0].text", "Replication lag was above 300 s on db-3."),
    ]
    assert checks[1].words == (f'in {name("A")}: "Replication lag was above 300 s on db-3."')


def test_there_are_at_most_five_checks_and_two_of_one_incident():
    seen = ["Replication lag was 300 s.", "CPU was at 100% on web-01.", "Swap use was 7 GB."]
    more = ["Queue depth was 9000 messages.", "Disk was at 99%.", "Packet loss was 12%."]
    hits = [
        hit(stored("A", updates=[{"text": t} for t in seen])),
        hit(stored("B", updates=[{"text": t} for t in more])),
        hit(
            stored("C", updates=[{"text": "The heap grew to 4 GB."}, {"text": "GC pause of 9 s."}])
        ),
    ]

    checks = diagnose(*hits).checks

    assert len(checks) == 5
    assert [sum(c.incident_id == name(n) for c in checks) for n in "ABC"] == [2, 2, 1]


def test_a_bare_incident_is_enough():
    bare = Incident(source="pager", source_id="A", title="Something broke")
    unnumbered = Stored(bare, 0, "", {}, None, [])

    diagnosis = diagnose(hit(unnumbered, score=0.0), question=Question(text=""))

    assert diagnosis.status == "inconclusive"
    assert diagnosis.precedents[0].incident_id == name("A")


def test_the_time_of_the_search_is_part_of_the_time_taken():
    ticks = iter([1.0, 1.004])

    diagnosis = diagnose_from(ALERT, known(), clock=lambda: next(ticks))

    assert diagnosis.took_ms == pytest.approx(6.0)


def test_a_citation_names_the_version_and_field_that_hold_the_quote():
    kept = stored("A", root_cause=POOL, updates=[{"text": "one"}, {"text": "two and three"}])
    citation = cite(kept, "updates[1].text", "two")
    assert citation

    newer = replace(kept, incident=kept.incident.model_copy(update={"version": 2}))

    assert occurs(citation, kept)
    assert not occurs(citation, newer)
    assert not occurs(citation, stored("B", updates=[{"text": "one"}, {"text": "two"}]))
    assert not occurs(citation.model_copy(update={"field": "updates[0].text"}), kept)


@pytest.mark.parametrize(
    ("field", "quote"),
    [
        ("root_cause", "The connection pool was exhausted"),
        ("root_cause", "  "),
        ("resolution", POOL),
        ("updates[7].text", POOL),
        ("services", POOL),
        ("__class__", "Incident"),
    ],
)
def test_a_quote_that_the_field_does_not_hold_is_no_citation(field, quote):
    assert cite(stored("A", root_cause=POOL), field, quote) is None


PIECES = st.sampled_from(
    [
        *["Checkout failed because the pool was full. ", "We rolled back v1.2.3, e.g. at 10:00. "],
        *["Replication lag was 300 s. ", "Restarted db-3! ", "HTTP 503 ", "# Cause\n", "- item\n"],
        *[
            "caused by ",
            "**Root cause:** x ",
            "\n",
            "   ",
            "| a | b |\n",
            "…",
            "“quoted.” ",
            "原因。",
        ],
        *["2030-01-01T00:00:00Z ERROR Boom. ", "```\n", "a.b.c ", "not ", "unknown ", "Dr. No "],
    ]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=20)), max_size=12).map("".join)
MAYBE = st.none() | TEXTS


@st.composite
def incidents(draw: st.DrawFn) -> Stored:
    texts = draw(st.lists(TEXTS.filter(lambda t: bool(t.strip())), max_size=3))
    return stored(
        draw(st.sampled_from("ABCDEF")),
        summary=draw(MAYBE),
        symptoms=draw(MAYBE),
        root_cause=draw(MAYBE),
        resolution=draw(MAYBE),
        lessons=draw(MAYBE),
        updates=[{"text": t} for t in texts],
        actions=[{"text": t, "held": draw(st.sampled_from([None, True, False]))} for t in texts],
        evidence=texts,
    )


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.lists(incidents(), max_size=5), st.sampled_from(["known", "novel"]))
def test_nothing_is_said_that_no_source_holds(text, kept, status):
    question, hits = Question(text=text), [hit(k) for k in kept]
    sources = {(*key(k), k.incident.model_dump_json()): k for k in kept}

    diagnosis = diagnose_from(question, replace(known(*hits), status=status), clock=lambda: 0.0)

    def is_held(citation: Citation) -> bool:
        return any(occurs(citation, k) for k in sources.values())

    def is_text_of(incident: str, field: str, words: str) -> bool:
        return any(
            words in (field_text(k.incident, field) or "")
            for k in sources.values()
            if key(k)[0] == incident
        )

    assert all(is_held(c) for c in diagnosis.citations)
    assert all(is_held(c) for cause in diagnosis.causes for c in cause.citations)
    assert all(is_text_of(f.incident_id, f.field, f.text) for f in diagnosis.actions)
    assert all(is_text_of(c.incident_id, c.field, c.quote) for c in diagnosis.checks)
    assert diagnosis.root_cause in {None, *(c.quote for c in diagnosis.citations)}
    assert diagnosis == diagnose_from(
        question, replace(known(*hits), status=status), clock=lambda: 0.0
    )
    assert Diagnosis.model_validate_json(diagnosis.model_dump_json()) == diagnosis


@pytest.mark.parametrize(
    "unit", [".", "\n", "\n.", "a. ", "- ", "*", "9% ", "caused by ", "cause: "]
)
def test_a_hostile_text_does_not_hang_the_reader(unit):
    # With a pattern that backtracks this takes minutes instead of a moment.
    text = unit * (30_000 // len(unit)) + "x"
    kept = stored("A", summary=text, root_cause=text, resolution=text, actions=[text])

    diagnosis = diagnose(hit(kept), question=Question(text=text))

    assert diagnosis.query_id == "q-1"
