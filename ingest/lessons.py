"""What may be learned and what was: cases under embargo, exported datasets, and their lessons."""

import logging
import re
import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import insert, select

from ingest import schema
from ingest.database import slices
from ingest.errors import Conflict, Refused, Unknown
from ingest.incident import visible
from ingest.lineage import datasets_teaching
from ingest.store import Store
from ingest.writing import Writing, forgotten_at

log = logging.getLogger(__name__)

# Nothing that leads out of the folder of datasets, which is removed by name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_embargo, _dataset, _lesson, _model = schema.embargo, schema.dataset, schema.lesson, schema.model
_version = schema.incident_version


@dataclass(frozen=True, slots=True)
class Embargoed:
    """One case of the suite: evaluated on, so neither it nor a near-copy is ever trained on."""

    incident_id: str
    version: int
    family: str
    era: int
    slice: Literal["dev", "gate"]
    suite: int


@dataclass(frozen=True, slots=True)
class KeptDataset:
    """One export; once it is withdrawn, an incident that it teaches was forgotten."""

    name: str
    at: datetime
    manifest: dict[str, Any]
    withdrawn_at: datetime | None


def embargoed(store: Store) -> dict[str, Embargoed]:
    """Every case that is under embargo, by its incident's id."""
    c = _embargo.c
    every = select(c.incident_id, c.version, c.family, c.era, c.slice, c.suite)
    with store.reading() as connection:
        rows = connection.execute(every.order_by(c.incident_id))
        return {row.incident_id: Embargoed(*row) for row in rows}


def embargo(writing: Writing, cases: Sequence[Embargoed]) -> None:
    """Put these under embargo; one that is already keeps the embargo it has.

    Raises `Unknown` when a case is not kept here, `Conflict` when a model was taught it.
    """
    fresh = _not_yet(writing, cases)
    if not fresh:
        return
    keys = {(case.incident_id, case.version) for case in fresh}
    if gone := keys - writing.here(keys):
        id, version = min(gone)
        raise Unknown(f"incident {id} has no version {version} here; freeze the suite again")
    _refuse_the_learned(writing, [case.incident_id for case in fresh])
    rows = [{**asdict(case), "at": writing.now} for case in fresh]
    writing.connection.execute(insert(_embargo), rows)
    for suite in sorted({case.suite for case in fresh}):
        told = [case for case in fresh if case.suite == suite]
        eras = sorted({case.era for case in told})
        dev = sum(case.slice == "dev" for case in told)
        writing.record("suite.frozen", f"suite-v{suite}", cases=len(told), dev=dev, eras=eras)


def register_dataset(
    writing: Writing, name: str, manifest: dict[str, Any], lessons: Sequence[tuple[str, int]]
) -> None:
    """Remember that this dataset teaches these (incident id, version); again, nothing happens.

    `lessons` names every incident whose words stand in a row, as its subject or as a precedent.
    Raises `Refused` for a name that could not be a folder's, `Conflict` when a lesson was
    forgotten or put under embargo since the export read it, or the dataset was withdrawn.
    """
    if not _NAME.fullmatch(name):
        raise Refused(f"{visible(name)!r} cannot name a dataset; use letters, digits, - and _")
    connection = writing.connection
    before = connection.execute(select(_dataset).where(_dataset.c.name == name)).one_or_none()
    if before and before.withdrawn_at is None:
        return
    ids = sorted({id for id, _ in lessons})
    gone = forgotten_at(connection, ids)
    if before or gone:
        which = f"incident {min(gone)}" if gone else "an incident that it teaches"
        raise Conflict(f"dataset {name}: {which} was forgotten; export again")
    _refuse_cases(writing, name, ids)
    row = {"name": name, "at": writing.now, "manifest": manifest}
    connection.execute(insert(_dataset).values(**row))
    rows = [{"dataset": name, "incident_id": i, "version": v} for i, v in sorted(set(lessons))]
    if rows:
        connection.execute(insert(_lesson), rows)
    writing.record("dataset.exported", name, incidents=len(ids), lessons=len(rows))


def datasets(store: Store) -> list[KeptDataset]:
    """Every dataset that was exported, withdrawn ones too; the oldest first."""
    every = select(_dataset).order_by(_dataset.c.at, _dataset.c.name)
    with store.reading() as connection:
        return [KeptDataset(**row._mapping) for row in connection.execute(every)]


def taught(store: Store, dataset: str) -> set[str]:
    """The ids of the incidents that this dataset teaches."""
    ids = select(_lesson.c.incident_id).distinct().where(_lesson.c.dataset == dataset)
    with store.reading() as connection:
        return set(connection.execute(ids).scalars())


def unlearned(store: Store, known: Collection[str]) -> list[tuple[str, int]]:
    """The (id, version) of every trusted incident that stands now and is not among `known`."""
    c = _version.c
    standing = select(c.incident_id, c.version).where(c.until.is_(None), c.trust == "trusted")
    with store.reading() as connection:
        return [(id, version) for id, version in connection.execute(standing) if id not in known]


def lessons_of(store: Store, incident_id: str) -> list[str]:
    """The datasets that teach this incident, by name; also after it was forgotten."""
    with store.reading() as connection:
        return sorted(datasets_teaching(connection, visible(incident_id)))


def remove_withdrawn(store: Store, folder: Path) -> list[str]:
    """Delete the folders of withdrawn datasets in `folder`; the names of those that are gone now.

    May be cut off and run again at any time. One that cannot be deleted is logged, and tried
    again by the next call.
    """
    removed = []
    for kept in datasets(store):
        place = folder / kept.name
        if kept.withdrawn_at is None or not place.exists():
            continue
        try:
            shutil.rmtree(place)
        except OSError as error:
            log.error("dataset.not_removed name=%s why=%r", kept.name, str(error))
            continue
        removed.append(kept.name)
    return removed


def _not_yet(writing: Writing, cases: Sequence[Embargoed]) -> list[Embargoed]:
    by_id = {case.incident_id: case for case in cases}
    held: set[str] = set()
    for some in slices(list(by_id)):
        named = select(_embargo.c.incident_id).where(_embargo.c.incident_id.in_(some))
        held |= set(writing.connection.execute(named).scalars())
    return [case for id, case in by_id.items() if id not in held]


def _refuse_the_learned(writing: Writing, ids: Sequence[str]) -> None:
    for some in slices(ids):
        known = select(_lesson.c.incident_id, _lesson.c.dataset).where(
            _lesson.c.incident_id.in_(some), _lesson.c.dataset.in_(_teaching())
        )
        if row := writing.connection.execute(known.limit(1)).one_or_none():
            raise Conflict(
                f"incident {row.incident_id} was taught by {row.dataset}, so it proves nothing as "
                "a case; choose one that no model has learned"
            )


def _refuse_cases(writing: Writing, name: str, ids: Sequence[str]) -> None:
    for some in slices(ids):
        named = select(_embargo.c.incident_id).where(_embargo.c.incident_id.in_(some))
        if case := writing.connection.execute(named.limit(1)).scalar():
            raise Conflict(
                f"dataset {name} teaches {case}, which is a case of the suite; export again"
            )


def _teaching() -> Any:
    return select(_model.c.dataset).where(_model.c.dataset.is_not(None))
