"""The served model: follows the champion in the store, swapped without a pause.

The base is loaded once; adapters lie beside each other in it, here or at an endpoint. New questions
go to the new one as soon as it is loaded and sound, those in flight are finished by the old one,
which is then dropped. An adapter that is not what was registered, or that the endpoint does not
take, is refused, and what was served is served on.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ingest.errors import Refused, Unavailable, Unreadable
from ingest.store import Store
from retrieval.prompt import Prompt, Reply, parsed, prompt, prompt_hash
from serving.there import There
from serving.waiting import NoAnswer, Stop, WaitingRoom
from training import adapters, registry
from training.adapters import AdapterUnsound
from training.model import (
    Loaded,
    ModelUnsound,
    fingerprint,
    generate,
    with_adapter,
    without_adapter,
)
from training.registry import Pointer, Registered
from training.soundness import NF4

log = logging.getLogger(__name__)

POLL_S = 0.5  # how long another process's promotion may go unseen
RETRY_S = 30.0  # until an adapter that was refused is looked at again
SOON_S = 3.0  # until an endpoint that could not be reached is asked again to load one
MOST_NEW_TOKENS = 256  # two sentences of the longest that is allowed, in a language of long words


@dataclass(frozen=True, slots=True)
class Serving:
    """The adapter that new questions go to; it may have learned what was known until `at`."""

    version: int
    name: str
    at: datetime
    told: dict[str, str]  # what an answer says of its model

    @classmethod
    def of(cls, model: Registered) -> "Serving":
        told = {
            "name": model.name,
            "version": str(model.version),
            "dataset": model.dataset or "none",
            "base_hash": model.base_hash,
            "prompt_hash": model.prompt_hash,
            "adapter_sha256": model.adapter_sha256,
        }
        return cls(model.version, model.name, model.at, told)


@dataclass(frozen=True, slots=True)
class Said:
    """A model's reply, and which model that was."""

    reply: Reply
    model: dict[str, str]


def base_with(base_hash: str, bases: Path) -> Path:
    """The folder below `bases` that holds this base. Raises `ModelUnsound` when none does."""
    folders = [path.parent for path in sorted(bases.glob("*/config.json"))]
    held = base_hash.removesuffix(NF4)
    found = next((folder for folder in folders if fingerprint(folder) == held), None)
    if found is None:
        raise ModelUnsound(
            f"the base {base_hash} that it was trained on is not in {bases}; "
            "run `scarwise base build`, or retrain"
        )
    return found


def check(model: Registered, home: Path, *, quick: bool = False) -> None:
    """Raises `AdapterUnsound` when the files are not what was registered; `quick`, by their hashes
    alone, with nothing heavy loaded."""
    if model.prompt_hash != prompt_hash():
        raise AdapterUnsound(
            f"it was trained under the prompt {model.prompt_hash} and this version asks with "
            f"{prompt_hash()}; `scarwise retrain` makes one that is not"
        )
    verify = adapters.sealed if quick else adapters.verify
    found = verify(home / model.folder, model.base_hash, prompt_hash())
    if found.sha256 != model.adapter_sha256:
        raise AdapterUnsound(
            f"its weights hash to {found.sha256[:12]} and {model.adapter_sha256[:12]} "
            "was registered; restore the folder, or retrain it"
        )


