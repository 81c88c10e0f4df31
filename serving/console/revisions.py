"""What changed from one version of an incident to the next, field by field and word by word."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from ingest.incident import Incident

# Beyond it, lines are compared instead of words, and beyond that nothing: comparing costs a square.
MOST_WORDS = 1_500
LEAST_KEPT = 4  # characters between two changes
KEPT_AROUND = 120  # characters of what stayed the same, on either side of a change


@dataclass(frozen=True, slots=True)
class Span:
    """A run of text that stayed, went or came."""

    kind: Literal["same", "gone", "new"]
    text: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One field that changed."""

    field: str
    spans: list[Span]


def revisions(before: Incident, after: Incident) -> list[Revision]:
    """The fields that differ, in the record's order."""
    old, new = before.content(), after.content()
    return [
        Revision(field, _condensed(list(_spans(_text(old[field]), _text(new[field])))))
        for field in new
        if old[field] != new[field]
    ]


def _text(value: Any) -> str:
    """A field as lines: a list has a line an entry, a record its values."""
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_text(entry) for entry in value)
    if isinstance(value, dict):
        told = [f"{name}: {_text(v)}" for name, v in value.items() if v not in (None, "", [])]
        return "  ".join(told)
    return str(value)


def _spans(old: str, new: str) -> Iterator[Span]:
    for split in (_WORDS.findall, str.splitlines):
        one, other = split(old), split(new)
        joint = "\n" if split is str.splitlines else ""
        if len(one) <= MOST_WORDS and len(other) <= MOST_WORDS:
            yield from _compared(one, other, joint)
            return
    yield Span("gone", old)
    yield Span("new", new)


def _compared(old: list[str], new: list[str], joint: str) -> Iterator[Span]:
    gone = came = ""
    steps = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for n, (step, i, i_end, j, j_end) in enumerate(steps, start=1):
        one = "".join(part + joint for part in old[i:i_end])
        other = "".join(part + joint for part in new[j:j_end])
        # Two changes with next to nothing between them read as one.
        between = 1 < n < len(steps) and len(one.strip()) <= LEAST_KEPT
        if step == "equal" and not between:
            yield from _changed(gone, came)
            gone = came = ""
            yield Span("same", one)
        else:
            gone, came = gone + one, came + other
    yield from _changed(gone, came)


def _changed(gone: str, came: str) -> Iterator[Span]:
    if gone:
        yield Span("gone", gone)
    if came:
        yield Span("new", came)


def _condensed(spans: list[Span]) -> list[Span]:
    """The same, with what stayed cut to the neighbourhood of a change."""
    last = len(spans) - 1
    return [
        Span("same", _cut(span.text, first=n == 0, last=n == last)) if span.kind == "same" else span
        for n, span in enumerate(spans)
    ]


def _cut(text: str, *, first: bool, last: bool) -> str:
    if len(text) <= 2 * KEPT_AROUND + 20:
        return text
    head = "" if first else text[:KEPT_AROUND]
    tail = "" if last else text[-KEPT_AROUND:]
    return f"{head} … {tail}"


_WORDS = re.compile(r"\s+|[^\s\w]|\w+")
