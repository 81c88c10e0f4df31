"""Histories for the tests of the export: an outage of few words, and a world of a few families."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ingest.incident import Incident
from ingest.store import Store
from retrieval.index import Index
from training import dataset
from training.dataset import Exported
from training.world import Size, incidents

START = datetime(2024, 3, 1, 9, tzinfo=UTC)
SMALL = Size(first_families=4, first_each=8, later_families=3, later_each=7)


def outage(n: int, *, day: int | None = None, **fields: Any) -> Incident:
    """The n-th outage, on day n unless another is named; each in words of its own."""
    at = START + timedelta(days=n if day is None else day)
    told: dict[str, Any] = {
        "title": f"probe{n} of gateway{n} rang",
        "symptoms": f"queue{n} grows, worker{n} waits on lock{n}",
        "started_at": at,
        "resolved_at": at + timedelta(hours=1),
        "root_cause": f"The lease of pool{n} had expired.",
        "resolution": f"Renew the lease of pool{n}.",
        "cause_family": "lease",
    }
    return Incident(source="pager", source_id=f"{n}", **{**told, **fields})


def worded(store: Store) -> Index:
    """An index that compares by words only: quick, and follows the store by itself."""
    return Index(store)


def exported(store: Store, folder: Path, **options: Any) -> Exported:
    return dataset.export(store, worded(store), folder, actor="test", **options)


def keep(store: Store, *incidents: Incident) -> list[str]:
    """Store these; their ids."""
    return [receipt.id for receipt in store.put(incidents, actor="test")]


def keep_world(store: Store, *eras: int, seed: int = 1) -> None:
    for era in eras:
        store.put(list(incidents(seed, era, SMALL)), actor="test")


def tasks(made: Exported, incident_id: str) -> set[str]:
    return {row.task for row in made.rows() if row.incident_id == incident_id}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("ds-*/*")}
