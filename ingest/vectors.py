"""The vector shelf: embeddings kept in the store, so that no index rebuild embeds again."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select, tuple_

from ingest import schema
from ingest.database import slices
from ingest.store import Store

ROWS_AT_ONCE = 500
_shelf = schema.embedding


@dataclass(frozen=True, slots=True)
class Shelved:
    """What one embedding model made of one version; the bytes are retrieval's affair."""

    incident_id: str
    version: int
    content_hash: str
    vectors: bytes
    tokens: bytes
    meta: str


_columns = select(*(_shelf.c[name] for name in Shelved.__slots__))


def put_vectors(store: Store, model_id: str, rows: Sequence[Shelved]) -> None:
    """Shelve these, in place of what lay there; what was forgotten meanwhile is left out.

    Not audited: whatever is on the shelf can be made again.
    """
    made = {(row.incident_id, row.version): row for row in rows}
    with store.transaction("index") as writing:
        here = writing.here(made)
        fresh = [{**asdict(row), "model_id": model_id} for key, row in made.items() if key in here]
        of_model = delete(_shelf).where(_shelf.c.model_id == model_id)
        for some in slices(list(here)):
            writing.connection.execute(of_model.where(schema.keyed(_shelf, some)))
        if fresh:
            writing.connection.execute(insert(_shelf), fresh)


def vectors(
    store: Store, model_id: str, keys: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], Shelved]:
    """What lies on this model's shelf for these (id, version); what does not is left out."""
    found: dict[tuple[str, int], Shelved] = {}
    with store.reading() as connection:
        for some in slices(keys):
            named = _columns.where(_shelf.c.model_id == model_id, schema.keyed(_shelf, some))
            for row in connection.execute(named):
                found[row.incident_id, row.version] = Shelved(*row)
    return found


def all_vectors(store: Store, model_id: str) -> Iterator[Shelved]:
    """Everything on this model's shelf, by id and version.

    Read in slices, each a snapshot of its own, so that a slow reader holds nothing open.
    """
    on_shelf = _columns.where(_shelf.c.model_id == model_id)
    ordered = on_shelf.order_by(_shelf.c.incident_id, _shelf.c.version).limit(ROWS_AT_ONCE)
    key, last = tuple_(_shelf.c.incident_id, _shelf.c.version), ("", 0)
    while True:
        with store.reading() as connection:
            some = [Shelved(*row) for row in connection.execute(ordered.where(key > last))]
        if not some:
            return
        yield from some
        last = (some[-1].incident_id, some[-1].version)


def forget_model(store: Store, model_id: str) -> None:
    """Clear this model's shelf."""
    with store.transaction("index") as writing:
        writing.connection.execute(delete(_shelf).where(_shelf.c.model_id == model_id))
