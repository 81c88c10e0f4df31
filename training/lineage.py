"""From a model to the incidents that taught it, by itself or by way of those it continued from."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ingest import schema
from ingest.database import slices
from ingest.errors import Unknown
from ingest.lineage import forgotten_ever, models_taught, name_of
from ingest.store import Store

COLUMNS = ("incident", "version", "first taught", "by dataset", "forgotten since")

_lesson, _model, _forgotten = schema.lesson, schema.model, schema.forgotten


@dataclass(frozen=True, slots=True)
class Lesson:
    """One incident that taught a model: its words stand in a row, as its subject or a precedent."""

    incident_id: str
    version: int  # the newest that the first dataset to teach it holds
    model: str  # the first in the line that was taught it
    dataset: str
    forgotten: bool


@dataclass(frozen=True, slots=True)
class Held:
    """One incident of a dataset; forgotten ones are known by their id alone."""

    incident_id: str
    version: int
    forgotten: bool


def lessons(store: Store, version: int) -> list[Lesson]:
    """Every incident that taught this model: its own first, then those of its parents, by id.

    What the offline base was taught is not among them: it is an invented world. Raises `Unknown`.
    """
    with store.reading() as connection:
        gone = forgotten_ever(connection)
        found: dict[str, Lesson] = {}
        line = _line(connection, version)
        for number, dataset in line:
            for id, newest in _newest(connection, dataset).items():
                known = Lesson(id, newest, name_of(number), dataset, id in gone)
                found.setdefault(id, known)
    age = {name_of(number): -place for place, (number, _) in enumerate(line)}
    return sorted(found.values(), key=lambda it: (age[it.model], it.incident_id))


def learners(store: Store, dataset: str) -> list[str]:
    """The models that this dataset taught, also by way of their parents; the oldest first."""
    with store.reading() as connection:
        return [name_of(version) for version in models_taught(connection, {dataset})]


def held(store: Store, dataset: str, *, after: str = "", limit: int = 50) -> list[Held]:
    """The incidents that this dataset teaches, by id, those that follow `after`."""
    newest = func.max(_lesson.c.version)
    some = (
        select(_lesson.c.incident_id, newest)
        .where(_lesson.c.dataset == dataset, _lesson.c.incident_id > after)
        .group_by(_lesson.c.incident_id)
        .order_by(_lesson.c.incident_id)
        .limit(limit)
    )
    with store.reading() as connection:
        rows = [(id, version) for id, version in connection.execute(some)]
        gone: set[str] = set()
        for part in slices([id for id, _ in rows]):
            among = _forgotten.c.incident_id.in_(part)
            gone |= set(connection.execute(select(_forgotten.c.incident_id).where(among)).scalars())
    return [Held(id, version, id in gone) for id, version in rows]


def as_csv(taught: Sequence[Lesson]) -> str:
    """A table of ids and versions; no word of an incident is in it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(cells(taught))
    return out.getvalue()


def cells(taught: Sequence[Lesson]) -> list[tuple[str, int, str, str, str]]:
    """The lessons as rows under `COLUMNS`."""
    return [
        (it.incident_id, it.version, it.model, it.dataset, "yes" if it.forgotten else "")
        for it in taught
    ]


def _line(connection: Connection, version: int) -> list[tuple[int, str]]:
    """(version, dataset) of this model and of all that it continued from, the oldest first."""
    kin = select(_model.c.version, _model.c.dataset, _model.c.parent)
    known: Mapping[int, tuple[str | None, int | None]] = {
        number: (dataset, parent) for number, dataset, parent in connection.execute(kin)
    }
    if version not in known:
        raise Unknown(f"there is no model {name_of(version)} here; `scarwise models` lists them")
    line: list[tuple[int, str]] = []
    at: int | None = version
    while at is not None:
        dataset, parent = known[at]
        if dataset:
            line.append((at, dataset))
        at = parent
    return line[::-1]


def _newest(connection: Connection, dataset: str) -> dict[str, int]:
    newest = select(_lesson.c.incident_id, func.max(_lesson.c.version)).group_by(
        _lesson.c.incident_id
    )
    rows = connection.execute(newest.where(_lesson.c.dataset == dataset))
    return {row[0]: row[1] for row in rows}
