"""The audit trail: one row per act, chained by hashes, written in the act's own transaction.

Triggers refuse to change a row, and `verify` finds what got past them: an edit, a deletion, a
reordering, a cut-off end. Who can rewrite the whole file can rewrite the whole chain too; only an
anchor that was written down elsewhere finds that.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, insert, select, update

from ingest import schema
from ingest.database import Readable
from ingest.errors import Refused, StoreUnreachable
from ingest.incident import visible

GENESIS = "0" * 64
End = tuple[int, str]  # how many rows there are, and the hash of the last
_START: End = (0, GENESIS)
_ROWS_AT_ONCE = 1_000
_audit, _head = schema.audit, schema.audit_head


@dataclass(frozen=True, slots=True)
class Act:
    """What was done to what; the detail holds ids, counts and hashes, never an incident's text."""

    act: str
    subject: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the trail, exactly as kept: `detail` is canonical JSON text."""

    seq: int
    at: str
    actor: str
    act: str
    subject: str
    detail: str
    prev_hash: str
    hash: str

    def rightful_hash(self) -> str:
        """sha256 of the previous hash and of this row's canonical JSON."""
        told = [self.seq, self.at, self.actor, self.act, self.subject, self.detail]
        # A text column of SQLite can be made to hold bytes; they hash like no text does.
        canonical = orjson.dumps(told, default=lambda value: {"not text": repr(value)})
        return hashlib.sha256(str(self.prev_hash).encode() + canonical).hexdigest()


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether the chain holds; when not, the first row at which it does not, and why."""

    ok: bool
    entries: int
    head: str  # the hash of the last row that holds
    broken_at: int | None = None
    why: str | None = None

    @property
    def anchor(self) -> str:
        """What to keep elsewhere, for a later `verify` to hold the trail to."""
        return _anchor(self.entries, self.head)


def hold(connection: Connection) -> None:
    """Make every other writer wait until this transaction ends.

    SQLite's `BEGIN IMMEDIATE` did so already; on PostgreSQL this lock is what makes the order of
    the change feed and of the trail the order of the commits.
    """
    if connection.execute(select(_head.c.id).with_for_update()).one_or_none() is None:
        raise StoreUnreachable(
            "the audit trail has lost the row that says where it ends, so nothing can be done that "
            "it would not tell of: see `scarwise audit verify`, and restore the database"
        )


def append(connection: Connection, acts: Sequence[Act], *, actor: str, at: datetime) -> None:
    """Chain these acts onto the trail, inside the caller's write transaction."""
    if not acts:
        return
    count, last = connection.execute(select(_head.c["count"], _head.c.hash)).one()
    rows = []
    for act in acts:
        count += 1
        entry = _next(act, count, last, actor=actor, at=at.isoformat())
        last = entry.hash
        rows.append(asdict(entry))
    connection.execute(insert(_audit), rows)
    connection.execute(update(_head).values(count=count, hash=last))


def entries(
    store: Readable, *, subject: str | None = None, before: int | None = None, limit: int = 100
) -> list[Entry]:
    """The latest rows of the trail (with `before`: the latest of those), the newest last."""
    statement = select(_audit).order_by(_audit.c.seq.desc()).limit(limit)
    if subject is not None:
        statement = statement.where(_audit.c.subject == visible(subject))
    if before is not None:
        statement = statement.where(_audit.c.seq < before)
    with store.reading() as connection:
        return [Entry(*row) for row in reversed(connection.execute(statement).all())]


def verify(store: Readable, *, anchor: str | None = None) -> Verification:
    """Walk the whole chain; with the anchor of an earlier walk, prove too that it grew from there.

    Raises `Refused` for an anchor that is none. Costs about a second per 100,000 rows.
    """
    told = _START if anchor is None else _parsed(anchor)
    statement = select(_audit).order_by(_audit.c.seq).execution_options(yield_per=_ROWS_AT_ONCE)
    with store.reading() as connection:
        end = _end(connection)
        with connection.execute(statement) as rows:
            return _walk(rows, end=end, told=told)


def _walk(rows: Iterable[Sequence[Any]], *, end: End | None, told: End) -> Verification:
    count, last = _START
    for entry in (Entry(*row) for row in rows):
        why = _flaw(entry, count + 1, last) or _stray(entry, told)
        if why:
            return Verification(False, count, last, count + 1, why)
        count, last = entry.seq, entry.hash
    why = _cut(count, last, end, told)
    if why:
        return Verification(False, count, last, count + 1, why)
    return Verification(True, count, last)


def _next(act: Act, seq: int, last: str, *, actor: str, at: str) -> Entry:
    detail = orjson.dumps(dict(act.detail), option=orjson.OPT_SORT_KEYS).decode()
    unsigned = Entry(seq, at, actor, act.act, act.subject, detail, prev_hash=last, hash="")
    return replace(unsigned, hash=unsigned.rightful_hash())


def _flaw(entry: Entry, seq: int, last: str) -> str | None:
    if entry.seq != seq:
        return f"row {seq} is missing: row {entry.seq} comes instead"
    if entry.prev_hash != last:
        return "this row does not follow the one before it: rows were changed or reordered"
    if entry.hash != entry.rightful_hash():
        return "this row was changed after it was written"
    return None


def _stray(entry: Entry, told: End) -> str | None:
    if (entry.seq, entry.hash) == told or entry.seq != told[0]:
        return None
    return "this row is not the one that the anchor was taken at: the trail was rewritten"


def _cut(count: int, last: str, end: End | None, told: End) -> str | None:
    if count < told[0]:
        return f"the trail ends here, but the anchor was taken at row {told[0]}: it was cut"
    if end is None:
        return "the row that says where the trail ends is missing"
    if count < end[0]:
        return f"the trail ends here, but it had {end[0]} rows: it was cut"
    if (count, last) != end:
        return f"the trail was to end at row {end[0]}: rows were added behind its back"
    return None


def _end(connection: Connection) -> End | None:
    row = connection.execute(select(_head.c["count"], _head.c.hash)).one_or_none()
    return (row[0], row[1]) if row else None


def _anchor(count: int, last: str) -> str:
    return f"{count}:{last}"


def _parsed(anchor: str) -> End:
    count, _, last = anchor.strip().partition(":")
    if not count.isdecimal() or len(last) != len(GENESIS):
        raise Refused(f"{anchor!r} is no anchor; it looks like 42:<64 hex digits>")
    return int(count), last
