"""What the learning loop keeps: cases under embargo, datasets, lessons, models, retrainings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    lessons()
    models()
    retrainings()


def lessons() -> None:
    op.create_table(
        "embargo",
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("family", sa.Text(), nullable=False),
        sa.Column("era", sa.Integer(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("suite", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("incident_id", name="pk_embargo"),
        sa.ForeignKeyConstraint(
            ["incident_id", "version"],
            ["incident_version.incident_id", "incident_version.version"],
            name="fk_embargo_incident_version",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_embargo_incident_id_version", "embargo", ["incident_id", "version"])
    op.create_table(
        "dataset",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("withdrawn_at", _MOMENT),
        sa.PrimaryKeyConstraint("name", name="pk_dataset"),
    )
    op.create_table(
        "lesson",
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("dataset", "incident_id", "version", name="pk_lesson"),
        sa.ForeignKeyConstraint(["dataset"], ["dataset.name"], name="fk_lesson_dataset"),
    )
    op.create_index("ix_lesson_incident_id", "lesson", ["incident_id"])


def models() -> None:
    op.create_table(
        "model",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text()),
        sa.Column("base_hash", sa.Text(), nullable=False),
        sa.Column("prompt_hash", sa.Text(), nullable=False),
        sa.Column("adapter_sha256", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Text()),
        sa.Column("verdict", sa.Text()),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("parent", sa.Integer()),
        sa.Column("tainted", sa.JSON(), nullable=False),
        sa.Column("promoted_at", _MOMENT),
        sa.PrimaryKeyConstraint("version", name="pk_model"),
        sa.ForeignKeyConstraint(["dataset"], ["dataset.name"], name="fk_model_dataset"),
        sa.ForeignKeyConstraint(["parent"], ["model.version"], name="fk_model_model"),
    )
    op.create_index("ix_model_adapter_sha256", "model", ["adapter_sha256"], unique=True)
    pointer = op.create_table(
        "pointer",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("champion", sa.Integer()),
        sa.Column("earlier", sa.JSON(), nullable=False),
        sa.Column("challenger", sa.Integer()),
        sa.Column("frozen", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pointer"),
        sa.ForeignKeyConstraint(["champion"], ["model.version"], name="fk_pointer_champion"),
        sa.ForeignKeyConstraint(["challenger"], ["model.version"], name="fk_pointer_challenger"),
        sa.CheckConstraint("id = 1", name=op.f("ck_pointer_only_one")),
    )
    op.bulk_insert(pointer, [{"id": 1, "earlier": [], "frozen": False, "revision": 0}])


def retrainings() -> None:
    op.create_table(
        "retraining",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_retraining"),
    )