class Live:
    """The champion of this store, ready to answer; nothing heavy is loaded while there is none.

    `start` follows the store's pointer from a thread of its own, `follow` does so once, here.
    `serving` is what new questions go to. `why` says why that is not the champion, if it is not.
    """

    def __init__(
        self,
        store: Store,
        home: Path,
        load: Callable[[str], Loaded],
        *,
        timeout_s: float,
        there: There | None = None,
    ) -> None:
        """`load` gives the base with this hash, unless it is `there`; `timeout_s` is what a
        question may wait."""
        self.timeout_s = timeout_s
        self.serving: Serving | None = None
        self.why: str | None = None
        self.is_loading = False
        self.answers = 0
        self.fallbacks: Counter[str] = Counter()  # by reason
        self.swaps = 0
        self._store = store
        self._home = home
        self._load = load
        self._base: Loaded | None = None
        # With an endpoint the room's thread only has adapters loaded and dropped there.
        self._room = WaitingRoom(self._generate)
        self.there = there
        self._refused: tuple[int | None, int, float] | None = None  # version, revision, retry at
        # A request takes what is served and counts itself in at one moment; else the adapter
        # could be dropped in between.
        self._lock = threading.Lock()
        self._in_flight: Counter[str] = Counter()
        self._leaving: set[str] = set()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow the pointer until `close`."""
        self._thread = threading.Thread(target=self._keep_following, name="live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more; what is in flight falls back."""
        self._stopping.set()
        self._wake.set()
        if self.there:
            self.there.close()
        self._room.close()
        if self._thread:
            self._thread.join(timeout=10)

    def noticed(self) -> None:
        """Look at the pointer now rather than soon."""
        self._wake.set()

    @property
    def is_wanted(self) -> bool:
        """Whether a model is to answer, be it served already or not."""
        return self.serving is not None or self.why is not None

    @property
    def trouble(self) -> str | None:
        """What is wrong with the answers of the model that is served; None when nothing is."""
        return self.there.trouble if self.there and self.serving else None

    def wants_loading(self) -> bool:
        """Whether there is a champion that this process has not loaded."""
        return self.serving is None and registry.pointer(self._store).champion is not None

    def knows_more_than(self, as_of: datetime | None) -> bool:
        """Whether the served model may have learned what came after this moment."""
        serving = self.serving
        return as_of is not None and serving is not None and as_of < serving.at

    def answer(self, asked: Prompt) -> Said:
        """The served model's reply. Raises `NoAnswer`, at the latest after `timeout_s`."""
        try:
            said = self._answer(asked)
        except NoAnswer as none:
            self.fallbacks[none.reason] += 1
            raise
        self.answers += 1
        return said

    def follow(self) -> None:
        """Serve what the pointer names, or say in `why` why not. Raises `Unavailable`."""
        pointer = registry.pointer(self._store)
        served = self.serving.version if self.serving else None
        if pointer.champion == served:
            self.why = self._refused = None
        elif pointer.champion is None:
            self._serve(None)
        elif not self._is_refused(pointer):
            self._take(registry.get(self._store, pointer.champion), pointer)

    def _answer(self, asked: Prompt) -> Said:
        with self._lock:
            serving = self.serving
            if serving is None:
                raise NoAnswer("not served", self.why or "no model is served")
            self._in_flight[serving.name] += 1
        try:
            text = (self.there or self._room).ask(asked, serving.name, self.timeout_s)
            return Said(parsed(text), serving.told)
        except Unreadable as error:
            raise NoAnswer("form", str(error)) from None
        finally:
            self._left(serving.name)

    def _left(self, name: str) -> None:
        with self._lock:
            self._in_flight[name] -= 1
            is_last = name in self._leaving and not self._in_flight[name]
        if is_last:
            self._drop_soon(name)

    def _is_refused(self, pointer: Pointer) -> bool:
        if self._refused is None or self._refused[:2] != (pointer.champion, pointer.revision):
            return False
        return time.monotonic() < self._refused[2]

    def _take(self, model: Registered, pointer: Pointer) -> None:
        """Load this model and serve it; where it is not sound, serve on what was served."""
        try:
            self.is_loading = True
            if self.serving is None:
                self.why = f"{model.name} is still loading"
            check(model, self._home)
            self._room.between(lambda: self._load_beside(model))
        except NoAnswer:
            return  # the service is closing
        except (ValueError, RuntimeError, OSError, LookupError) as error:
            self.why = f"{model.name} is not served: {error}"
            again_s = RETRY_S if isinstance(error, Refused) else SOON_S
            self._refused = (model.version, pointer.revision, time.monotonic() + again_s)
            log.error("model.refused model=%s why=%r", model.name, str(error))
            return
        finally:
            self.is_loading = False
        self._serve(Serving.of(model))

    def _load_beside(self, model: Registered) -> None:
        """On the owner's thread: the base where it is not there yet, and this adapter in it."""
        if self.there:
            with self._lock:
                self._leaving.discard(model.name)
            self.there.take(model, self._home / model.folder)
            return
        if self._base is None:
            self._base = self._load(model.base_hash)
        if self._base.base_hash != model.base_hash:
            raise AdapterUnsound(
                f"it was trained on the base {model.base_hash} and {self._base.base_hash} is "
                "loaded; restart the service where training.base names the former by now, else "
                "set it back, or `scarwise retrain`, which begins at the base that it names"
            )
        with self._lock:
            self._leaving.discard(model.name)
        if model.name not in self._base.adapters:
            is_first = not self._base.adapters
            with_adapter(self._base, self._home / model.folder, name=model.name)
            if is_first:  # what is made at the first answer, the grammar above all, is made now
                self._generate([prompt("warm-up")], model.name, lambda: True)

    def _serve(self, new: Serving | None) -> None:
        """Let new questions go there, and the old adapter go when its last one is answered."""
        with self._lock:
            old, self.serving = self.serving, new
            self.why = self._refused = None
            if old:
                self._leaving.add(old.name)
            is_unused = old is not None and not self._in_flight[old.name]
        self.swaps += 1
        log.info("model.served model=%s before=%s", new and new.name, old and old.name)
        if old and is_unused:
            self._drop_soon(old.name)

    def _drop_soon(self, name: str) -> None:
        with suppress(NoAnswer):  # closing: everything goes anyway
            self._room.soon(lambda: self._drop(name))

    def _drop(self, name: str) -> None:
        """On the owner's thread: let go of an adapter, unless it is wanted again."""
        with self._lock:
            if name not in self._leaving or self._in_flight[name]:
                return
            self._leaving.discard(name)
        if self.there:
            self.there.drop(name)
        elif self._base and name in self._base.adapters:
            without_adapter(self._base, name)

    def _generate(self, prompts: Sequence[Prompt], adapter: str, stop: Stop) -> list[str]:
        assert self._base
        return generate(
            self._base, prompts, adapter=adapter, max_new_tokens=MOST_NEW_TOKENS, stop=stop
        )

    def _keep_following(self) -> None:
        while not self._stopping.is_set():
            try:
                self.follow()
            except Unavailable as error:
                log.warning("store.unavailable why=%r", str(error))
            except Exception:  # the outermost loop: whatever it is, what is served is served on
                log.exception("live.fault")
                self._stopping.wait(5)
            self._wake.wait(POLL_S)
            self._wake.clear()
