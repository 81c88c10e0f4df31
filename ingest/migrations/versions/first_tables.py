"""The first tables, and the triggers that keep the audit trail as it was written."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_GENESIS = "0" * 64

_REFUSE = "SELECT RAISE(ABORT, 'audit rows are never changed')"
_SQLITE_TRIGGERS = [
    f"CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit BEGIN {_REFUSE}; END",
    f"CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit BEGIN {_REFUSE}; END",
    # INSERT OR REPLACE deletes without asking the trigger above.
    f"CREATE TRIGGER audit_refuses_replace BEFORE INSERT ON audit BEGIN {_REFUSE} "
    "WHERE EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq); END",
]
_POSTGRES_TRIGGERS = [
    "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'audit rows are never changed'; END $$",
    "CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR DELETE ON audit "
    "FOR EACH ROW EXECUTE FUNCTION audit_refuses()",
    "CREATE TRIGGER audit_refuses_truncate BEFORE TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()",
]


def upgrade() -> None:
    incidents()
    answers()
    doors()
    audit()


def incidents() -> None:
    op.create_table(
        "incident_version",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("services", sa.Text(), nullable=False),
        sa.Column("began_at", _MOMENT, nullable=False),
        sa.Column("known_at", _MOMENT, nullable=False),
        sa.Column("until", _MOMENT),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.Column("trust", sa.Text(), nullable=False),
        sa.Column("quarantine", sa.JSON(), nullable=False),
        sa.Column("redactions", sa.JSON(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "version", name="pk_incident_version"),
    )
    current = sa.text("until IS NULL")
    op.create_index(
        "ix_incident_version_current",
        "incident_version",
        ["began_at", "incident_id"],
        sqlite_where=current,
        postgresql_where=current,
    )
    op.create_table(
        "change",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_change"),
    )
    op.create_index("ix_change_incident_id", "change", ["incident_id"])
    op.create_table(
        "forgotten",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="pk_forgotten"),
    )
    op.create_table(
        "embedding",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model_id", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("vectors", sa.LargeBinary(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=False),
        sa.Column("meta", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("incident_id", "version", "model_id", name="pk_embedding"),
        _of_a_version("embedding"),
    )


def answers() -> None:
    op.create_table(
        "query",
        sa.Column("query_id", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("services", sa.JSON(), nullable=False),
        sa.Column("as_of", _MOMENT),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("took_ms", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("query_id", name="pk_query"),
    )
    op.create_index("ix_query_at", "query", ["at"])
    op.create_table(
        "answer",
        sa.Column("query_id", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("query_id", "rank", name="pk_answer"),
        sa.ForeignKeyConstraint(
            ["query_id"], ["query.query_id"], name="fk_answer_query", ondelete="CASCADE"
        ),
        _of_a_version("answer"),
    )
    op.create_index("ix_answer_incident_id_version", "answer", ["incident_id", "version"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("query_id", sa.Text()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("who", sa.Text()),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("withdrawn_at", _MOMENT),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sa.ForeignKeyConstraint(["query_id"], ["query.query_id"], name="fk_feedback_query"),
        _of_a_version("feedback"),
    )
    op.create_index("ix_feedback_query_id", "feedback", ["query_id"])
    op.create_index("ix_feedback_incident_id_version", "feedback", ["incident_id", "version"])


def doors() -> None:
    op.create_table(
        "token",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("revoked_at", _MOMENT),
        sa.PrimaryKeyConstraint("name", name="pk_token"),
    )
    op.create_index("ix_token_sha256", "token", ["sha256"])
    op.create_table(
        "idempotency",
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key_sha256", "route", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_at", "idempotency", ["at"])


def audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_subject", "audit", ["subject"])
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_only_one")),
    )
    op.bulk_insert(head, [{"id": 1, "count": 0, "hash": _GENESIS}])
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    for trigger in _SQLITE_TRIGGERS if on_sqlite else _POSTGRES_TRIGGERS:
        op.execute(trigger)


def _of_a_version(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["incident_id", "version"],
        ["incident_version.incident_id", "incident_version.version"],
        name=f"fk_{table}_incident_version",
        ondelete="CASCADE",
    )
