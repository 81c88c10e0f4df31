"""The dataset: what every trusted, resolved incident teaches, each as of its own start.

A dataset is a folder, `ds-` and twelve digits of the hash of all that is in it: `rows.parquet` and
`manifest.json`, which is written last. It never changes. Cases of the suite and their near-copies
teach nothing, and are not shown as precedents either: the answer to a case would stand there.
"""

import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ingest.errors import Refused, StoreBusy, Unknown, Unreadable
from ingest.lessons import (
    Embargoed,
    KeptDataset,
    datasets,
    embargoed,
    register_dataset,
    remove_withdrawn,
)
from ingest.store import Store, Stored
from retrieval.index import Index
from retrieval.prompt import MOST_PRECEDENTS, prompt_hash
from retrieval.quotes import key
from training import rows as parquet
from training.admission import everything, family_of, kin_of, suspected_poison, why_not
from training.folders import in_our_words, whole
from training.past import RANKED, Past, awaiting_meaning, known_rows
from training.retold import groups
from training.rows import SCHEMA_VERSION, Row
from training.split import family_sizes, is_one_off
from training.targets import OneOffs, Subject, rows_of

ROWS, MANIFEST, CACHE = "rows.parquet", "manifest.json", "cache.json"
WAIT_S = 10.0  # for another export of this data folder

A_CASE, A_COPY, POISON = "suite case", "near-copy of a suite case", "suspected poison"

_NAME = re.compile(r"ds-[0-9a-f]{12}")
_LONG = ("incidents", "new_incidents")  # for the file; the store knows them as lessons

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished dataset: its folder is whole and the store knows what it teaches."""

    name: str
    folder: Path
    manifest: dict[str, Any]
    fresh: bool  # this export made it

    def rows(self) -> list[Row]:
        return parquet.read(self.folder / ROWS)


def export(
    store: Store,
    index: Index,
    folder: Path,
    *,
    actor: str,
    base_taught: Collection[str] = (),
    one_offs: OneOffs = "unseen",
    progress: Progress | None = None,
) -> Exported:
    """The dataset of what the store holds now, in `folder`; the one that is there when it is equal.

    `base_taught` names the families that the base knows already. The index should be embedded:
    what waits is compared by its words alone, and the manifest says so. Killed at any moment, the
    next export finishes or redoes it. Raises `Refused` when nothing may teach, `StoreFull` when
    the disk is, and then leaves nothing behind.
    """
    from filelock import FileLock, Timeout

    try:
        with in_our_words(folder):
            folder.mkdir(parents=True, exist_ok=True)
            alone = FileLock(folder / ".lock", timeout=WAIT_S).acquire()
        with alone:
            index.follow()
            made, told = _made(store, index, folder, base_taught, one_offs, progress)
            return _kept(store, folder, made, told, actor)
    except Timeout:
        raise StoreBusy(f"another export writes to {folder}; try again when it is done") from None


def opened(store: Store, folder: Path, name: str) -> Exported:
    """A dataset by its name. `Unknown` when there is none, `Unreadable` when it is not whole."""
    kept = next((d for d in datasets(store) if d.name == name), None)
    if kept is None:
        raise Unknown(f"there is no dataset {name!r} here; `scarwise dataset list` shows which are")
    if kept.withdrawn_at is not None:
        raise Unknown(
            f"dataset {name} was withdrawn on {kept.withdrawn_at:%Y-%m-%d}: an incident that it "
            "teaches was forgotten; export again"
        )
    return Exported(name, folder / name, manifest(folder / name), fresh=False)


def sweep(store: Store, folder: Path) -> None:
    """Delete what is no dataset of this store: withdrawn, cut off, or never registered.

    Does nothing while somebody exports: an export sweeps at its own end.
    """
    from filelock import FileLock, Timeout

    if not folder.is_dir():
        return
    with in_our_words(folder), suppress(Timeout), FileLock(folder / ".lock", timeout=0):
        _sweep(store, folder)


def manifest(place: Path) -> dict[str, Any]:
    """The manifest of the dataset in this folder. `Unreadable` when there is none."""
    try:
        told: dict[str, Any] = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"{place} holds no finished dataset ({error}); export again") from error
    return told


@dataclass(frozen=True, slots=True)
class _Admitted:
    """Who teaches, and who is kept out: `dropped` counts why, `barred` are never shown either."""

    teaching: list[Stored]
    dropped: Counter[str]
    barred: set[str]
    poison: list[list[str]]
    cases: Mapping[str, Embargoed]
    families: Counter[str]


def _made(
    store: Store,
    index: Index,
    folder: Path,
    base_taught: Collection[str],
    one_offs: OneOffs,
    progress: Progress | None,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows, and the manifest as far as it depends on nothing but what the store holds."""
    admitted = _admitted(store, index)
    if not admitted.teaching:
        raise Refused(_nothing(admitted))
    left_out: Counter[str] = Counter()
    rows: list[Row] = []
    past, kin = Past(index, folder / CACHE), np.array(known_rows(index, _kin))
    with in_our_words(folder):
        for done, stored in enumerate(admitted.teaching, 1):
            subject = _subject(stored, past, kin, admitted, store)
            rows += rows_of(subject, base_taught=base_taught, one_offs=one_offs, left_out=left_out)
            if progress:
                progress(done, len(admitted.teaching))
        past.save()
    if not rows:
        raise Refused(_nothing(admitted))
    filters = {
        "trust": "trusted",
        "status": "resolved",
        "one_offs": one_offs,
        "base_taught": sorted(base_taught),
        "precedents": f"the first {MOST_PRECEDENTS} of {RANKED} ranked that are no suite case",
    }
    return rows, _told(rows, admitted, left_out, filters, index)


