"""Promotion by a job that nobody watches: what a person did with the pointer meanwhile stands.

Overtaken      (Conflict) a person moved the pointer, and the job leaves it where it is
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from ingest.errors import Conflict
from ingest.schema import audit
from ingest.store import Store
from training.registry import (
    NOT_SAID,
    Pointer,
    Registered,
    get,
    get_in,
    named,
    pointer,
    pointer_in,
    promote_in,
)

PROMOTED, ROLLED_BACK = "model.promoted", "model.rolled_back"


class Overtaken(Conflict):
    """A person moved the pointer, and the job leaves it where it is."""


@dataclass(frozen=True, slots=True)
class Move:
    """One move of the pointer as the audit trail tells it: from which champion to which."""

    act: str
    at: str
    actor: str
    before: int | None
    after: int | None
    reason: str

    def __str__(self) -> str:
        did = f"promoted {named(self.after)} in place of {named(self.before)}"
        if self.act == ROLLED_BACK:
            did = f"rolled {named(self.before)} back to {named(self.after)}"
        why = "" if self.reason == NOT_SAID else f" ({self.reason})"
        return f"{self.actor} {did} on {self.at[:16].replace('T', ' ')} UTC{why}"


def succeed(
    store: Store, version: int, *, began: int | None, beside: int | None, actor: str, reason: str
) -> Pointer:
    """Let this model be served, where nobody has moved the pointer since its training `began` with
    that champion and it was judged `beside` that one; None is the base.

    The same pointer, unmoved, when it is served already. Raises `Overtaken` where another champion
    is served by now or this model was taken down before, else what `registry.promote` raises.
    """
    with store.transaction(actor) as writing:
        before = pointer_in(writing)
        if before.champion != version:
            chosen = get_in(writing, version)
            move = _taken_down(writing.connection, chosen, before)
            if not move and {began, beside} != {before.champion}:
                move = next(_moves(writing.connection), None)
            if move:
                raise Overtaken(
                    f"{move}, and that stands; `scarwise promote {version}` serves "
                    f"{chosen.name} all the same"
                )
        return promote_in(writing, version, reason=reason)


def taken_down(store: Store, version: int) -> Move | None:
    """The act by which this model stopped to be served; None while it is, or never was."""
    model, now = get(store, version), pointer(store)
    with store.reading() as connection:
        return _taken_down(connection, model, now)


def _taken_down(connection: Connection, model: Registered, now: Pointer) -> Move | None:
    if model.promoted_at is None or now.champion == model.version:
        return None
    return next((move for move in _moves(connection) if move.before == model.version), None)


def _moves(connection: Connection) -> Iterator[Move]:
    """Every move of the pointer, the latest first."""
    c = audit.c
    told = select(c.act, c.at, c.actor, c.detail).where(c.act.in_((PROMOTED, ROLLED_BACK)))
    for act, at, actor, detail in connection.execute(told.order_by(c.seq.desc())):
        move = json.loads(detail)
        yield Move(act, at, actor, move["from"], move["to"], move["reason"])
