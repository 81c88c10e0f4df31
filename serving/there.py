"""The model at an endpoint, as the live model asks it: never waited for longer than a question may.

Questions are asked side by side, each by a thread of its own. A server that is not reached is left
alone for a moment, so that not every question waits to find out the same.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.speaking import Elsewhere
from retrieval.prompt import Prompt
from serving.footing import is_offline
from serving.settings import Settings
from serving.waiting import MOST_WAITING, NoAnswer
from training.adapters import AdapterUnsound
from training.calls import NotReached, ServerFailed, ServerRefuses, TooSlow
from training.endpoint import Endpoint, Place
from training.model import fingerprint
from training.registry import Registered
from training.soundness import NF4, base_here

log = logging.getLogger(__name__)

REST_S = 5.0  # until a server that was not reached is asked again


class There:
    """The champion's adapters at an endpoint.

    `trouble` is what was wrong with the last answer, None when nothing was.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        most_new_tokens: int,
        base_hash: Callable[[], str | None] = lambda: None,
        rest_s: float = REST_S,
    ) -> None:
        """`base_hash` gives the hash of the base that is taken to be there, where it is known."""
        self.endpoint = endpoint
        self.trouble: str | None = None
        self._most = most_new_tokens
        self._base_hash = base_hash
        self._rest_s = rest_s
        self._rests_until = 0.0
        self._pool = ThreadPoolExecutor(MOST_WAITING, thread_name_prefix="endpoint")
        # Requests' threads and the pool's count together.
        self._lock = threading.Lock()
        self._asked = 0
        self._closed = False

    @classmethod
    def of(cls, settings: Settings, most_new_tokens: int) -> "There | None":
        """What the settings name; None when the model is loaded here."""
        endpoint = endpoint_of(settings)
        if endpoint is None:
            return None
        return cls(
            endpoint, most_new_tokens=most_new_tokens, base_hash=lambda: base_taken_for(settings)
        )

    def ask(self, asked: Prompt, adapter: str, timeout_s: float) -> str:
        """What this adapter writes. Raises `NoAnswer`, at the latest when the time is over."""
        said = self._begun(asked, adapter, time.monotonic() + timeout_s)
        late = NoAnswer("timeout", f"the model took longer than {timeout_s:g} s")
        try:
            text = said.result(timeout_s)
        except (TimeoutError, TooSlow):
            said.cancel()
            self.trouble = str(late)
            raise late from None
        except CancelledError:
            raise _closing() from None
        except NotReached as error:
            if not isinstance(error, ServerFailed):
                self._rests_until = time.monotonic() + self._rest_s
            raise self._failed(error) from None
        except ServerRefuses as error:
            raise self._failed(error) from None
        self.trouble = None
        return text

    def take(self, model: Registered, folder: Path) -> None:
        """Have this adapter loaded there, listed and asked once. Raises `NotReached`, `Refused`."""
        known = self._base_hash()
        if known is not None and known != model.base_hash.removesuffix(NF4):
            raise AdapterUnsound(
                f"it was trained on the base {model.base_hash}, and the one that training.base "
                f"names, for which the endpoint's is taken, is {known}; set both back, or retrain"
            )
        self._refuse_other_weights(model)
        self.endpoint.take(model.name, folder)
        self._rests_until, self.trouble = 0.0, None

    def drop(self, name: str) -> None:
        """Have it go there."""
        self.endpoint.drop(name)

    def close(self) -> None:
        """Ask nothing any more; what is in flight gets no answer."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.endpoint.close()

    def _refuse_other_weights(self, model: Registered) -> None:
        """Refuse what was judged on a base in four bits here: the one there answers otherwise."""
        if not model.base_hash.endswith(NF4):
            return
        there, judged = self.endpoint.found().told, model.report.get("measured_on", {})
        if judged.get("answered_by") != there:
            raise AdapterUnsound(
                f"it was trained and judged on its base in four bits, and {there} is another: what "
                "was judged would not be what is served. Leave serve.endpoint empty to serve it "
                "here, or have it judged there: serve.endpoint_evaluates = true, `scarwise retrain`"
            )

    def _begun(self, asked: Prompt, adapter: str, until: float) -> Future[str]:
        with self._lock:
            if self._closed:
                raise _closing()
            if self._asked >= MOST_WAITING:
                raise NoAnswer("busy", f"{MOST_WAITING} questions wait for the model already")
            if time.monotonic() < self._rests_until:
                raise NoAnswer("failed", f"{self.trouble}; it is asked again in a moment")
            self._asked += 1
            said = self._pool.submit(
                self.endpoint.answer, asked, adapter=adapter, most=self._most, until=until
            )
        said.add_done_callback(self._ended)
        return said

    def _ended(self, said: Future[str]) -> None:
        with self._lock:
            self._asked -= 1

    def _failed(self, error: NotReached | ServerRefuses) -> NoAnswer:
        self.trouble = str(error)
        log.warning("endpoint.no_answer why=%r", self.trouble)
        return NoAnswer("failed", self.trouble)


def endpoint_of(settings: Settings) -> Endpoint | None:
    """The server that the settings name; None when the model is loaded here."""
    knobs = settings.serve
    if not knobs.endpoint:
        return None
    return Endpoint(
        Place(
            url=knobs.endpoint,
            kind=knobs.endpoint_kind,
            base=knobs.endpoint_base,
            adapters=knobs.endpoint_adapters or str(settings.adapters.absolute()),
            key=knobs.endpoint_key.get_secret_value(),
            timeout_s=knobs.endpoint_timeout_s,
            retries=knobs.endpoint_retries,
            at_once=knobs.endpoint_at_once,
        )
    )


@contextmanager
def asked_base(settings: Settings, base_hash: str, tokenizer: Any) -> Iterator[Elsewhere | None]:
    """The base that an evaluation asks at the endpoint; None when it asks one that is loaded here.

    Raises `NotReached`, `ServerRefuses`.
    """
    endpoint = endpoint_of(settings) if settings.serve.endpoint_evaluates else None
    if endpoint is None:
        yield None
        return
    try:
        yield Elsewhere.found(endpoint, base_hash, tokenizer)
    finally:
        endpoint.close()


def base_taken_for(settings: Settings) -> str | None:
    """The hash of the base that the endpoint is taken to serve: of the copy of training.base here.

    None without a copy, and for the offline ones, of which the endpoint may serve any.
    """
    knobs = settings.training
    folder = None if is_offline(settings) else base_here(knobs.base, knobs.revision)
    return fingerprint(folder) if folder else None


def _closing() -> NoAnswer:
    return NoAnswer("not served", "the service is closing")
