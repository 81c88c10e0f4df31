"""What people said about an answer: bound to the incident version and the question it judged."""

import secrets
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import Row, func, insert, select, update

from ingest import schema
from ingest.database import slices
from ingest.errors import Unknown
from ingest.incident import Moment, Name, OptionalName, OptionalText, Record, visible
from ingest.store import Store
from ingest.writing import Writing, no_such

Verdict = Literal["same", "related", "wrong", "stale", "fixed_it", "did_not_fix"]
Number = Annotated[int, Field(ge=1, le=2**31 - 1)]

_feedback, _version, _query = schema.feedback, schema.incident_version, schema.query


class Feedback(Record):
    """One verdict; `id` and `when` belong to the store, which sets them and ignores values sent."""

    incident_id: Name
    verdict: Verdict
    version: Number | None = None
    query_id: OptionalName = None
    note: OptionalText = None
    who: OptionalName = None
    id: OptionalName = None
    when: Moment | None = None


def give(writing: Writing, feedback: Feedback) -> Feedback:
    """The verdict as kept: redacted, and on the current version when it names none.

    Raises `Unknown` when it names an incident, a version or a query that is not here.
    """
    kept = feedback.model_copy(
        update={
            "id": f"fb-{secrets.token_hex(8)}",
            "version": _version_judged(writing, feedback),
            "query_id": _question_judged(writing, feedback),
            "note": feedback.note and writing.safe(feedback.note),
            "who": feedback.who and writing.safe(feedback.who),
            "when": writing.now,
        }
    )
    row = kept.model_dump(exclude={"when"})
    writing.connection.execute(insert(_feedback).values(**row, at=kept.when))
    told = kept.model_dump(include={"incident_id", "version", "query_id", "verdict"})
    _tell(writing, "feedback.given", kept, **told)
    return kept


def withdraw(writing: Writing, id: str, *, reason: str) -> None:
    """Take a verdict back: from now on it counts no more. Raises `Unknown`."""
    id = visible(id)
    it = _feedback.c.id == id
    row = writing.connection.execute(select(_feedback).where(it)).one_or_none()
    if row is None:
        raise Unknown(f"there is no feedback {id!r} here; `scarwise incidents show` lists it")
    if row.withdrawn_at:
        return
    writing.connection.execute(update(_feedback).where(it).values(withdrawn_at=writing.now))
    _tell(writing, "feedback.withdrawn", _as_feedback(row), reason=writing.safe(reason))


def given(
    store: Store, *, incident_id: str | None = None, as_of: datetime | None = None
) -> list[Feedback]:
    """The verdicts that stand, or that stood just before `as_of`; the oldest first."""
    c = _feedback.c
    standing = select(_feedback).order_by(c.at, c.id)
    if as_of is None:
        standing = standing.where(c.withdrawn_at.is_(None))
    else:
        not_yet = c.withdrawn_at.is_(None) | (c.withdrawn_at >= as_of)
        standing = standing.where(c.at < as_of, not_yet)
    if incident_id is not None:
        standing = standing.where(c.incident_id == visible(incident_id))
    with store.reading() as connection:
        return [_as_feedback(row) for row in connection.execute(standing)]


def outcomes(store: Store, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Counter[str]]:
    """How often each verdict stands on each of these (id, version); without any, left out."""
    c = _feedback.c
    counted = select(c.incident_id, c.version, c.verdict, func.count()).where(
        c.withdrawn_at.is_(None)
    )
    counted = counted.group_by(c.incident_id, c.version, c.verdict)
    tally: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    with store.reading() as connection:
        for some in slices(keys):
            named = counted.where(schema.keyed(_feedback, some))
            for incident_id, version, verdict, count in connection.execute(named):
                tally[incident_id, version][verdict] = count
    return dict(tally)


def _version_judged(writing: Writing, feedback: Feedback) -> int:
    of_it = select(_version.c.version).where(_version.c.incident_id == feedback.incident_id)
    versions = set(writing.connection.execute(of_it).scalars())
    if not versions:
        raise no_such(writing.connection, feedback.incident_id)
    newest: int = max(versions)
    if feedback.version is None:
        return newest
    if feedback.version not in versions:
        raise Unknown(
            f"incident {feedback.incident_id} has no version {feedback.version}; "
            f"its newest is {newest}"
        )
    return feedback.version


def _question_judged(writing: Writing, feedback: Feedback) -> str | None:
    if feedback.query_id is None:
        return None
    asked = select(_query.c.query_id).where(_query.c.query_id == feedback.query_id)
    if writing.connection.execute(asked).one_or_none() is None:
        raise Unknown(f"there is no query {feedback.query_id!r} here; leave query_id out")
    return feedback.query_id


def _tell(writing: Writing, act: str, kept: Feedback, **detail: Any) -> None:
    """The index follows verdicts as it follows incidents; the trail names ids, not words."""
    writing.changed([(kept.incident_id, kept.version or 0, "feedback")])
    writing.record(act, kept.id or "", **detail)


def _as_feedback(row: Row[Any]) -> Feedback:
    kept = dict(row._mapping)
    kept["when"] = kept.pop("at")
    del kept["withdrawn_at"]
    return Feedback(**kept)
