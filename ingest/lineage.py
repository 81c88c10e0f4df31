"""What an incident taught, and what becomes of that when the incident is forgotten."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, select, update

from ingest.audit import Act
from ingest.schema import dataset, forgotten, lesson, model


def name_of(version: int) -> str:
    """What a model is called: `diag-v7`."""
    return f"diag-v{version}"


def datasets_teaching(connection: Connection, incident_id: str) -> set[str]:
    """The datasets that hold any version of this incident."""
    holding = select(lesson.c.dataset).distinct().where(lesson.c.incident_id == incident_id)
    return set(connection.execute(holding).scalars())


def models_taught(connection: Connection, datasets: Collection[str]) -> list[int]:
    """The models that any of these taught, or taught one that they continued from; in order."""
    kin = select(model.c.version, model.c.dataset, model.c.parent).order_by(model.c.version)
    taught: list[int] = []
    for version, own, parent in connection.execute(kin):  # a parent is older than its child
        if own in datasets or parent in taught:
            taught.append(version)
    return taught


def forgotten_lessons(connection: Connection, name: str) -> list[str]:
    """The incidents that this dataset teaches and that were forgotten; sorted."""
    gone = select(lesson.c.incident_id).join(
        forgotten, forgotten.c.incident_id == lesson.c.incident_id
    )
    return sorted(connection.execute(gone.where(lesson.c.dataset == name).distinct()).scalars())


def forgotten_ever(connection: Connection) -> set[str]:
    """The incidents that were ever forgotten."""
    return set(connection.execute(select(forgotten.c.incident_id)).scalars())


def unlearn(connection: Connection, incident_id: str, now: datetime) -> list[Act]:
    """Withdraw every dataset that holds this incident and taint every model that it taught.

    The acts are the caller's to record, in the transaction of the forgetting.
    """
    datasets = datasets_teaching(connection, incident_id)
    return [
        *_withdraw(connection, datasets, incident_id, now),
        *_taint(connection, models_taught(connection, datasets), incident_id),
    ]


def _withdraw(
    connection: Connection, names: Collection[str], incident_id: str, now: datetime
) -> list[Act]:
    standing = dataset.c.name.in_(names) & dataset.c.withdrawn_at.is_(None)
    chosen = select(dataset.c.name).where(standing).order_by(dataset.c.name)
    withdrawn = list(connection.execute(chosen).scalars())
    connection.execute(update(dataset).where(standing).values(withdrawn_at=now))
    return [Act("dataset.withdrawn", name, {"incident": incident_id}) for name in withdrawn]


def _taint(connection: Connection, versions: Collection[int], incident_id: str) -> list[Act]:
    acts = []
    held = select(model.c.version, model.c.tainted).where(model.c.version.in_(versions))
    for version, tainted in connection.execute(held.order_by(model.c.version)).all():
        if incident_id in tainted:
            continue
        it = update(model).where(model.c.version == version)
        connection.execute(it.values(tainted=[*tainted, incident_id]))
        detail = {"version": version, "incident": incident_id}
        acts.append(Act("model.tainted", name_of(version), detail))
    return acts
