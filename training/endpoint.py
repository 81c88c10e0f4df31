"""A base and its adapters at an OpenAI-compatible server, asked as `training.model` asks them here.

The same prompt, greedy, in the agreed JSON form; vLLM, llama.cpp and Ollama, see `hosts`. What the
base there is, nobody can tell from afar: it is known by the name that the server lists, and taken
for the base that `training.base` names here.
"""

import json
import logging
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from retrieval.prompt import Prompt, grammar, middle_cut, prompt
from training.batches import LONGEST, Item, apart, tokenised
from training.calls import ModelServer, NoSuchModel, NotReached, ServerRefuses, TooLong
from training.hosts import Host, Kind, LlamaCpp, Ollama, Vllm, kind_of, models

log = logging.getLogger(__name__)
T = TypeVar("T")

# What templates know as the end of a turn or the beginning of another's: written in a log, it would
# be read as the template's own. Here the tokenizer names them (`batches`), a server does not.
_MARKS = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|</?(?:s|think|bos|eos|start_of_turn|end_of_turn)>"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS)\]|<</?SYS>>"
)
SHARES = (1.0, 0.6, 0.35)  # of a question that does not fit, its middle cut
SMOKE_TOKENS = 16
_PLAIN = {"enable_thinking": False}
UNKNOWN_FIELD = (400, 415, 422, 501)  # how a server refuses a part of a question
ROWS_AT_ONCE = 8  # whose likelihoods are asked in one call: some hundred KiB each


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is and how it is asked; `adapters` is the path under which it sees ours."""

    url: str
    kind: Kind | Literal["auto"] = "auto"
    base: str = ""  # its name there; empty: the only one that is served
    adapters: str = ""
    key: str = field(default="", repr=False)
    timeout_s: float = 60.0  # one answer, with every attempt at it
    retries: int = 2
    at_once: int = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What was found at the server; `context` is in tokens, None where it does not say."""

    host: Host
    base: str
    context: int | None

    @property
    def told(self) -> str:
        """What is known of who answers: `vllm base-model`."""
        return f"{self.host.kind} {self.base}"