def _admitted(store: Store, index: Index) -> _Admitted:
    here = sorted(everything(store), key=key)
    cases = embargoed(store)
    group_of = dict(zip(map(key, here), groups(here, index), strict=True))
    examined = {group_of[key(stored)] for stored in here if key(stored)[0] in cases}
    copies = {key(s)[0] for s in here if group_of[key(s)] in examined} - set(cases)
    usable = [stored for stored in here if why_not(stored) is None]
    poison = suspected_poison(usable)
    poisoned = {id for ids in poison for id in ids}
    dropped: Counter[str] = Counter()
    teaching = []
    for stored in here:
        id, _ = key(stored)
        first = (A_CASE, id in cases), (A_COPY, id in copies)
        why = next((reason for reason, holds in first if holds), None) or why_not(stored)
        why = why or (POISON if id in poisoned else None)
        if why:
            dropped[why] += 1
        else:
            teaching.append(stored)
    teaching.sort(key=lambda s: (s.incident.started_at, key(s)))
    barred = set(cases) | copies | poisoned
    return _Admitted(teaching, dropped, barred, poison, cases, family_sizes(here))


def _subject(
    stored: Stored, past: Past, kin: np.ndarray, admitted: _Admitted, store: Store
) -> Subject:
    incident, (id, _) = stored.incident, key(stored)
    assert incident.started_at
    seen = past.seen(incident.started_at)
    ranked = past.precedents(stored, seen)
    shown = [k for k in ranked if k[0] not in admitted.barred and k[0] != id][:MOST_PRECEDENTS]
    kept = store.many(shown)
    return Subject(
        stored=stored,
        shown=[kept[k] for k in shown if k in kept],
        precedented=bool((kin[seen] == kin_of(incident)).any()),
        one_off=is_one_off(family_of(incident), admitted.families),
    )


def _kin(stored: Stored) -> str:
    return kin_of(stored.incident)


def _told(
    rows: Sequence[Row],
    admitted: _Admitted,
    left_out: Counter[str],
    filters: dict[str, Any],
    index: Index,
) -> dict[str, Any]:
    cases = admitted.cases.values()
    subjects = {row.incident_id: row.version for row in rows}
    told: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "prompt_hash": prompt_hash(),
        "embedder": index.embedder.model_id if index.embedder else None,
        "not_embedded": awaiting_meaning(index),
        "filters": filters,
        "rows": len(rows),
        "incident_count": len(subjects),
        "rows_sha256": _digest([row.sha256 for row in rows]),
        "tasks": _tally(row.task for row in rows),
        "sources": _tally(row.source for row in rows),
        "families": _tally(row.family for row in rows),
        "dropped_incidents": _ordered(admitted.dropped),
        "left_out": _ordered(left_out),
        "suspected_poison": admitted.poison,
        "embargo": {"cases": len(cases), "suites": sorted({case.suite for case in cases})},
        "incidents": subjects,
    }
    return {"name": f"ds-{_digest([told])[:12]}", **told}


