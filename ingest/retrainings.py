"""The journal of the learning loop: which run is on, how far it is, and how the earlier ones ended.

A run that was killed has no outcome; the next one finds it here and finishes it.

    Superseded     (Conflict) another process went on with this run meanwhile
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, insert, select, update

from ingest import schema
from ingest.errors import Conflict
from ingest.store import Store
from ingest.writing import Writing

_run = schema.retraining
_TOLD = ("dataset", "trained", "version", "verdict", "why")


class Superseded(Conflict):
    """Another process went on with this run meanwhile."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """One run of the loop; `detail` is what its finished steps made, by name."""

    id: int
    started_at: datetime
    updated_at: datetime
    step: str
    detail: dict[str, Any]
    outcome: str | None


def unfinished(store: Store) -> Retraining | None:
    """The run that was begun and never ended."""
    with store.reading() as connection:
        row = connection.execute(
            select(_run).where(_run.c.outcome.is_(None)).order_by(_run.c.id.desc()).limit(1)
        ).one_or_none()
    return _retraining(row) if row else None


def latest(store: Store, *, limit: int = 20) -> list[Retraining]:
    """The latest runs, the newest first."""
    with store.reading() as connection:
        rows = connection.execute(select(_run).order_by(_run.c.id.desc()).limit(limit))
        return [_retraining(row) for row in rows]


def exported(store: Store) -> set[str]:
    """The datasets of all runs that have ended."""
    ended = select(_run.c.detail).where(_run.c.outcome.is_not(None))
    with store.reading() as connection:
        details = connection.execute(ended).scalars().all()
    return {detail["dataset"] for detail in details if "dataset" in detail}


def begin(store: Store, *, actor: str, detail: Mapping[str, Any]) -> Retraining:
    """A new run, in the journal and in the audit trail."""
    with store.transaction(actor) as writing:
        values: dict[str, Any] = {
            "started_at": writing.now,
            "updated_at": writing.now,
            "step": "begun",
            "detail": dict(detail),
            "outcome": None,
        }
        made = writing.connection.execute(insert(_run).values(**values)).inserted_primary_key
        assert made is not None
        writing.record("retraining.begun", f"retraining-{made[0]}", **detail)
        return Retraining(id=made[0], **values)


def advance(store: Store, run: Retraining, step: str, *, actor: str, **made: Any) -> Retraining:
    """Note that a step is done and what it made. Raises `Superseded`."""
    detail = {**run.detail, **made}
    with store.transaction(actor) as writing:
        _exchange(writing, run, step=step, detail=detail, updated_at=writing.now)
        return Retraining(run.id, run.started_at, writing.now, step, detail, None)


def finish(store: Store, run: Retraining, outcome: str, *, actor: str, **made: Any) -> Retraining:
    """End the run, with one row in the audit trail. Raises `Superseded`."""
    detail = {**run.detail, **made}
    with store.transaction(actor) as writing:
        _exchange(writing, run, outcome=outcome, detail=detail, updated_at=writing.now)
        told = {k: detail[k] for k in _TOLD if k in detail}
        writing.record(f"retraining.{outcome}", f"retraining-{run.id}", **told)
        return Retraining(run.id, run.started_at, writing.now, run.step, detail, outcome)


def _exchange(writing: Writing, run: Retraining, **values: Any) -> None:
    """Note these, while the run is as this process left it.

    A lock that a lost connection let go of could have given it to another.
    """
    it = (_run.c.id == run.id) & _run.c.outcome.is_(None) & (_run.c.updated_at == run.updated_at)
    if writing.connection.execute(update(_run).where(it).values(**values)).rowcount != 1:
        raise Superseded(f"retraining {run.id} was gone on with by another process meanwhile")


def _retraining(row: Row[Any]) -> Retraining:
    return Retraining(**row._mapping)
