"""The refusal: what is wrong with one record, said to the person who can mend it."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ingest.incident import Action, Evidence, Incident, Update, visible

MOST_FAULTS = 4  # named in one refusal; a record with more of them is another format altogether
LONGEST_QUOTE = 60

_FIELDS = {
    "updates": list(Update.model_fields),
    "actions": list(Action.model_fields),
    "evidence": list(Evidence.model_fields),
}
_TIME = "expected an ISO 8601 time such as 2026-03-01T10:00:00Z"
_EXPECTED = {
    "string": "expected text",
    "list": "expected a list",
    "dict": "expected an object of names and texts",
    "model": "expected an object with a `text`",
    "bool": "expected true or false",
    "int": "expected a whole number",
    "datetime": _TIME,
    "date": _TIME,
    "time": _TIME,
    "timezone": _TIME,
    "value": _TIME,  # the only bare ValueError of a type here: a time outside the calendar
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record that did not go in, or (`skipped`) one file that was never claimed to hold any."""

    path: str
    line: int | None
    field: str | None
    why: str
    skipped: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return ": ".join(part for part in (place, self.field, self.why) if part)


@dataclass(frozen=True, slots=True)
class Fault:
    """One field that is wrong, and what was expected there."""

    field: str | None
    why: str


def faults(error: ValidationError) -> list[Fault]:
    """What is wrong with an incident, one sentence per field, unknown names first.

    A misspelt name causes both an unknown and a missing field; the first is the one to mend.
    """
    told = error.errors(include_url=False)
    found = [_fault(e["type"], e["loc"], e["input"], e.get("ctx", {})) for e in told]
    return sorted(found, key=lambda fault: "not a field" not in fault.why)


def in_one_sentence(found: Sequence[Fault]) -> Fault:
    """The first fault, with the others told behind it."""
    first, *others = found
    also = "".join(f"; also {fault.field}: {fault.why}" for fault in others[: MOST_FAULTS - 1])
    more = f"; and {len(found) - MOST_FAULTS} more" if len(found) > MOST_FAULTS else ""
    return Fault(first.field, first.why + also + more)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that this one was probably meant to be."""
    close = difflib.get_close_matches(name.lower()[:100], list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def quoted(value: Any) -> str:
    """A short, harmless picture of a value, for a sentence that says `got ...`."""
    if isinstance(value, str):
        text = " ".join(visible(value).split())
        if not text:
            return "an empty text"
        return f"'{text}'" if len(text) <= LONGEST_QUOTE else f"'{text[:LONGEST_QUOTE]}…'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)[:LONGEST_QUOTE] if abs(value) < 1e300 else "a huge number"
    names = {dict: "an object", list: "a list", type(None): "nothing"}
    return names.get(type(value), f"a {type(value).__name__}")


def _fault(kind: str, loc: tuple[int | str, ...], value: Any, ctx: dict[str, Any]) -> Fault:
    field = _place(loc)
    if kind == "missing":
        needed = f"missing; every incident needs a {field}"
        return Fault(field, needed if len(loc) == 1 else "missing")
    if kind == "extra_forbidden":
        return Fault(field, _unknown(loc))
    if kind == "literal_error":
        return Fault(field, f"expected one of {ctx['expected']}, got {quoted(value)}")
    if kind in ("string_too_long", "too_long") and isinstance(value, str):
        return Fault(field, f"at most {ctx['max_length']} characters, got {len(value)}; shorten it")
    if kind == "too_long":
        got = ctx.get("actual_length") or len(value)
        return Fault(field, f"at most {ctx['max_length']} of them, got {got}")
    if kind == "value_error" and not loc:
        return Fault("resolved_at", str(ctx["error"]).removeprefix("resolved_at "))
    if kind == "string_type" and value is None:
        return Fault(field, "expected text, got nothing")
    expected = _EXPECTED.get(kind.split("_")[0], "expected something else")
    return Fault(field, f"{expected}, got {quoted(value)}")


def _place(loc: tuple[int | str, ...]) -> str | None:
    """`updates[3].at` for where pydantic says the fault is."""
    place = ""
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part != "[key]":
            place += f".{visible(part)[:LONGEST_QUOTE]}" if place else visible(part)[:LONGEST_QUOTE]
    return place or None


def _unknown(loc: tuple[int | str, ...]) -> str:
    known = _FIELDS.get(str(loc[0]), []) if len(loc) > 1 else list(Incident.model_fields)
    meant = nearest(str(loc[-1]), known)
    if meant:
        return f"not a field of an incident; did you mean {meant!r}?"
    return f"not a field here; known are {', '.join(known)}. Put it under labels, or leave it out"
