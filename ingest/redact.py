"""Secrets and personal data leave the text before anything is written."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ingest.incident import Incident
from ingest.sensitive import formats, names, personal, places
from ingest.sensitive.spans import PLACEHOLDER, Page, Span, settled
from ingest.sensitive.values import is_random

_OURS = {"id", "version", "status", "trust", "recorded_at", "known_at"}
_PERSONAL = frozenset({"EMAIL", "PHONE", "CARD", "IBAN", "IP", "PERSON"})
# What is hidden may uncover what stood beside it: two or three readings are usual, and a text made
# to uncover one thing after another must come to an end.
_MOST_READINGS = 30
_WORTH_FOLLOWING = 8  # characters: a shorter secret may be an ordinary word elsewhere
_GAP = "\n<GAP:0>\n"  # no finder matches across a placeholder


@dataclass(frozen=True, slots=True)
class Redacted:
    """An incident that may be kept, and how many things of each kind were taken out of it."""

    incident: Incident
    counts: dict[str, int]


def redact(incident: Incident, *, ips: bool = False) -> Redacted:
    """The incident with placeholders such as ``<AWS_KEY:1>`` for what must not be kept.

    The same value gets the same placeholder in every field, and a secret that was told by its
    surroundings once is hidden wherever else it stands. Redacting twice changes nothing and counts
    nothing. `source` and `source_id` keep their uniqueness: see `identity`. Where placeholders make
    a field longer than it may be, its end is cut and marked with ``…``, counted as ``CUT``.
    """
    record = incident.model_dump(exclude=_OURS)
    people = _people(incident)
    everything = _GAP.join(_lines(record))
    if not people and not _found(everything, ips=ips):
        return Redacted(incident, {})

    redactor = Redactor(ips=ips, people=people, reserved=everything)
    record = _rewritten(record, redactor)
    # What a later field told to be a secret may stand bare in an earlier one.
    record = {key: _mapped(value, redactor.without_known) for key, value in record.items()}
    kept = _fitted({**incident.model_dump(include=_OURS), **record}, redactor)
    return Redacted(kept, dict(sorted(redactor.counts.items())))


def redact_text(text: str, *, ips: bool = False) -> tuple[str, dict[str, int]]:
    """A text that may be kept, and how many things of each kind were taken out of it."""
    redactor = Redactor(ips=ips, reserved=text)
    text = redactor.without_known(redactor.text(text))
    return text, dict(sorted(redactor.counts.items()))


def identity(name: str, *, ips: bool = False) -> str:
    """A `source` or `source_id` as it is kept: itself, or a digest where it holds a secret.

    It depends on nothing but the name, so that the same record is found again.
    """
    if not _found(name, ips=ips):
        return name
    return f"redacted-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class Redactor:
    """The placeholders of one incident, and the tally of what they replaced.

    It holds the values themselves: it lives as long as one call of `redact`, and is never kept.
    """

    def __init__(
        self, *, ips: bool = False, people: list[str] | None = None, reserved: str = ""
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._ips = ips
        self._people = personal.people_pattern(people or [])
        self._taken = set(PLACEHOLDER.findall(reserved))
        self._last: Counter[str] = Counter()
        self._placeholders: dict[str, str] = {}
        self._followed: dict[str, str] = {}

    def text(self, text: str) -> str:
        """The text with nothing left in it that any finder finds."""
        for _ in range(_MOST_READINGS):
            spans = _found(text, ips=self._ips, people=self._people)
            if not spans:
                break
            text = self._replaced(text, spans)
        return text

    def without_known(self, text: str) -> str:
        """A redacted text without the secrets told elsewhere: `the old one, Tr0ub4dor, works`."""
        before = text
        for value, placeholder in self._followed.items():
            if value in text:
                self.counts[placeholder[1:].partition(":")[0]] += text.count(value)
                text = text.replace(value, placeholder)
        return text if text == before else self.text(text)

    def named(self, name: str, text: str) -> str:
        """The text of a label: its name may say that it is a secret, or a person."""
        text = self.text(text)
        kind = names.kind_of(name, text)
        if kind:
            return self._placeholder(kind, text)
        return self.author(text) if personal.is_person_label(name) else text

    def identity(self, name: str) -> str:
        """A `source` or `source_id` as it is kept, its findings counted."""
        kept = identity(name, ips=self._ips)
        if kept != name:
            self.text(name)
        return kept

    def author(self, line: str) -> str:
        """An author line with the person in it replaced; teams, tools and roles stay."""
        line = self.text(line)
        for name in personal.names_in(Page.of(line).text):
            line = line.replace(name, self._placeholder("PERSON", name), 1)
        return line

    def _replaced(self, text: str, spans: list[Span]) -> str:
        pieces, at = [], 0
        for start, end, kind in spans:
            pieces += [text[at:start], self._placeholder(kind, text[start:end])]
            at = end
        return "".join([*pieces, text[at:]])

    def _placeholder(self, kind: str, value: str) -> str:
        """The one placeholder of this value; numbers already used in the text stay free."""
        self.counts[kind] += 1
        same = _same(kind, value)
        if same not in self._placeholders:
            self._placeholders[same] = self._next(kind)
            if kind not in _PERSONAL and is_random(value, _WORTH_FOLLOWING):
                self._followed[value] = self._placeholders[same]
        return self._placeholders[same]

    def _next(self, kind: str) -> str:
        while True:
            self._last[kind] += 1
            placeholder = f"<{kind}:{self._last[kind]}>"
            if placeholder not in self._taken:
                return placeholder


def _same(kind: str, value: str) -> str:
    """What two spellings of one value have in common."""
    if kind == "PERSON":
        return "PERSON " + " ".join(sorted(re.findall(r"\w+", value.lower().replace("_", " "))))
    if kind in ("EMAIL", "IP"):
        return value.lower().replace("%40", "@")
    if kind in ("PHONE", "CARD", "IBAN"):
        return re.sub(r"[^0-9A-Za-z]", "", value)
    return value


def _found(text: str, *, ips: bool = False, people: re.Pattern[str] | None = None) -> list[Span]:
    """What the first family of finders that finds anything finds; the rest read on without it.

    So a key in ``password=ghp_…`` is a GITHUB_TOKEN, and ``user:pw@example.com`` in a URL is not an
    e-mail address.
    """
    page = Page.of(text)
    return (
        settled(formats.find(page), page)
        or settled([*places.find(page), *names.find(page)], page)
        or settled(personal.find(page, ips=ips), page)
        or settled(personal.find_people(page, people), page)
    )


def _people(incident: Incident) -> list[str]:
    """Whom the ticket itself names: authors of updates, and labels such as `assignee`."""
    lines = [u.author for u in incident.updates if u.author]
    lines += [v for k, v in incident.labels.items() if v and personal.is_person_label(k)]
    return list(
        dict.fromkeys(name for line in lines for name in personal.names_in(Page.of(line).text))
    )


def _lines(record: dict[str, Any]) -> Iterator[str]:
    """Every text of the record; labels also as ``name="text"``."""
    yield from _strings(list(record.values()))
    for name, text in record["labels"].items():
        yield name
        yield names.as_pair(name, text or "")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))


def _rewritten(record: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """The record with every text redacted, in the order of its fields."""
    special: dict[str, Callable[[Any], Any]] = {
        "source": redactor.identity,
        "source_id": redactor.identity,
        "labels": lambda labels: {
            redactor.text(k): t and redactor.named(k, t) for k, t in labels.items()
        },
        "updates": lambda updates: [_update(update, redactor) for update in updates],
    }
    return {
        key: special[key](value) if key in special else _mapped(value, redactor.text)
        for key, value in record.items()
    }


def _update(update: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    author = update["author"] and redactor.author(update["author"])
    return {**update, "text": redactor.text(update["text"]), "author": author}


def _mapped(value: Any, write: Callable[[str], str]) -> Any:
    """The same lists and records with every text rewritten; keys stay."""
    if isinstance(value, str):
        return write(value)
    if isinstance(value, list):
        return [_mapped(item, write) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, write) for key, item in value.items()}
    return value


def _fitted(record: dict[str, Any], redactor: Redactor) -> Incident:
    """The record as an incident; a field that placeholders made too long loses its end, visibly."""
    while True:
        try:
            return Incident.model_validate(record)
        except ValidationError as refused:
            errors = refused.errors(include_input=False)
            too_long = [e for e in errors if e["type"] in ("string_too_long", "too_long")]
            if not too_long:
                raise
            for error in too_long:
                _cut(record, error["loc"], error["ctx"]["max_length"], redactor)


def _cut(
    record: dict[str, Any], where: tuple[int | str, ...], longest: int, redactor: Redactor
) -> None:
    """Shorten the text at this place of the record, between placeholders, and mark the cut."""
    redactor.counts["CUT"] += 1
    if where[-1] == "[key]":
        labels = record["labels"]
        labels[_shortened(str(where[-2]), longest, redactor)] = labels.pop(where[-2])
        return
    holder: Any = record
    for step in where[:-1]:
        holder = holder[step]
    holder[where[-1]] = _shortened(holder[where[-1]], longest, redactor)


def _shortened(text: str, longest: int, redactor: Redactor) -> str:
    room = longest - 1
    while True:
        short = re.sub(r"<[A-Z0-9_]*:?\d*\Z", "", text[:room]).rstrip() + "…"
        clean = redactor.text(short)
        if len(clean) <= longest:
            return clean
        room -= len(clean) - longest
