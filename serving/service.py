"""The service: everything one process needs to answer, and the thread that keeps it in step."""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ingest import feedback, lessons, queries
from ingest.errors import Refused, Unavailable
from ingest.queries import Cited, KeptQuery
from ingest.store import Store
from retrieval import search as searching
from retrieval.diagnosis import Diagnosis, diagnose_from
from retrieval.embed import Embedder
from retrieval.generations import Generations
from retrieval.grounded import grounded
from retrieval.index import Index
from retrieval.prompt import prompt
from retrieval.search import Answer, Question
from serving.forgetting import remove_forgotten
from serving.live import MOST_NEW_TOKENS, Live, base_with
from serving.settings import Settings
from serving.there import There
from serving.waiting import NoAnswer
from serving.wire import version_view
from training import registry
from training.model import Loaded, ModelUnsound, fingerprint, load_base
from training.registry import Registered
from training.soundness import NF4, base_here

log = logging.getLogger(__name__)

Rung = Literal["adapter", "base model", "extractive", "lexical only"]

POLL_S = 0.5  # how long another process's write may go unseen
MOST_UNKEPT = 10_000  # questions waiting for a database that cannot be written


@dataclass(frozen=True, slots=True)
class Progress:
    """What the service is busy with: `done` of `total`, or a step without a count."""

    step: str
    done: int = 0
    total: int = 0


