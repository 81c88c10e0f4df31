"""What can be wrong on this machine, looked at one by one."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest import audit, retrainings
from ingest.errors import Refused, Unavailable
from retrieval.generations import Generations, Unsound
from retrieval.prompt import prompt_hash
from serving.footing import is_offline
from serving.live import base_with
from serving.retrain import hindrance, is_running
from serving.running import running
from serving.service import Service, said_of_taint
from serving.settings import Settings
from serving.there import endpoint_of
from training import adapters, base, registry, tracking
from training.model import ModelUnsound, fingerprint
from training.registry import Registered
from training.soundness import NF4

_ANEW = "`scarwise retrain` begins at the present base and teaches everything anew"
ENDPOINT_S = 10.0  # for all that is asked of an endpoint
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
        return [*found, *_service(service), *_learning(service)]
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


def _learning(service: Service) -> Iterator[Finding]:
    """The learning loop; weights are read only where there is a champion."""
    store, settings = service.store, service.settings
    pointer = registry.pointer(store)
    champion = registry.get(store, pointer.champion) if pointer.champion is not None else None
    yield _base(settings, champion)
    yield from _endpoint(settings, champion)
    if champion:
        yield _champion(settings, champion)
        if champion.tainted:
            yield Finding("taint", False, said_of_taint(champion), "see the sentence on the left")
    if pointer.frozen:
        yield Finding("promotion", True, "frozen: nothing is promoted until `scarwise thaw`")
    yield _turn(service)
    waiting = len(tracking.waiting(settings.home))
    yield Finding(
        "mlflow",
        not waiting,
        f"{waiting} runs wait to be told" if waiting else "told of every run",
        "start MLflow; the next `scarwise retrain` tells it" if waiting else "",
    )


def _base(settings: Settings, champion: Registered | None) -> Finding:
    """Whether the base is there, and the one that the champion was trained on."""
    if champion and champion.prompt_hash != prompt_hash():
        found = f"{champion.name} is not served: it was trained under an earlier prompt"
        return Finding("base", False, found, f"{_ANEW}; until then answers are quoted")
    if not is_offline(settings):
        return _other_base(Path(settings.training.base).expanduser(), champion)
    made = base.named(settings.bases)
    is_made = (made / base.MADE).is_file()
    if champion is None:
        how = "made" if is_made else "not made yet; only learning needs it: `scarwise base build`"
        return Finding("base", True, f"{made.name}, {how}")
    try:
        stands_on = base_with(champion.base_hash, settings.bases).name
    except (ModelUnsound, OSError) as why:
        todo = "`scarwise base build`, or restore the folder"
        return Finding("base", False, f"{champion.name} is not served: {why}", todo)
    if stands_on != made.name:
        return Finding(
            "base",
            False,
            f"{champion.name} stands on {stands_on}, and this version learns on {made.name}",
            f"it is served on; {_ANEW}",
        )
    return Finding("base", True, f"{made.name}, which {champion.name} was trained on")


def _other_base(named: Path, champion: Registered | None) -> Finding:
    """On a base that was not made here; what only the hub knows is not asked for."""
    if not named.is_dir():
        return Finding("base", True, f"{named}, looked at when it is loaded")
    if champion and fingerprint(named) != champion.base_hash.removesuffix(NF4):
        found = f"{champion.name} is not served: it was trained on another base than {named}"
        return Finding("base", False, found, f"set training.base back, or {_ANEW}")
    which = f", which {champion.name} was trained on" if champion else ", it is there"
    return Finding("base", True, f"{named}{which}")


def _endpoint(settings: Settings, champion: Registered | None) -> Iterator[Finding]:
    """Whether the server that is asked for answers is there and can do what is asked of it."""
    endpoint = endpoint_of(settings)
    if endpoint is None:
        return
    until = time.monotonic() + ENDPOINT_S
    try:
        known = endpoint.found(until)
        host = known.host
        said = f"{host.kind} at {settings.serve.endpoint} serves {known.base}"
        yield Finding("endpoint", True, said)
        listed, switch = host.adapters(until), host.switch(until)
        named = ", ".join(sorted(listed)[:5]) or "no adapter"
        missing = champion and champion.name not in listed and running(settings.running)
        said = f"{named} there" + (f", but not {champion.name}" if missing and champion else "")
        todo = switch or ("`/readyz` of the service says why" if missing else "")
        yield Finding("adapters there", not todo, said, todo)
        kept = endpoint.keeps_form(until)
        said = "answers are held to the agreed form" if kept else "answers are in no agreed form"
        todo = (
            "" if kept else "switch its structured outputs on; without, many answers are unusable"
        )
        yield Finding("form there", kept, said, todo)
        fine = host.tells_likelihoods or not settings.serve.endpoint_evaluates
        said = "likelihoods are told" if host.tells_likelihoods else "no likelihoods are told"
        todo = "" if fine else "the gate would pass nothing: serve.endpoint_evaluates = false"
        yield Finding("likelihoods there", fine, said, todo)
    except (Refused, Unavailable) as why:
        todo = "start it, or set serve.endpoint; meanwhile answers are quoted, without a model"
        yield Finding("endpoint", False, str(why), todo)
    finally:
        endpoint.close()


def _champion(settings: Settings, champion: Registered) -> Finding:
    """Whether its files are what was sealed and registered."""
    try:
        told = adapters.verify(
            settings.home / champion.folder, champion.base_hash, champion.prompt_hash
        )
    except ModelUnsound as why:
        return Finding("champion", False, str(why), "restore its folder, or `scarwise rollback`")
    if told.sha256 != champion.adapter_sha256:
        return Finding(
            "champion",
            False,
            f"{champion.name}: its weights are not those that were registered",
            "restore its folder, or `scarwise rollback`",
        )
    return Finding("champion", True, f"{champion.name}, its files are what was registered")


def _turn(service: Service) -> Finding:
    """Whether a retraining was cut off, and nobody goes on with it."""
    run = retrainings.unfinished(service.store)
    if run is None:
        return Finding("retraining", True, _last(service))
    said = f"retraining {run.id}, begun {run.started_at:%Y-%m-%d %H:%M} UTC, got to {run.step!r}"
    if is_running(service.store, service.settings):
        return Finding("retraining", True, f"{said} and is running")
    if why := hindrance(run, service.settings):
        todo = "`scarwise retrain` closes it, loses nothing that was kept, and begins anew"
        return Finding("retraining", False, f"{said}; it cannot be finished: {why}", todo)
    return Finding("retraining", False, f"{said} and was cut off", "`scarwise retrain` finishes it")


def _last(service: Service) -> str:
    last = next(iter(retrainings.latest(service.store, limit=1)), None)
    if last is None:
        return "none yet"
    ended = f"{last.outcome} ({last.detail['why']})" if "why" in last.detail else last.outcome
    return f"retraining {last.id} ended on {last.updated_at:%Y-%m-%d %H:%M} UTC: {ended}"
