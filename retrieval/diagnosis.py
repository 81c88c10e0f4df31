"""The diagnosis: what the memory says about an alert, all of it quoted or counted."""

from collections.abc import Callable, Sequence
from datetime import datetime
from time import perf_counter
from typing import Literal

from ingest.store import Stored
from retrieval.claims import Cause, Findings, findings, occurrences
from retrieval.claims import Precedent as Near
from retrieval.claims import precedents as nearest
from retrieval.differences import Alert, Check, Difference, checks, differences
from retrieval.fixes import Fix, fixes, times
from retrieval.policy import Ruling
from retrieval.quotes import Citation, Record, key
from retrieval.search import Answer, Hit, Question

Status = Literal["known", "novel", "inconclusive"]


class Precedent(Record):
    """One similar incident, in short."""

    incident_id: str
    version: int
    source: str
    source_id: str
    title: str
    started_at: datetime | None
    score: float
    why: list[str]
    copies: int
    outcomes: dict[str, int]
    supports: bool  # whether it had the cause that is named


class Hypothesis(Record):
    """What a model says by itself: its own words, no evidence; `ruling` is on the fix it names."""

    text: str
    fix: str | None
    ruling: Ruling | None
    words: str


class Diagnosis(Record):
    """What was found about an alert.

    `root_cause`, every `quote` and the `text` of every action stand letter by letter in the
    incident version that they name; all other words are fixed labels around counts and values,
    but for the `hypothesis`, which is a model's. `model` says which model had a say. `confidence`
    is null while no calibrator has proved itself; `confidence_words` count instead.
    """

    status: Status
    words: str
    root_cause: str | None
    causes: list[Cause]
    citations: list[Citation]
    actions: list[Fix]
    confidence: float | None
    confidence_words: str
    differs: list[Difference]
    checks: list[Check]
    precedents: list[Precedent]
    hypothesis: Hypothesis | None
    model: dict[str, str] | None
    degraded: str | None
    query_id: str
    took_ms: float


def diagnose_from(
    question: Question, answer: Answer, *, clock: Callable[[], float] = perf_counter
) -> Diagnosis:
    """The diagnosis that needs no model: extracted from the hits, and the same for the same hits.

    `took_ms` includes the search that made the answer.
    """
    started = clock()
    alert = Alert.of(question)
    near = nearest(answer.hits)
    novel = answer.status == "novel"

    found = Findings([], False) if novel else findings(alert.stems, near)
    named = found.causes[0] if found.agreed else None
    status: Status = "novel" if novel else "known" if named else "inconclusive"

    supporting = frozenset(named.supported_by if named else ())
    others = {name for cause in found.causes[1:] for name in cause.supported_by}
    done = [] if novel else fixes(near, supporting, frozenset(others if named else ()) - supporting)
    quoted = [c.quote for cause in found.causes for c in cause.citations] + [f.text for f in done]

    return Diagnosis(
        status=status,
        words=_words(status, near, found),
        root_cause=named.quote if named else None,
        causes=found.causes,
        citations=_citations(named, found),
        actions=done,
        confidence=None,
        confidence_words=_confidence_words(named, near, found, done, novel=novel),
        differs=[d for p in near for d in differences(alert, p.hit.stored)],
        checks=[] if novel else checks(alert, _trusted(near), quoted),
        precedents=[_precedent(hit, supporting) for hit in answer.hits],
        hypothesis=None,
        model=None,
        degraded=answer.degraded,
        query_id=answer.query_id,
        took_ms=round(answer.took_ms + (clock() - started) * 1000, 3),
    )


def _citations(named: Cause | None, found: Findings) -> list[Citation]:
    """What stands behind the cause; where none is named, what each of the stated ones says."""
    if named:
        return named.citations
    return [cause.citations[0] for cause in found.causes]


def _trusted(near: Sequence[Near]) -> list[Stored]:
    return [p.hit.stored for p in near if not p.disowned]


def _precedent(hit: Hit, supporting: frozenset[str]) -> Precedent:
    incident = hit.stored.incident
    name, version = key(hit.stored)
    return Precedent(
        incident_id=name,
        version=version,
        source=incident.source,
        source_id=incident.source_id,
        title=incident.title,
        started_at=incident.started_at,
        score=hit.score,
        why=hit.why,
        copies=len(hit.copies),
        outcomes=dict(hit.outcomes),
        supports=name in supporting,
    )


def _words(status: Status, near: Sequence[Near], found: Findings) -> str:
    """What may be concluded, in one of seven fixed sentences."""
    if status == "known":
        return "Similar incidents had this cause. Similar is not the same: read what differs first."
    if not near:
        return "Not seen before: nothing in memory resembles this."
    if status == "novel":
        return (
            "Not seen before: nothing in memory is close enough. "
            "The nearest incidents are listed; no cause is claimed."
        )
    if all(p.disowned for p in near):
        return "Similar incidents are on record, but people marked them wrong or stale."
    if not found.causes:
        return "Similar incidents are on record, but none of them states a cause."
    if len(found.causes) == 1:
        return "Only one of the less similar incidents states a cause."
    return "Similar incidents had different causes, and none has most of the support."


def _confidence_words(
    named: Cause | None,
    near: Sequence[Near],
    found: Findings,
    done: Sequence[Fix],
    *,
    novel: bool,
) -> str:
    """How often, and whether the fix held: counts, and nothing that was not counted."""
    if novel or not near:
        return "not seen before"
    if named:
        return named_words(named, done)
    similar = times(occurrences([s for p in near for s in p.witnesses()]))
    if not found.causes:
        return f"similar incidents seen {similar}, no cause on record"
    if len(found.causes) == 1:
        return f"similar incidents seen {similar}, one cause on record"
    return f"similar incidents seen {similar}, {len(found.causes)} different causes on record"


def named_words(named: Cause, done: Sequence[Fix]) -> str:
    """How often the cause that is named was seen, and whether its best fix held."""
    what = "a cause of this family seen" if named.by_family else "seen"
    return f"{what} {times(named.seen)}, {_fix_words(done)}"


def _fix_words(done: Sequence[Fix]) -> str:
    if not done:
        return "no fix on record"
    best = done[0]
    if best.held and best.did_not_hold:
        return f"this fix held {times(best.held)} and failed {times(best.did_not_hold)}"
    if best.held:
        return f"this fix held {times(best.held)}"
    if best.did_not_hold:
        return f"this fix failed {times(best.did_not_hold)}"
    return "nobody recorded whether the fix held"