class Service:
    """The store, the index over it, and the questions asked of it.

    `open` returns as soon as incidents are found by their words; `warm` adds meaning, `start`
    does so in the background and stays in step with the store until `close`.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings = settings
        self.store = store
        self.index = Index(store, exact_below=settings.retrieval.exact_below)
        self.live = Live(
            store,
            settings.home,
            partial(load_model, settings),
            timeout_s=settings.serve.model_timeout_s,
            there=There.of(settings, MOST_NEW_TOKENS),
        )
        self.without_meaning: str | None = "the embedder is not loaded yet"
        self.unkept: deque[KeptQuery] = deque(maxlen=MOST_UNKEPT)
        self.started_at = datetime.now(UTC)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._rebuilds: deque[Future[int | None]] = deque()
        # Two flushes at once would keep one question twice.
        self._keeping = threading.Lock()

    @classmethod
    def open(cls, settings: Settings) -> "Service":
        """The service of this data folder, its store migrated and its words indexed."""
        service = cls(settings, open_store(settings))
        service.remove_withdrawn()
        service.index.follow()
        return service

    def warm(
        self, *, copy: bool = False, progress: Callable[[Progress], None] | None = None
    ) -> None:
        """Load the embedder and use the vectors on the shelf; with `copy`, keep Chroma's too.

        A model that cannot be loaded leaves search by words; `without_meaning` says why.
        """
        if progress:
            progress(Progress("loading the embedding model (exported once, on the first start)"))
        try:
            embedder = Embedder.load(
                self.settings.retrieval.embedder,
                cache=self.settings.models,
                threads=self.settings.retrieval.threads,
            )
        except (Refused, Unavailable) as error:
            self.without_meaning = str(error)
            self.index.awaits_meaning = False
            log.error("embedder.unavailable why=%r", str(error))
            return
        generations = None
        if copy:
            generations = Generations(self.settings.index, embedder.model_id, embedder.dim)
        self.index.use(embedder, generations)
        self.without_meaning = None

    def embed_all(self, progress: Callable[[Progress], None] | None = None) -> int:
        """Embed whatever waits, now; how many incidents that were."""
        self.index.follow()
        tell = progress or (lambda _: None)
        return self.index.embed_all(lambda done, total: tell(Progress("embedding", done, total)))

    def start(self, progress: Callable[[Progress], None] | None = None) -> None:
        """Keep the index in step with the store from a thread of its own."""
        self.remove_forgotten()
        self.index.awaits_meaning = True
        # Loading a model takes seconds, exporting one more: what is stored meanwhile is followed.
        loading = threading.Thread(
            target=self._warm_up, args=(progress,), name="embedder", daemon=True
        )
        following = threading.Thread(target=self._keep_in_step, name="index", daemon=True)
        self._threads = [loading, following]
        for thread in self._threads:
            thread.start()
        self.live.start()

    def close(self) -> None:
        """Stop keeping in step, keep the questions asked, release the store."""
        self._stopping.set()
        self._wake.set()
        self.live.close()
        for thread in self._threads:
            thread.join(timeout=10)
        self.keep_questions()
        self.index.close()
        self.store.close()

    def rebuild(self, timeout_s: float = 300) -> int | None:
        """Chroma's copy written anew by the thread that keeps it; its size, None without a copy."""
        asked: Future[int | None] = Future()
        self._rebuilds.append(asked)
        self._wake.set()
        return asked.result(timeout_s)

    def noticed(self) -> None:
        """Say that the store has changed: its words are found from now on, its meaning soon."""
        self.index.follow()
        self.live.noticed()
        self._wake.set()

    def remove_withdrawn(self) -> None:
        """Delete the files of datasets that teach what was forgotten."""
        lessons.remove_withdrawn(self.store, self.settings.datasets)

    def remove_forgotten(self) -> None:
        """Delete every file that quotes what was forgotten; `start` does what was cut off."""
        remove_forgotten(self.store, self.settings)

    @property
    def rung(self) -> Rung:
        """Where on the ladder answers come from now."""
        if self.live.serving:
            return "adapter"
        return "lexical only" if self.without_meaning else "extractive"

    def search(self, question: Question) -> Answer:
        """Similar incidents; the question is kept, without its secrets, soon after."""
        answer = searching.search(question, self.index, query_id=new_query_id())
        self._note("search", question, answer)
        return self._explained(answer)

    def diagnose(self, question: Question) -> Diagnosis:
        """One question from start to finish, in the order that an auditor would ask."""
        began = time.perf_counter()
        answer = self._explained(searching.search(question, self.index, query_id=new_query_id()))
        diagnosis = self._modelled(diagnose_from(question, answer), question, answer)
        self._note("diagnose", question, answer, status=diagnosis.status)
        took_ms = round((time.perf_counter() - began) * 1000, 2)
        return diagnosis.model_copy(update={"took_ms": took_ms})

    def keep_questions(self) -> int:
        """Write the questions asked since the last time; how many."""
        with self._keeping:
            batch = list(self.unkept)
            if not batch:
                return 0
            queries.keep(self.store, batch)
            for _ in batch:
                self.unkept.popleft()
            return len(batch)

    def _modelled(self, diagnosis: Diagnosis, question: Question, answer: Answer) -> Diagnosis:
        """With what the served model says, checked; as it is where that is nothing of use.

        A question about the past is not asked of a model that may have learned what came after.
        """
        if not self.live.is_wanted or self.live.knows_more_than(question.as_of):
            return diagnosis
        asked = prompt(question.text, [hit.stored for hit in answer.hits])
        try:
            said = self.live.answer(asked)
        except NoAnswer as none:
            why = "; ".join(filter(None, (diagnosis.degraded, f"answered without a model: {none}")))
            return diagnosis.model_copy(update={"degraded": why})
        return grounded(diagnosis, asked, said.reply, answer.hits, said.model)

    def _explained(self, answer: Answer) -> Answer:
        """With the reason why meaning was not compared, where it was not."""
        if self.without_meaning is None or answer.degraded is None:
            return answer
        return replace(answer, degraded=f"{answer.degraded}: {self.without_meaning}")

    def _note(
        self,
        kind: Literal["search", "diagnose"],
        question: Question,
        answer: Answer,
        status: str | None = None,
    ) -> None:
        self.unkept.append(
            KeptQuery(
                query_id=answer.query_id,
                at=datetime.now(UTC),
                kind=kind,
                text=question.text,
                status=status or answer.status,
                took_ms=answer.took_ms,
                services=question.services,
                as_of=question.as_of,
                answer=[
                    Cited(str(h.stored.incident.id), h.stored.incident.version or 0, h.score)
                    for h in answer.hits
                ],
            )
        )
        self._wake.set()

    def _warm_up(self, progress: Callable[[Progress], None] | None) -> None:
        self.warm(copy=True, progress=progress)
        self._wake.set()
        if progress:
            progress(Progress("ready" if self.without_meaning is None else "ready, by words only"))

    def _keep_in_step(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self._step()
            except Unavailable as error:
                log.warning("store.unavailable why=%r", str(error))
                busy = False
            except Exception:  # the outermost loop: whatever it is, answering goes on without it
                log.exception("index.fault")
                busy = False
                self._stopping.wait(5)
            if not busy:
                self._wake.wait(POLL_S)
                self._wake.clear()

    def _step(self) -> bool:
        """One round: words first, then a batch of meaning, then Chroma's copy."""
        self.index.follow()
        embedded = self.index.embed_some()
        if not embedded:
            self.index.tend()
        while self._rebuilds:
            self._rebuilds.popleft().set_result(self.index.rebuild())
        self.keep_questions()
        return bool(embedded)


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    return Store.open(settings.store_url, redact_ips=settings.store.redact_ips)


def load_model(settings: Settings, base_hash: str) -> Loaded:
    """The base of the settings; of the offline ones, that with this hash. Raises `ModelUnsound`."""
    named = settings.training.base
    if named == "offline":
        named = str(base_with(base_hash, settings.bases))
    return load_base(
        named,
        revision=settings.training.revision,
        device=settings.training.device,
        dtype=settings.training.dtype,
        four_bit=base_hash.endswith(NF4),
    )


def base_folder_here(settings: Settings, base_hash: str) -> Path | None:
    """Where a copy of the base with this hash lies; None without one, for nothing is fetched."""
    knobs = settings.training
    if knobs.base != "offline":
        folder = base_here(knobs.base, knobs.revision)
        held = base_hash.removesuffix(NF4)
        return folder if folder and fingerprint(folder) == held else None
    with suppress(ModelUnsound):
        return base_with(base_hash, settings.bases)
    return None


def tainted_champion(store: Store) -> Registered | None:
    """The champion, when it was taught what was forgotten since; None when all is well."""
    champion = registry.pointer(store).champion
    model = registry.get(store, champion) if champion is not None else None
    return model if model and model.tainted else None


def said_of_taint(model: Registered) -> str:
    """One sentence on it, and what to do: forgetting reaches no weights."""
    count = len(model.tainted)
    what = "1 incident that was" if count == 1 else f"{count} incidents that were"
    return (
        f"{model.name} was taught {what} forgotten since; "
        "retrain and promote, or `scarwise rollback`"
    )


def new_query_id() -> str:
    """An id that nobody can guess from another."""
    return f"q-{uuid.uuid4().hex[:16]}"


def kept_about(store: Store, incident_id: str, as_of: datetime | None = None) -> dict[str, Any]:
    """Everything that is kept about one incident, JSON-ready; `Unknown` when there is nothing."""
    current = store.get(incident_id, as_of=as_of)
    said = feedback.given(store, incident_id=incident_id, as_of=as_of)
    return {
        **current.incident.model_dump(mode="json"),
        "quarantine": current.quarantine,
        "versions": [version_view(v) for v in store.versions(incident_id)],
        "feedback": [f.model_dump(mode="json") for f in said],
        "lineage": {
            "queries": queries.citing(store, incident_id),
            "datasets": lessons.lessons_of(store, incident_id),
            "adapters": registry.adapters_of(store, incident_id),
        },
    }
