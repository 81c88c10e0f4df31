"""One write transaction of the store, and what can be done to incidents in it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from ingest import schema
from ingest.audit import Act
from ingest.database import slices
from ingest.draft import Draft, drafts_of, safe_text
from ingest.errors import Refused, Unknown
from ingest.incident import Incident, check_clock, visible
from ingest.lineage import unlearn

_version, _change, _forgotten = schema.incident_version, schema.change, schema.forgotten
_END = (
    update(_version)
    .where(_version.c.incident_id == bindparam("of"), _version.c.version == bindparam("number"))
    .values(until=bindparam("end"))
)
_Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one incident given to `put`; quarantined is kept, but not found by search."""

    id: str
    version: int | None  # None when refused
    outcome: Literal["stored", "unchanged", "quarantined", "refused"]
    why: str | None = None  # it was refused


@dataclass
class Writing:
    """An open transaction: its acts and their audit rows commit together, or none does."""

    connection: Connection
    now: datetime
    redact_ips: bool
    acts: list[Act] = field(default_factory=list)
    forgot: bool = False

    def safe(self, text: str) -> str:
        """What a person wrote, redacted."""
        return safe_text(text, redact_ips=self.redact_ips)

    def record(self, act: str, subject: str, **detail: Any) -> None:
        """Let the trail say so when this transaction commits.

        The detail holds ids, counts and hashes, and a person's reason made `safe`; no other text.
        """
        self.acts.append(Act(act, subject, detail))

    def changed(self, steps: Sequence[tuple[str, int, str]]) -> list[int]:
        """Append these (id, version, kind) to the change feed; their places in it."""
        last = self.connection.execute(select(func.max(_change.c.seq))).scalar() or 0
        seqs = list(range(last + 1, last + 1 + len(steps)))
        rows = [
            {"seq": seq, "incident_id": id, "version": version, "kind": kind}
            for seq, (id, version, kind) in zip(seqs, steps, strict=True)
        ]
        self.connection.execute(insert(_change), rows)
        return seqs

    def here(self, keys: Collection[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those of these (id, version) that are kept."""
        found: set[tuple[str, int]] = set()
        for some in slices(list(keys)):
            both = select(_version.c.incident_id, _version.c.version)
            rows = self.connection.execute(both.where(schema.keyed(_version, some)))
            found |= {(id, version) for id, version in rows}
        return found

    def put(self, incidents: Sequence[Incident]) -> list[Receipt]:
        """What became of each, in order: a new version, nothing new, or a refusal and why.

        Other writers wait while these are redacted; for many, `keep` the `drafts_of` them.
        """
        return self.keep(drafts_of(incidents, redact_ips=self.redact_ips))

    def keep(self, drafts: Sequence[Draft]) -> list[Receipt]:
        """What became of each draft, in order: a new version, nothing new, or a refusal and why."""
        ids = list({d.id for d in drafts})
        forgotten, latest = forgotten_at(self.connection, ids), self._latest(ids)
        before, fresh, receipts = list(latest.values()), list[_Row](), list[Receipt]()
        for draft in drafts:
            why = _why_not(draft, forgotten.get(draft.id), self.now)
            current = latest.get(draft.id)
            if why:
                receipts.append(Receipt(draft.id, None, "refused", why))
            elif current and current["content_hash"] == draft.content_hash:
                receipts.append(Receipt(draft.id, current["version"], "unchanged"))
            else:
                row = latest[draft.id] = _next_version(draft, current, self.now)
                fresh.append(row)
                receipts.append(Receipt(draft.id, row["version"], _outcome(row)))
        self._write(fresh, superseded=[row for row in before if row["until"]])
        return receipts

    def release(self, id: str, *, reason: str) -> None:
        """Let every quarantined version of it be found. Raises `Unknown`."""
        id = visible(id)
        of_it = _version.c.incident_id == id
        found = self.connection.execute(select(_version.c.version, _version.c.trust).where(of_it))
        trust = {row.version: row.trust for row in found}
        if not trust:
            raise no_such(self.connection, id)
        held = sorted(version for version in trust if trust[version] == "quarantined")
        if not held:
            return
        freed = update(_version).where(of_it).values(trust="trusted", quarantine=[])
        self.connection.execute(freed)
        self.changed([(id, version, "trust") for version in held])
        self.record("incident.released", id, versions=held, reason=self.safe(reason))

    def forget(self, id: str, *, reason: str) -> None:
        """Delete every version of it, and what was said, shown or computed of it, for good.

        Datasets that teach it are withdrawn, and models that it taught are tainted. Only its id
        stays: in the trail, in the feed, in what taught it, and among those that are not taken
        again. Nothing happens when it was forgotten before; raises `Unknown` when it never was
        here.
        """
        id = visible(id)
        if forgotten_at(self.connection, [id]):
            return
        numbers = select(_version.c.version).where(_version.c.incident_id == id)
        versions = sorted(self.connection.execute(numbers).scalars())
        if not versions:
            raise no_such(self.connection, id)
        replies = schema.idempotency
        # Verdicts, citations, vectors and an embargo go by cascade.
        self.connection.execute(delete(_version).where(_version.c.incident_id == id))
        # First the new step: a place in the feed that was read must not be given out again.
        [place] = self.changed([(id, versions[-1], "forget")])
        earlier = (_change.c.incident_id == id) & (_change.c.seq < place)
        self.connection.execute(delete(_change).where(earlier))
        self.connection.execute(delete(replies).where(replies.c.response.contains(id)))
        self.connection.execute(insert(_forgotten).values(incident_id=id, at=self.now))
        self.record("incident.forgotten", id, versions=len(versions), reason=self.safe(reason))
        self.acts += unlearn(self.connection, id, self.now)
        self.forgot = True

    def _latest(self, ids: Sequence[str]) -> dict[str, _Row]:
        c = _version.c
        columns = select(c.incident_id, c.version, c.content_hash, c.known_at, c.until)
        latest: dict[str, _Row] = {}
        for some in slices(ids):
            current = columns.where(c.incident_id.in_(some), c.until.is_(None))
            rows = self.connection.execute(current).mappings()
            latest |= {row["incident_id"]: dict(row) for row in rows}
        return latest

    def _write(self, fresh: Sequence[_Row], *, superseded: Sequence[_Row]) -> None:
        if not fresh:
            return
        seqs = self.changed([(row["incident_id"], row["version"], "put") for row in fresh])
        rows = [{**row, "seq": seq} for row, seq in zip(fresh, seqs, strict=True)]
        self.connection.execute(insert(_version), rows)
        if superseded:
            ends = [
                {"of": row["incident_id"], "number": row["version"], "end": row["until"]}
                for row in superseded
            ]
            self.connection.execute(_END, ends)
        for row in fresh:
            self.record(
                f"incident.{_outcome(row)}",
                row["incident_id"],
                version=row["version"],
                content_hash=row["content_hash"],
                redactions=row["redactions"],
            )


def forgotten_at(connection: Connection, ids: Sequence[str]) -> dict[str, datetime]:
    """When these were forgotten; those that were not are left out."""
    gone: dict[str, datetime] = {}
    for some in slices(ids):
        named = select(_forgotten).where(_forgotten.c.incident_id.in_(some))
        gone |= {row.incident_id: row.at for row in connection.execute(named)}
    return gone


def no_such(connection: Connection, id: str) -> Unknown:
    """The error that says whether this incident was forgotten, or never here."""
    gone = forgotten_at(connection, [id]).get(id)
    if gone:
        return Unknown(f"incident {id} was forgotten on {gone:%Y-%m-%d}")
    return Unknown(f"there is no incident {id!r} here; `scarwise incidents list` shows which are")


def service_lines(services: Iterable[str]) -> str:
    """These names as one text in which a pattern finds one of them, whatever its case."""
    names = [" ".join(name.casefold().split()) for name in services]
    return "\n".join(["", *names, ""])


def _why_not(draft: Draft, forgotten: datetime | None, now: datetime) -> str | None:
    if forgotten:
        return (
            f"incident {draft.id} was forgotten on {forgotten:%Y-%m-%d} and is not taken again; "
            "what is not the same incident needs another source_id"
        )
    try:
        check_clock(draft.incident, now)
    except Refused as error:
        return str(error)
    return None


def _outcome(row: _Row) -> Literal["stored", "quarantined"]:
    return "quarantined" if row["quarantine"] else "stored"


def _next_version(draft: Draft, before: _Row | None, now: datetime) -> _Row:
    """The row that follows `before`, which ends where this one begins to be known."""
    known_at = draft.known_at(before["known_at"] if before else None, now)
    if before:
        before["until"] = known_at
    return {
        "incident_id": draft.id,
        "version": before["version"] + 1 if before else 1,
        "source": draft.incident.source,
        "services": service_lines(draft.incident.services),
        "began_at": draft.incident.started_at or known_at,
        "known_at": known_at,
        "until": None,
        "recorded_at": now,
        "trust": "quarantined" if draft.quarantine else "trusted",
        "quarantine": draft.quarantine,
        "redactions": draft.redactions,
        "content_hash": draft.content_hash,
        "document": draft.document,
    }
