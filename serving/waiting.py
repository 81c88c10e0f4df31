"""Prompts that wait together are answered together, by the one thread that owns the model.

NoAnswer        (Unavailable) the model said nothing in time, or nothing that can be used
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from ingest.errors import Unavailable
from retrieval.prompt import Prompt

log = logging.getLogger(__name__)

Reason = Literal["not served", "timeout", "busy", "failed", "form"]
Stop = Callable[[], bool]
Generate = Callable[[Sequence[Prompt], str, Stop], list[str]]  # (prompts, adapter, stop) -> texts
T = TypeVar("T")

MOST_TOGETHER = 8
MOST_WAITING = 16  # two batches: who comes later would wait longer than the answer is worth
HANGS_S = 2.0  # a generation asks `stop` once a token: one that runs on for so long hangs


class NoAnswer(Unavailable):
    """The model said nothing in time, or nothing that can be used; `reason` is for counting."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(eq=False, slots=True)
class _Waiting:
    prompt: Prompt
    adapter: str
    timeout_s: float
    deadline: float  # of time.monotonic()
    text: Future[str] = field(default_factory=Future)


class WaitingRoom:
    """The prompts that wait for a model, and the thread that owns it.

    A model is used by one thread only: what loads, drops or asks runs there, one after the other.
    """

    def __init__(self, generate: Generate) -> None:
        self._generate = generate
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="model")
        # Requests' threads put in what the owner's thread takes out.
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._running: list[_Waiting] = []
        self._is_called = False
        self._closed = False

    def ask(self, prompt: Prompt, adapter: str, timeout_s: float) -> str:
        """What this adapter writes. Raises `NoAnswer`, at the latest when the time is over."""
        waiting = _Waiting(prompt, adapter, timeout_s, time.monotonic() + timeout_s)
        with self._lock:
            self._refuse_if_crowded()
            self._waiting.append(waiting)
            self._call_owner()
        try:
            return waiting.text.result(timeout_s)
        except TimeoutError:
            waiting.text.cancel()
            with self._lock, suppress(ValueError):  # it may be running
                self._waiting.remove(waiting)
            raise _too_late(timeout_s) from None

    def between(self, act: Callable[[], T]) -> T:
        """What `act` returns or raises, run by the owner between two generations."""
        try:
            return self.soon(act).result()
        except CancelledError:
            raise _closing() from None

    def soon(self, act: Callable[[], T]) -> Future[T]:
        """The same, without waiting for it."""
        with self._lock:
            if self._closed:
                raise _closing()
            return self._owner.submit(act)

    def close(self) -> None:
        """End the generation that runs, and answer nobody any more."""
        with self._lock:
            self._closed = True
            left = [w for w in self._waiting if w.text.set_running_or_notify_cancel()]
            self._waiting.clear()
        for waiting in left:
            waiting.text.set_exception(_closing())
        self._owner.shutdown(cancel_futures=True)

    def _refuse_if_crowded(self) -> None:
        if self._closed:
            raise _closing()
        if len(self._waiting) >= MOST_WAITING:
            raise NoAnswer("busy", f"{MOST_WAITING} questions wait for the model already")
        if self._running and time.monotonic() > _last(self._running) + HANGS_S:
            raise NoAnswer("busy", "the model still hangs in an earlier question")

    def _call_owner(self) -> None:
        # One call at a time, and the next one behind whatever is to be done between: a call for
        # every prompt would pile up, as one call answers several.
        if self._waiting and not self._is_called and not self._closed:
            self._is_called = True
            self._owner.submit(self._answer_some)

    def _answer_some(self) -> None:
        """Answer the longest waiting prompt, and others for its adapter with it."""
        with self._lock:
            batch = self._running = self._next()
        try:
            if batch:
                self._answer(batch)
        finally:
            with self._lock:
                self._running, self._is_called = [], False
                self._call_owner()

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        try:
            last = _last(batch)
            texts = self._generate(
                [waiting.prompt for waiting in batch],
                batch[0].adapter,
                lambda: self._closed or time.monotonic() > last,
            )
            now = time.monotonic()
            for waiting, text in zip(batch, texts, strict=True):
                if waiting.deadline > now:
                    waiting.text.set_result(text)
                else:  # it may have been ended in the middle of a word
                    waiting.text.set_exception(_too_late(waiting.timeout_s))
        except Exception as error:  # the outermost loop of this thread: the next may fare better
            log.exception("model.fault")
            why = NoAnswer("failed", f"the model failed ({type(error).__name__})")
            for waiting in batch:
                if not waiting.text.done():
                    waiting.text.set_exception(why)

    def _next(self) -> list[_Waiting]:
        """Those to be answered together; who gave up or whose time is over is passed over."""
        batch: list[_Waiting] = []
        later: deque[_Waiting] = deque()
        now = time.monotonic()
        for waiting in self._waiting:
            if len(batch) == MOST_TOGETHER or (batch and waiting.adapter != batch[0].adapter):
                later.append(waiting)
            elif waiting.deadline > now and waiting.text.set_running_or_notify_cancel():
                batch.append(waiting)
        self._waiting = later
        return batch


def _last(batch: Sequence[_Waiting]) -> float:
    return max(waiting.deadline for waiting in batch)


def _too_late(timeout_s: float) -> NoAnswer:
    return NoAnswer("timeout", f"the model took longer than {timeout_s:g} s")


def _closing() -> NoAnswer:
    return NoAnswer("not served", "the service is closing")
