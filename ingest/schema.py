"""The tables of the system of record; their history is Alembic's, in `migrations/`.

A test holds this file and the migrations to the same schema, on SQLite and on PostgreSQL.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    tuple_,
)

REVISION = "0002"  # the newest migration: a database that says so is opened without Alembic


class Moment(TypeDecorator[datetime]):
    """A point in time, UTC; without an offset it is read as UTC, and it comes back with one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        at = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return at.replace(tzinfo=None) if dialect.name == "sqlite" else at

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        at: datetime = value
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _of_a_version() -> ForeignKeyConstraint:
    """What hangs on an incident's version goes with it when the incident is forgotten."""
    return ForeignKeyConstraint(
        ["incident_id", "version"],
        ["incident_version.incident_id", "incident_version.version"],
        ondelete="CASCADE",
    )


def keyed(table: Table, keys: Sequence[tuple[str, int]]) -> ColumnElement[bool]:
    """The rows of these (incident_id, version)."""
    # SQLite uses no index for pairs, so the ids are named alone too.
    ids = table.c.incident_id.in_({id for id, _ in keys})
    return ids & tuple_(table.c.incident_id, table.c.version).in_(keys)


incident_version = Table(
    "incident_version",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("services", Text, nullable=False),  # casefolded, one a line: what a page filters on
    Column("began_at", Moment, nullable=False),  # started_at, else known_at: what a page sorts by
    Column("known_at", Moment, nullable=False),
    Column("until", Moment),  # known_at of the next version; null = current
    Column("recorded_at", Moment, nullable=False),
    Column("trust", Text, nullable=False),
    Column("quarantine", JSON, nullable=False),
    Column("redactions", JSON, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("document", JSON, nullable=False),
)
_current = incident_version.c.until.is_(None)
Index(
    "ix_incident_version_current",
    incident_version.c.began_at,
    incident_version.c.incident_id,
    sqlite_where=_current,
    postgresql_where=_current,
)

change = Table(
    "change",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("incident_id", Text, nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("kind", Text, nullable=False),
)

# An id is a hash of source and source_id, so this remembers an incident without knowing it.
forgotten = Table(
    "forgotten",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("at", Moment, nullable=False),
)

# Not named "vector": PostgreSQL's extension of that name needs the word for its type.
embedding = Table(
    "embedding",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("model_id", Text, primary_key=True),
    Column("content_hash", Text, nullable=False),
    Column("vectors", LargeBinary, nullable=False),
    Column("tokens", LargeBinary, nullable=False),
    Column("meta", Text, nullable=False),
    _of_a_version(),
)

query = Table(
    "query",
    metadata,
    Column("query_id", Text, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("services", JSON, nullable=False),
    Column("as_of", Moment),
    Column("status", Text, nullable=False),
    Column("took_ms", Float, nullable=False),
)

answer = Table(
    "answer",
    metadata,
    Column("query_id", Text, ForeignKey("query.query_id", ondelete="CASCADE"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("score", Float, nullable=False),
    _of_a_version(),
    Index("ix_answer_incident_id_version", "incident_id", "version"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Text, primary_key=True),
    Column("incident_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("query_id", Text, ForeignKey("query.query_id"), index=True),
    Column("verdict", Text, nullable=False),
    Column("note", Text),
    Column("who", Text),
    Column("at", Moment, nullable=False),
    Column("withdrawn_at", Moment),
    _of_a_version(),
    Index("ix_feedback_incident_id_version", "incident_id", "version"),
)

token = Table(
    "token",
    metadata,
    Column("name", Text, primary_key=True),
    Column("scopes", JSON, nullable=False),
    Column("sha256", Text, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("revoked_at", Moment),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_sha256", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("response", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
)

# A case is an evaluation case first: while it is here, neither it nor a near-copy is trained on.
embargo = Table(
    "embargo",
    metadata,
    Column("incident_id", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("family", Text, nullable=False),
    Column("era", Integer, nullable=False),
    Column("slice", Text, nullable=False),
    Column("suite", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    _of_a_version(),
    Index("ix_embargo_incident_id_version", "incident_id", "version"),
)

dataset = Table(
    "dataset",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("withdrawn_at", Moment),  # it taught what was forgotten since: its files go
)

# Does not go with the incident: that an adapter was taught it must be known after it is forgotten.
lesson = Table(
    "lesson",
    metadata,
    Column("dataset", Text, ForeignKey("dataset.name"), primary_key=True),
    Column("incident_id", Text, primary_key=True, index=True),
    Column("version", Integer, primary_key=True),
)

model = Table(
    "model",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Moment, nullable=False),
    Column("kind", Text, nullable=False),
    Column("dataset", Text, ForeignKey("dataset.name")),
    Column("base_hash", Text, nullable=False),
    Column("prompt_hash", Text, nullable=False),
    Column("adapter_sha256", Text, nullable=False),
    Column("folder", Text, nullable=False),  # relative to the data folder
    Column("run_id", Text),
    Column("verdict", Text),  # the gate's; null = not judged yet
    Column("report", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("parent", Integer, ForeignKey("model.version")),  # the adapter it continued from
    Column("tainted", JSON, nullable=False),  # ids of incidents that it was taught and must forget
    Column("promoted_at", Moment),
    Index("ix_model_adapter_sha256", "adapter_sha256", unique=True),
)

pointer = Table(
    "pointer",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("champion", Integer),  # null = the base itself
    Column("earlier", JSON, nullable=False),  # the champions before, the latest last
    Column("challenger", Integer),
    Column("frozen", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    ForeignKeyConstraint(["champion"], ["model.version"], name="fk_pointer_champion"),
    ForeignKeyConstraint(["challenger"], ["model.version"], name="fk_pointer_challenger"),
    CheckConstraint("id = 1", name="only_one"),
)

retraining = Table(
    "retraining",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("started_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    Column("step", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("outcome", Text),  # null while it goes on
)

# Text and nothing richer, also for the time and the detail: what is hashed is what is kept, byte
# for byte, in both databases. Triggers refuse UPDATE and DELETE (see the migration).
audit = Table(
    "audit",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("subject", Text, nullable=False, index=True),
    Column("detail", Text, nullable=False),
    Column("prev_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("hash", Text, nullable=False),
    CheckConstraint("id = 1", name="only_one"),
)
