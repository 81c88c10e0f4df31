"""A small store of an invented world, and the suite that is frozen from it."""

from datetime import UTC, datetime
from pathlib import Path

from eval.suite import Suite, frozen
from ingest.store import Store
from retrieval.index import Index
from training.split import freeze
from training.world import Size, incidents

SIZE = Size(first_families=6, first_each=10, later_families=2, later_each=10)


def store_of(folder: Path, *, eras: int = 1) -> Store:
    """A SQLite store in `folder` with this many eras of the world."""
    store = Store.open(f"sqlite:///{folder / 'scarwise.db'}", clock=lambda: NOW)
    for era in range(eras):
        store.put(list(incidents(7, era, SIZE)), actor="test")
    return store


def index_of(store: Store) -> Index:
    """Words only: no model has to be loaded."""
    index = Index(store)
    index.follow()
    return index


def suite_of(store: Store, folder: Path, *, era: int = 0, version: int = 1) -> Suite:
    """The suite that is frozen for this era."""
    index = index_of(store)
    freeze(store, index, era=era, suite=version, actor="test")
    return frozen(store, index, folder, version=version)


NOW = datetime(2030, 1, 1, tzinfo=UTC)
