"""Calls to a model server over HTTP: in time, made again where that may help, told in one line.

    NotReached              (Unavailable) nobody is there, or too slow or too busy for this call
      TooSlow               it did not answer within the time
      ServerFailed          it answered that it failed
    ServerRefuses           (Refused) the server answered, and would say the same again
      NoSuchModel           it serves no model or adapter of this name
      TooLong               the question does not fit into its context

httpx, which is here anyway: the openai package tries again by rules of its own, and knows neither
adapters nor how likely a given answer is. Nothing is read from the environment (no proxy, no
netrc), no redirect is followed, and the key stands in no message and in no log.
"""

import json
import logging
import random
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingest.errors import Refused, Unavailable
from training.soundness import first_line

log = logging.getLogger(__name__)

CONNECT_S = 2.0  # a machine that is there takes a connection within it
FIRST_WAIT_S = 0.25  # before the second attempt; doubled each time, up to `LONGEST_WAIT_S`
LONGEST_WAIT_S = 5.0
MOST_READ = 32 * 2**20  # bytes of one answer: the likelihoods of a batch are a few
AGAIN = {429, 502, 503, 504}
_CONTEXT = ("context length", "context_length", "context size", "context window", "max_model_len",
            "maximum model length")  # fmt: skip
_NAMES = ("model", "adapter", "lora")
_SHARED = 24  # characters in a row that a message has in common with what was asked


class NotReached(Unavailable):
    """Nobody is there, or too slow or too busy for this call."""


class TooSlow(NotReached):
    """It did not answer within the time."""


class ServerFailed(NotReached):
    """It answered that it failed; `said` are its own words."""

    def __init__(self, sentence: str, said: str) -> None:
        super().__init__(sentence)
        self.said = said


class ServerRefuses(Refused):
    """The server answered, and would say the same again; `said` are its own words."""

    def __init__(self, sentence: str, said: str = "", status: int = 0) -> None:
        super().__init__(sentence)
        self.said = said
        self.status = status


class NoSuchModel(ServerRefuses):
    """It serves no model or adapter of this name."""


class TooLong(ServerRefuses):
    """The question does not fit into its context."""


