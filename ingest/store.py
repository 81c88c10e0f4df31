"""The system of record: every version of every incident, and the feed of what changed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, func, literal, select, tuple_

from ingest import audit, schema
from ingest.database import Database, open_database, slices
from ingest.draft import drafts_of, safe_id, safe_text
from ingest.errors import Unknown
from ingest.incident import Incident, Trust, as_kept, visible
from ingest.writing import Receipt, Writing, no_such, service_lines

__all__ = ["Change", "Receipt", "Store", "Stored", "Writing", "utcnow"]

_version, _change = schema.incident_version, schema.change


@dataclass(frozen=True, slots=True)
class Stored:
    """One version as kept: redacted, and what was known from `incident.known_at` to `until`."""

    incident: Incident
    seq: int
    content_hash: str
    redactions: dict[str, int]
    until: datetime | None
    quarantine: list[str]


@dataclass(frozen=True, slots=True)
class Change:
    """One step of the feed that the index follows."""

    seq: int
    incident_id: str
    version: int
    kind: Literal["put", "trust", "forget", "feedback"]


def utcnow() -> datetime:
    return datetime.now(UTC)


class Store:
    """The system of record; safe to share between threads, and its database between processes."""

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime], redact_ips: bool
    ) -> None:
        self.clock = clock
        self.redact_ips = redact_ips
        self._database = database

    @classmethod
    def open(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime] = utcnow,
        redact_ips: bool = False,
        busy_timeout_s: float = 5.0,
    ) -> "Store":
        """The store at `url`, `sqlite:////path/to/file.db` or `postgresql://user@host/name`.

        Made, with its folder, when it is not there; brought to this version's tables when an
        older one made it. Raises `Refused` for any other URL, `Unavailable` for a database that
        cannot be used.
        """
        database = open_database(url, busy_timeout_s=busy_timeout_s)
        return cls(database, clock=clock, redact_ips=redact_ips)

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def reading(self) -> AbstractContextManager[Connection]:
        """A snapshot to read from: every statement in it sees the same moment."""
        return self._database.reading()

    def alone(self, what: str) -> AbstractContextManager[bool]:
        """Whether nobody else does `what` on this PostgreSQL meanwhile; SQLite has one machine,
        where a lock file does this."""
        return self._database.alone(what)

    @contextmanager
    def transaction(self, actor: str) -> Iterator[Writing]:
        """A transaction, the only one: what is done in it and its audit rows commit at the end.

        Whatever is raised inside rolls all of it back. Other writers wait meanwhile.
        """
        actor = safe_text(actor)
        with self._database.writing() as connection:
            audit.hold(connection)
            writing = Writing(connection, self.clock(), self.redact_ips)
            yield writing
            audit.append(connection, writing.acts, actor=actor, at=writing.now)
        if writing.forgot:
            self._database.sweep()

    def put(self, incidents: Sequence[Incident], *, actor: str) -> list[Receipt]:
        """Keep these, redacted, judged and numbered; what became of each, in order.

        Durable when this returns. One that is refused keeps no other from being kept.
        """
        drafts = drafts_of(incidents, redact_ips=self.redact_ips)
        with self.transaction(actor) as writing:
            return writing.keep(drafts)

    def release(self, id: str, *, actor: str, reason: str) -> None:
        """Let every quarantined version of it be found. Raises `Unknown`."""
        with self.transaction(actor) as writing:
            writing.release(id, reason=reason)

    def forget(self, id: str, *, actor: str, reason: str) -> None:
        """Delete it, and what was said, shown or computed of it, for good. Raises `Unknown`."""
        with self.transaction(actor) as writing:
            writing.forget(id, reason=reason)

    def get(self, id: str, *, as_of: datetime | None = None) -> Stored:
        """The current version, or the one that was known just before `as_of`. Raises `Unknown`."""
        id = visible(id)
        standing = select(_version).where(_version.c.incident_id == id, _standing(as_of))
        with self.reading() as connection:
            row = connection.execute(standing).one_or_none()
            if row is None:
                raise _not_known(connection, id, as_of)
            return _stored(row)

    def find(self, source: str, source_id: str) -> Stored | None:
        """The current version of what this source calls so."""
        id = safe_id(source, source_id, redact_ips=self.redact_ips)
        current = select(_version).where(_version.c.incident_id == id, _standing(None))
        with self.reading() as connection:
            row = connection.execute(current).one_or_none()
            return _stored(row) if row else None

    def versions(self, id: str) -> list[Stored]:
        """Every version of it, the oldest first; none when it is not here."""
        of_it = select(_version).where(_version.c.incident_id == visible(id))
        with self.reading() as connection:
            return [_stored(r) for r in connection.execute(of_it.order_by(_version.c.version))]

    def many(self, keys: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Stored]:
        """These (id, version); those that are not here are left out."""
        found: dict[tuple[str, int], Stored] = {}
        with self.reading() as connection:
            for some in slices(keys):
                named = select(_version).where(schema.keyed(_version, some))
                for row in connection.execute(named):
                    found[row.incident_id, row.version] = _stored(row)
        return found

    def page(
        self,
        *,
        after: str | None = None,
        limit: int = 50,
        service: str | None = None,
        trust: Trust | None = None,
        source: str | None = None,
        as_of: datetime | None = None,
    ) -> list[Stored]:
        """Incidents, the newest start first (or, where none is told, when it was known).

        `after` is the last id of the page before; raises `Unknown` when that one is gone.
        """
        began_at, id = _version.c.began_at, _version.c.incident_id
        listed = select(_version).where(_standing(as_of), *_matching(service, trust, source))
        listed = listed.order_by(began_at.desc(), id.desc()).limit(limit)
        with self.reading() as connection:
            if after is not None:
                listed = listed.where(tuple_(began_at, id) < _place(connection, after, as_of))
            return [_stored(row) for row in connection.execute(listed)]

    def count(self) -> dict[str, int]:
        """How many incidents, versions, quarantined incidents and standing verdicts there are."""
        said = schema.feedback
        current = select(func.count()).select_from(_version).where(_standing(None))
        asked = select(
            current.scalar_subquery().label("incidents"),
            select(func.count()).select_from(_version).scalar_subquery().label("versions"),
            current.where(_version.c.trust == "quarantined").scalar_subquery().label("quarantined"),
            select(func.count())
            .select_from(said)
            .where(said.c.withdrawn_at.is_(None))
            .scalar_subquery()
            .label("feedback"),
        )
        with self.reading() as connection:
            return dict(connection.execute(asked).mappings().one())

    def changes(self, after: int, limit: int = 500) -> list[Change]:
        """The feed beyond `after`, in order."""
        beyond = select(_change).where(_change.c.seq > after).order_by(_change.c.seq).limit(limit)
        with self.reading() as connection:
            return [Change(*row) for row in connection.execute(beyond)]

    def head(self) -> int:
        """Where the feed ends; 0 while it is empty."""
        with self.reading() as connection:
            return connection.execute(select(func.max(_change.c.seq))).scalar() or 0


def _standing(as_of: datetime | None) -> ColumnElement[bool]:
    """The one version of each incident that stands now, or stood at `as_of`."""
    if as_of is None:
        return _version.c.until.is_(None)
    return (_version.c.known_at < as_of) & (
        _version.c.until.is_(None) | (_version.c.until >= as_of)
    )


def _matching(
    service: str | None, trust: Trust | None, source: str | None
) -> Iterator[ColumnElement[bool]]:
    if service is not None:
        line = service_lines([visible(service)])
        yield _version.c.services.contains(line, autoescape=True)
    if trust is not None:
        yield _version.c.trust == trust
    if source is not None:
        yield _version.c.source == visible(source)


def _place(connection: Connection, id: str, as_of: datetime | None) -> ColumnElement[Any]:
    """Where in a page this incident is."""
    id = visible(id)
    place = select(_version.c.began_at).where(_version.c.incident_id == id, _standing(as_of))
    began_at = connection.execute(place).scalar()
    if began_at is None:
        raise _not_known(connection, id, as_of)
    return tuple_(literal(began_at, schema.Moment), literal(id))


def _not_known(connection: Connection, id: str, as_of: datetime | None) -> Unknown:
    known = select(_version.c.version).where(_version.c.incident_id == id).limit(1)
    if as_of and connection.execute(known).first():
        return Unknown(f"incident {id} was not known before {as_of.isoformat()}")
    return no_such(connection, id)


def _stored(row: Row[Any]) -> Stored:
    incident = as_kept(
        row.document,
        id=row.incident_id,
        version=row.version,
        trust=row.trust,
        known_at=row.known_at,
        recorded_at=row.recorded_at,
    )
    return Stored(
        incident=incident,
        seq=row.seq,
        content_hash=row.content_hash,
        redactions=row.redactions,
        until=row.until,
        quarantine=row.quarantine,
    )
