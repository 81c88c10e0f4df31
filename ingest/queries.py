"""The questions that were asked and what was answered, kept without their secrets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import insert, select

from ingest import schema
from ingest.draft import safe_text
from ingest.errors import Unknown
from ingest.incident import visible
from ingest.store import Store
from ingest.writing import Writing

_query, _answer = schema.query, schema.answer


class Cited(NamedTuple):
    """One place of an answer's ranking."""

    incident_id: str
    version: int
    score: float


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """One question, and the incidents that it was answered with, the best first."""

    query_id: str
    at: datetime
    kind: Literal["search", "diagnose"]
    text: str
    status: str
    took_ms: float
    services: tuple[str, ...] = ()
    as_of: datetime | None = None
    answer: list[Cited] = field(default_factory=list)


def keep(store: Store, queries: Sequence[KeptQuery]) -> None:
    """Keep these, their texts redacted; what was forgotten meanwhile is cited no more.

    Not audited: a question changes nothing.
    """
    if not queries:
        return
    rows = {q.query_id: _row(q, store.redact_ips) for q in queries}
    with store.transaction("search") as writing:
        # A batch whose commit was answered by silence comes again.
        known = select(_query.c.query_id).where(_query.c.query_id.in_(rows))
        kept_before = set(writing.connection.execute(known).scalars())
        fresh = [q for q in queries if q.query_id not in kept_before]
        if fresh:
            writing.connection.execute(insert(_query), [rows[q.query_id] for q in fresh])
            _cite(writing, fresh)


def kept(store: Store, query_id: str) -> KeptQuery:
    """One question as kept. Raises `Unknown`."""
    query_id = visible(query_id)
    asked = select(_query).where(_query.c.query_id == query_id)
    c = _answer.c
    cited = select(c.incident_id, c.version, c.score).where(c.query_id == query_id)
    with store.reading() as connection:
        row = connection.execute(asked).mappings().one_or_none()
        if row is None:
            raise Unknown(f"there is no query {query_id!r} here")
        answer = [Cited(*place) for place in connection.execute(cited.order_by(c.rank))]
    return KeptQuery(**{**row, "services": tuple(row["services"])}, answer=answer)


def citing(store: Store, incident_id: str) -> list[str]:
    """The questions that were answered with this incident, the latest first."""
    named = (
        select(_query.c.query_id)
        .join(_answer)
        .where(_answer.c.incident_id == visible(incident_id))
        .group_by(_query.c.query_id)
        .order_by(_query.c.at.desc(), _query.c.query_id)
    )
    with store.reading() as connection:
        return list(connection.execute(named).scalars())


def share_novel(store: Store, *, over: int) -> float | None:
    """The share of the last `over` diagnoses that were novel; None before there were so many."""
    asked = select(_query.c.status).where(_query.c.kind == "diagnose", _query.c.as_of.is_(None))
    with store.reading() as connection:
        last = connection.execute(asked.order_by(_query.c.at.desc()).limit(over)).scalars().all()
    return last.count("novel") / over if len(last) == over else None


def _cite(writing: Writing, queries: Sequence[KeptQuery]) -> None:
    here = writing.here({place[:2] for q in queries for place in q.answer})
    places = [
        {"query_id": q.query_id, "rank": rank, **place._asdict()}
        for q in queries
        for rank, place in enumerate(q.answer, start=1)
        if place[:2] in here
    ]
    if places:
        writing.connection.execute(insert(_answer), places)


def _row(query: KeptQuery, redact_ips: bool) -> dict[str, Any]:
    return {
        "query_id": query.query_id,
        "at": query.at,
        "kind": query.kind,
        "text": safe_text(query.text, redact_ips=redact_ips),
        "services": [safe_text(name, redact_ips=redact_ips) for name in query.services],
        "as_of": query.as_of,
        "status": query.status,
        "took_ms": query.took_ms,
    }