class Endpoint:
    """The model at this place; asked by many threads, nothing before it is first needed.

    An adapter that was taken and is gone, because the server was restarted, is loaded once more.
    Everything raises `NotReached` or `ServerRefuses`, see `calls`.
    """

    def __init__(self, place: Place) -> None:
        """Raises `Refused` for an address that is none."""
        self.place = place
        self.server = ModelServer(place.url, key=place.key, retries=place.retries)
        self.takes_form: bool | None = None  # None: nobody asked yet
        self._found: Found | None = None
        self._taken: dict[str, Path] = {}
        # Threads that miss one adapter at one moment must not load it side by side.
        self._loading = threading.Lock()

    def until(self) -> float:
        """The moment by which what is begun now has to end."""
        return time.monotonic() + self.place.timeout_s

    def found(self, until: float | None = None) -> Found:
        """What the server is and which base it serves, asked once."""
        if self._found is None:
            self._found = self._look(until or self.until())
        return self._found

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | None,
        max_new_tokens: int = 96,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """The likeliest answer to each prompt, in order; some are asked side by side."""

        def one(asked: Prompt) -> str:
            return self.answer(asked, adapter=adapter, most=max_new_tokens, until=self.until())

        return self._side_by_side(one, prompts, progress)

    def answer(self, asked: Prompt, *, adapter: str | None, most: int, until: float) -> str:
        """The likeliest answer; a question that does not fit is asked again, its middle cut."""
        asked = replace(asked, user=_MARKS.sub(lambda m: apart(m[0]), asked.user))
        for share in SHARES:
            shorter = replace(asked, user=middle_cut(asked.user, int(len(asked.user) * share)))
            try:
                return self._answer(shorter.messages(), shorter, adapter, most, until)
            except TooLong as error:
                too_long = error
            except ServerRefuses as error:
                if "system role" not in error.said.lower():
                    raise
                return self._answer(shorter.in_one_message(), shorter, adapter, most, until)
        raise too_long

    def nll(
        self, prompts: Sequence[Prompt], answers: Sequence[str], *, adapter: str | None,
        tokenizer: Any,
    ) -> list[float]:  # fmt: skip
        """As `training.model.nll`: nats a token of each answer, NaN where one does not fit.

        Asked in token ids, so that it counts the very tokens that training does. Raises
        `ServerRefuses` where the server tells no likelihoods.
        """
        context = self.found().context
        room = min(LONGEST, context - 1 if context else LONGEST)
        pairs = zip(prompts, answers, strict=True)
        rows = [tokenised(tokenizer, asked, said, room) for asked, said in pairs]
        told = [n for n, row in enumerate(rows) if not row.lost]
        batches = [told[n : n + ROWS_AT_ONCE] for n in range(0, len(told), ROWS_AT_ONCE)]
        found = [math.nan] * len(rows)

        def some(batch: list[int]) -> list[float]:
            return self._surprises([rows[n] for n in batch], adapter)

        for batch, values in zip(batches, self._side_by_side(some, batches), strict=True):
            for n, value in zip(batch, values, strict=True):
                found[n] = value
        return found

    def take(self, name: str, folder: Path, *, until: float | None = None) -> bool:
        """See to it that this adapter is there, listed, and answers; whether it was not before.

        Raises `ServerRefuses` when the server has another one under this name.
        """
        until = until or self.until()
        known = self.found(until)
        is_new = name not in known.host.adapters(until)
        known.host.load(name, folder, until)
        self._taken[name] = folder
        self._answer(prompt("warm-up").messages(), prompt("warm-up"), name, SMOKE_TOKENS, until)
        return is_new

    def drop(self, name: str) -> None:
        """Let this adapter go there; what the server says against it is only logged."""
        self._taken.pop(name, None)
        try:
            self.found().host.unload(name, self.until())
        except (ServerRefuses, NotReached) as error:
            log.warning("endpoint.not_unloaded model=%s why=%r", name, str(error))

    def keeps_form(self, until: float | None = None) -> bool:
        """Whether the base there is held to a JSON schema: to a word that it cannot guess."""
        until = until or self.until()
        word = secrets.token_hex(4)
        schema = {
            "type": "object", "properties": {"word": {"const": word}}, "required": ["word"],
            "additionalProperties": False,
        }  # fmt: skip
        asked = [{"role": "user", "content": "Say a word, in JSON."}]
        text = self._formed(_content(asked, 64), schema, None, until)
        try:
            return bool(json.loads(text) == {"word": word})
        except ValueError:
            return False

    def close(self) -> None:
        self.server.close()

    def _look(self, until: float) -> Found:
        listed = models(self.server, until)
        kind = kind_of(listed, self.server.root) if self.place.kind == "auto" else self.place.kind
        base = _base(listed, kind, self.place.base, self.server.root)
        return Found(self._host(kind, base["id"]), base["id"], base.get("max_model_len"))

    def _host(self, kind: Kind, base: str) -> Host:
        if kind == "vllm":
            return Vllm(self.server, self.place.adapters)
        return LlamaCpp(self.server) if kind == "llama.cpp" else Ollama(self.server, base)

    def _answer(
        self,
        messages: list[dict[str, str]],
        asked: Prompt,
        adapter: str | None,
        most: int,
        until: float,
    ) -> str:
        schema = asked.form or grammar(asked.task, len(asked.precedents))
        return self._formed(_content(messages, most), schema, adapter, until)

    def _formed(
        self, content: Mapping[str, Any], schema: dict[str, Any], adapter: str | None, until: float
    ) -> str:
        """The answer, held to the schema where the server does that."""
        form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        if self.takes_form is not False:
            try:
                text = self._text({**content, "response_format": form}, adapter, until)
            except ServerRefuses as error:
                if error.status not in UNKNOWN_FIELD:
                    raise
                # What is refused without a form too was not refused for its form.
                text = self._text(content, adapter, until)
                log.warning("endpoint.no_form why=%r", error.said)
                self.takes_form = False
                return text
            self.takes_form = True
            return text
        return self._text(content, adapter, until)

    def _text(self, content: Mapping[str, Any], adapter: str | None, until: float) -> str:
        kind = self.found(until).host.kind
        # As in training: an answer begins at once, also of a model that would think aloud before.
        plain = (
            {"reasoning_effort": "none"} if kind == "ollama" else {"chat_template_kwargs": _PLAIN}
        )
        told = self._asked("/v1/chat/completions", {**content, **plain}, adapter, until)
        try:
            text = told["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise self._strange("no answer of the chat API") from None
        if adapter and kind == "vllm" and told.get("model") != adapter:
            raise self._strange(f"{told.get('model')} where {adapter} was asked")
        return str(text or "").strip()

    def _surprises(self, rows: Sequence[Item], adapter: str | None) -> list[float]:
        content = {
            "prompt": [row.ids for row in rows], "max_tokens": 1, "temperature": 0,
            "prompt_logprobs": 1,
        }  # fmt: skip
        told = self._asked("/v1/completions", content, adapter, self.until())
        try:
            choices = sorted(told["choices"], key=lambda choice: int(choice["index"]))
            pairs = zip(rows, choices, strict=True)
            return [_surprise(row, choice["prompt_logprobs"]) for row, choice in pairs]
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._strange("no likelihoods of what it is given") from None

    def _asked(
        self, path: str, content: Mapping[str, Any], adapter: str | None, until: float
    ) -> Any:
        """The server's answer; an adapter that it forgot is loaded again, once."""

        def ask() -> Any:
            known = self.found(until)
            chosen = known.host.chosen(known.base, adapter, until)
            return self.server.post(path, {**content, **chosen}, until=until)

        try:
            return ask()
        except NoSuchModel:
            if adapter is None or adapter not in self._taken:
                raise
            self._again(adapter, until)
            return ask()

    def _again(self, adapter: str, until: float) -> None:
        log.warning("endpoint.forgot model=%s", adapter)
        with self._loading:
            # It was restarted, so perhaps with another base, or with other switches.
            self._found, self.takes_form = self._look(until), None
            self._found.host.load(adapter, self._taken[adapter], until)

    def _strange(self, what: str) -> ServerRefuses:
        return ServerRefuses(f"{self.server.root} gives {what}")

    def _side_by_side(
        self,
        act: Callable[[Any], T],
        things: Sequence[Any],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[T]:
        found = []
        with ThreadPoolExecutor(self.place.at_once, thread_name_prefix="endpoint") as pool:
            try:
                for said in pool.map(act, things):
                    found.append(said)
                    if progress:
                        progress(len(found), len(things))
            except (ServerRefuses, NotReached):
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found


def _content(messages: list[dict[str, str]], most: int) -> dict[str, Any]:
    return {
        "messages": messages, "temperature": 0, "seed": 0, "max_tokens": most, "stream": False
    }  # fmt: skip


def _surprise(row: Item, told: Sequence[Mapping[str, Any]]) -> float:
    places = range(row.prompt, len(row.ids))
    logprobs = [float(told[n][str(row.ids[n])]["logprob"]) for n in places]
    return -sum(logprobs) / len(logprobs)


def _base(listed: list[dict[str, Any]], kind: Kind, named: str, root: str) -> dict[str, Any]:
    """The entry of the base in what the server lists."""
    bases = [m for m in listed if not m.get("parent")]
    wanted = {named, f"{named}:latest"} if kind == "ollama" else {named}
    found = [m for m in bases if m["id"] in wanted] if named else bases
    if len(found) == 1:
        return found[0]
    there = ", ".join(str(m["id"]) for m in bases[:5]) or "nothing"
    if named:
        raise NoSuchModel(f"{root} serves no {named!r} but {there}; set serve.endpoint_base")
    raise ServerRefuses(f"{root} serves {there}: say in serve.endpoint_base which is the base")
