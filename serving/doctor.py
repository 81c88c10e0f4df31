"""What can be wrong on this machine, looked at one by one."""

import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from ingest import audit
from ingest.errors import Refused, Unavailable
from retrieval.generations import Generations, Unsound
from serving.running import running
from serving.service import Service
from serving.settings import Settings

ROOM_GB = 2.0  # a store of 10,000 incidents, its index and one exported model, several times over


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what was found, and what to do where it is not fine."""

    check: str
    ok: bool
    found: str
    do: str = ""


def findings(settings: Settings) -> list[Finding]:
    """Every check, in the order in which one depends on the other."""
    found = [_room(settings), _sqlite(), _server(settings)]
    try:
        service = Service.open(settings)
    except (Refused, Unavailable) as error:
        return [*found, Finding("store", False, str(error), "see the sentence on the left")]
    try:
        return [*found, *_service(service)]
    finally:
        service.close()


def _room(settings: Settings) -> Finding:
    free = shutil.disk_usage(settings.home).free / 1e9
    todo = "" if free > ROOM_GB else "make room, or move the data folder with SCARWISE_HOME"
    return Finding("disk", free > ROOM_GB, f"{free:.1f} GB free at {settings.home}", todo)


def _sqlite() -> Finding:
    # WAL-reset corruption, 3.7.0 to 3.51.2, needs two checkpointers at one moment; see sqlite.org.
    version = sqlite3.sqlite_version
    fixed = sqlite3.sqlite_version_info >= (3, 51, 3)
    note = "" if fixed else " (before 3.51.3: fine for one service and its command line)"
    return Finding("sqlite", True, version + note)


def _server(settings: Settings) -> Finding:
    there = running(settings.running)
    return Finding("service", True, f"answers at {there.url}" if there else "not running")


def _service(service: Service) -> Iterator[Finding]:
    counts = service.store.count()
    yield Finding(
        "store",
        True,
        f"{counts['incidents']} incidents in {counts['versions']} versions, "
        f"{counts['quarantined']} in quarantine",
    )
    trail = audit.verify(service.store)
    yield Finding(
        "audit",
        trail.ok,
        f"{trail.entries} entries" if trail.ok else f"broken at {trail.broken_at}: {trail.why}",
        "" if trail.ok else "compare with a backup; `scarwise audit show` lists what is there",
    )
    service.warm()
    embedder = service.index.embedder
    if embedder is None:
        yield Finding("embedder", False, str(service.without_meaning), "set retrieval.embedder")
        return
    yield Finding("embedder", True, f"{embedder.model_id} on {embedder.backend}")
    service.index.embed_some(0)
    waiting = service.index.unembedded()
    todo = "start `scarwise serve`, or `scarwise index rebuild`"
    yield Finding(
        "vectors", not waiting, f"{waiting} versions not embedded", todo if waiting else ""
    )
    yield _copy(service, embedder.model_id, embedder.dim)


def _copy(service: Service, model_id: str, dim: int) -> Finding:
    generations = Generations(service.settings.index, model_id, dim)
    if generations.current() is None:
        return Finding("index", True, "no copy in Chroma yet; search does not need one")
    try:
        return Finding("index", True, f"{generations.check()} vectors find themselves")
    except Unsound as why:
        return Finding("index", False, str(why), "`scarwise index rebuild`")