class ModelServer:
    """The server at `url`, which ends in `/v1`; used by many threads.

    `until` of a call is a moment of `time.monotonic()`: every attempt and every wait ends by then.
    """

    def __init__(
        self, url: str, *, key: str = "", retries: int = 2, first_wait_s: float = FIRST_WAIT_S
    ) -> None:
        """Raises `Refused` for an address or a key that is none."""
        self.root = checked(url).removesuffix("/v1")
        self.retries = retries
        self._key = key.strip()
        self._first_wait_s = first_wait_s
        if not (self._key.isascii() and (self._key.isprintable() or not self._key)):
            # httpx would quote it in its complaint.
            raise Refused("the endpoint's key holds characters that no HTTP header can carry")

    def get(self, path: str, *, until: float) -> Any:
        """What `GET path` answers, as JSON, or as text where it is none."""
        return self._call("GET", path, {}, until)

    def post(self, path: str, content: Mapping[str, Any], *, until: float) -> Any:
        """What `POST path` answers to this JSON."""
        return self._call("POST", path, content, until)

    def upload(self, path: str, file: Path, *, until: float) -> None:
        """`POST path` with the bytes of a file, once."""
        status, _, body = self._once("POST", path, until, content=file.read_bytes())
        self._understood(path, status, body, {})

    def close(self) -> None:
        """End every call that is on."""
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _client(self) -> Any:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        # The machine's own certificates: a server in the house has seldom a public one.
        return httpx.Client(
            headers=headers, verify=ssl.create_default_context(), trust_env=False,
            follow_redirects=False,
        )  # fmt: skip

    def _call(self, method: str, path: str, content: Mapping[str, Any], until: float) -> Any:
        import httpx

        sent = {"json": dict(content)} if method == "POST" else {}
        attempt = 0
        while True:
            asked_s: float | None = None  # how long the server asks to wait
            try:
                status, headers, body = self._once(method, path, until, **sent)
                if status not in AGAIN:
                    return self._understood(path, status, body, content)
                why = f"answers {status}"
                asked_s = _asked_s(headers.get("retry-after"))
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
                why = f"is not reached ({first_line(error)})"
            except httpx.TimeoutException:
                raise TooSlow(f"{self.root} took too long to answer {path}") from None
            except httpx.HTTPError as error:
                raise NotReached(f"{self.root} {path}: {first_line(error)}") from None
            wait_s = self._wait_s(attempt) if asked_s is None else asked_s
            if attempt == self.retries or time.monotonic() + wait_s >= until:
                raise NotReached(f"{self.root} {why}{_times(attempt + 1)}")
            attempt += 1
            log.info("endpoint.again path=%s attempt=%d why=%r", path, attempt, why)
            time.sleep(wait_s)

    def _once(
        self, method: str, path: str, until: float, **sent: Any
    ) -> tuple[int, Mapping[str, str], bytes]:
        import httpx

        left = until - time.monotonic()
        if left <= 0:
            raise TooSlow(f"no time was left to ask {self.root} {path}")
        if self._client.is_closed:
            raise NotReached(f"{self.root} is asked no more: this process is ending")
        limits = httpx.Timeout(left, connect=min(CONNECT_S, left))
        with self._client.stream(method, self.root + path, timeout=limits, **sent) as answer:
            body = b""
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > MOST_READ:
                    raise ServerRefuses(f"{self.root} {path} answers more than {MOST_READ} bytes")
                if time.monotonic() > until:
                    raise httpx.ReadTimeout("it dribbles")
            return answer.status_code, answer.headers, body

    def _understood(self, path: str, status: int, body: bytes, asked: Mapping[str, Any]) -> Any:
        """The answer's JSON, or text; the error that it stands for, where it stands for one."""
        text = body.decode(errors="replace")
        try:
            told = json.loads(text)
        except ValueError:
            told = text
        if status < 300:
            return told
        said = _said(told)
        quoted = f": {said}" if said and not _repeats(said, asked) else ""
        where = f"{self.root} {path}"
        if status < 400:
            raise ServerRefuses(f"{where} sends elsewhere ({status}), which is not followed; "
                                "set serve.endpoint to where the server is")  # fmt: skip
        if status in (401, 403):
            raise ServerRefuses(f"{where} takes no call without the right key ({status}); "
                                "set SCARWISE_SERVE_ENDPOINT_KEY", said)  # fmt: skip
        if any(words in said.lower() for words in _CONTEXT):
            raise TooLong(
                f"the question does not fit into the context of {self.root}{quoted}", said
            )
        if status == 404 and any(word in said.lower() for word in _NAMES):
            raise NoSuchModel(
                f"{where} knows no {asked.get('model', 'such model')!r}{quoted}", said
            )
        if status >= 500 and status != 501:
            raise ServerFailed(f"{where} failed ({status}){quoted}", said)
        raise ServerRefuses(f"{where} refuses ({status}){quoted}", said, status)

    def _wait_s(self, attempt: int) -> float:
        # Spread, so that many who were turned away together do not come back together.
        longest = min(self._first_wait_s * 2.0**attempt, LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1.0)


def checked(url: str) -> str:
    """The address without a slash at its end. Raises `Refused` unless it is http(s) and `/v1`."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise Refused("serve.endpoint holds a password; give it as SCARWISE_SERVE_ENDPOINT_KEY")
    found = url.rstrip("/")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise Refused("serve.endpoint is no address of a server; write http://HOST:PORT/v1")
    if not found.endswith("/v1"):
        raise Refused("serve.endpoint does not end in /v1; write http://HOST:PORT/v1")
    return found


def _asked_s(header: str | None) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as a date."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _said(told: Any) -> str:
    """The server's own words, one line: each server puts them elsewhere."""
    for _ in range(3):
        if isinstance(told, dict):
            told = told.get("error") or told.get("message") or told.get("detail") or ""
    return " ".join(str(told).split())[:200]


def _repeats(said: str, asked: Mapping[str, Any]) -> bool:
    """Whether its words hold some of ours: what was asked belongs into no log."""
    ours = json.dumps(asked.get("messages", ""), ensure_ascii=False)
    starts = range(0, len(said) - _SHARED + 1, 4)
    return any(said[n : n + _SHARED] in ours for n in starts)


def _times(count: int) -> str:
    return f", {count} times" if count > 1 else ""