def _kept(
    store: Store, folder: Path, rows: Sequence[Row], told: dict[str, Any], actor: str
) -> Exported:
    """The dataset whole on disk, then known to the store, then alone: leftovers are swept."""
    name, known = told["name"], datasets(store)
    place = folder / name
    fresh = not (place / MANIFEST).exists()
    if fresh:
        told = told | _difference(folder, rows, _previous(name, known))
        with whole(place) as draft:
            parquet.write(rows, draft / ROWS)
            told["parquet_sha256"] = hashlib.sha256((draft / ROWS).read_bytes()).hexdigest()
            written = json.dumps(told, ensure_ascii=False, indent=1)
            (draft / MANIFEST).write_text(written + "\n", encoding="utf-8")
    told = manifest(place)
    try:
        with store.transaction(actor) as writing:
            brief = {k: v for k, v in told.items() if k not in _LONG}
            register_dataset(writing, name, brief, _lessons(rows))
    except Refused:  # what it teaches was forgotten, or made a case, since it was read
        shutil.rmtree(place)
        raise
    _sweep(store, folder)
    return Exported(name, place, told, fresh)


def _lessons(rows: Sequence[Row]) -> list[tuple[str, int]]:
    """Every version whose words stand in a row."""
    told = {(row.incident_id, row.version) for row in rows}
    return sorted(told.union(*(row.precedents for row in rows)))


def _previous(name: str, known: Sequence[KeptDataset]) -> KeptDataset | None:
    """The dataset before this one that still stands."""
    names = [kept.name for kept in known]
    before = known[: names.index(name)] if name in names else known
    standing = [kept for kept in before if kept.withdrawn_at is None]
    return standing[-1] if standing else None


def _difference(folder: Path, rows: Sequence[Row], previous: KeptDataset | None) -> dict[str, Any]:
    """What is new since the dataset before; without one that can be read, all is."""
    before: dict[str, Row] = {}
    if previous:
        try:
            before = {row.id: row for row in parquet.read(folder / previous.name / ROWS)}
        except Unreadable:
            previous = None
    now = {row.id: row for row in rows}
    both = before.keys() & now.keys()
    incidents = {row.incident_id for row in before.values()}
    fresh = sorted({row.incident_id for row in rows} - incidents)
    return {
        "previous": previous.name if previous else None,
        "difference": {
            "rows_added": len(now.keys() - both),
            "rows_removed": len(before.keys() - both),
            "rows_changed": sum(before[id] != now[id] for id in both),
            "incidents_new": len(fresh),
            "incidents_gone": len(incidents - {row.incident_id for row in rows}),
        },
        "new_incidents": fresh,
    }


def _sweep(store: Store, folder: Path) -> None:
    """Leave only datasets that the store knows: others were cut off, or hold what is forgotten."""
    remove_withdrawn(store, folder)
    known = {kept.name for kept in datasets(store)}
    for place in folder.glob("ds-*"):
        if _NAME.fullmatch(place.name.removesuffix(".draft")) and place.name not in known:
            shutil.rmtree(place, ignore_errors=True)


def _nothing(admitted: _Admitted) -> str:
    if not admitted.dropped:
        return "there is nothing to learn from: the store is empty; `scarwise ingest` fills it"
    why = ", ".join(f"{n} {reason}" for reason, n in _ordered(admitted.dropped).items())
    return (
        f"there is nothing to learn from: no incident may teach ({why}); it takes one that is "
        "trusted, resolved, dated and has a root cause"
    )


def _tally(names: Any) -> dict[str, int]:
    return _ordered(Counter(names))


def _ordered(counted: Mapping[str, int]) -> dict[str, int]:
    return {name: counted[name] for name in sorted(counted) if counted[name]}


def _digest(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
