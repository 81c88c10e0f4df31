"""The incident: the record that every room speaks."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ingest.errors import Refused

LONGEST_TEXT = (
    200_000  # characters: a postmortem with its pasted logs; longer belongs in evidence elsewhere
)
LONGEST_LINE = 2_000
MOST_UPDATES = 2_000
CLOCK_SKEW = timedelta(minutes=10)

# Invisible on screen, visible to a model or a terminal: zero-width, bidi overrides, tags, BOM.
# Not the joiners U+200C and U+200D, which emoji and several scripts are written with.
_HIDDEN = re.compile(
    "[\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\U000e0000-\U000e007f\ud800-\udfff\x80-\x9f]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def visible(text: str) -> str:
    """The same text with nothing hidden in it: control characters become their Unicode pictures.

    A NUL becomes ``␀`` and an escape ``␛``, so that nothing is lost, PostgreSQL can hold it and a
    terminal does not obey it; zero-width, direction and C1 control characters become ``�``.
    """
    text = _CONTROL.sub(lambda m: "␡" if m[0] == "\x7f" else chr(0x2400 + ord(m[0])), text)
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))


def _tidy(value: Any) -> Any:
    """Blank text is absent text."""
    if isinstance(value, str):
        return visible(value).strip() or None
    return value


def _as_utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time is outside the calendar (years 1 to 9999)") from None


def _as_list(value: Any) -> Any:
    return [] if value is None else value


def _as_dict(value: Any) -> Any:
    return {} if value is None else value


def _from_text(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_tidy), Field(min_length=1, max_length=LONGEST_TEXT)]
Line = Annotated[str, BeforeValidator(_tidy), Field(min_length=1, max_length=LONGEST_LINE)]
Name = Annotated[str, BeforeValidator(_tidy), Field(min_length=1, max_length=200)]
OptionalText = Annotated[
    Annotated[str, Field(max_length=LONGEST_TEXT)] | None, BeforeValidator(_tidy)
]
OptionalLine = Annotated[
    Annotated[str, Field(max_length=LONGEST_LINE)] | None, BeforeValidator(_tidy)
]
OptionalName = Annotated[Annotated[str, Field(max_length=200)] | None, BeforeValidator(_tidy)]
Moment = Annotated[datetime, AfterValidator(_as_utc)]

# What other tools call it, in our four words.
STATUS_WORDS = {
    "open": "open", "new": "open", "firing": "open", "triggered": "open", "investigating": "open",
    "identified": "open", "active": "open", "in progress": "open", "work in progress": "open",
    "on hold": "open", "pending": "open", "to do": "open", "reopened": "open", "assigned": "open",
    "acknowledged": "acknowledged", "mitigated": "mitigated", "monitoring": "mitigated",
    "resolved": "resolved", "closed": "resolved", "done": "resolved", "completed": "resolved",
    "fixed": "resolved", "recovered": "resolved", "ok": "resolved", "cancelled": "resolved",
    "canceled": "resolved", "postmortem": "resolved",
}  # fmt: skip


def _status_word(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return STATUS_WORDS.get(value.strip().lower().replace("_", " "), value)


Status = Annotated[
    Literal["open", "acknowledged", "mitigated", "resolved"], BeforeValidator(_status_word)
]
Trust = Literal["trusted", "quarantined"]


class Record(BaseModel):
    """Frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Update(Record):
    """What somebody wrote while the incident ran."""

    text: Text
    at: Moment | None = None
    author: OptionalName = None


class Action(Record):
    """What was done, and whether it held; `held` is None where nobody said."""

    text: Text
    held: bool | None = None
    at: Moment | None = None


class Evidence(Record):
    """An excerpt of what the machines said."""

    text: Text
    kind: Literal["log", "metric", "trace", "topology", "alert", "config", "other"] = "log"
    source: OptionalLine = None
    at: Moment | None = None


class Incident(Record):
    """One incident as its source tells it; a time without an offset is read as UTC.

    `id`, `version` and `recorded_at` belong to the store, which sets them; values sent are
    ignored, so that an incident read from the API can be edited and sent back.
    """

    source: Name
    source_id: Name
    title: Annotated[str, BeforeValidator(_tidy), Field(min_length=1, max_length=500)]
    id: OptionalName = None
    version: int | None = None
    url: OptionalLine = None
    summary: OptionalText = None
    services: Annotated[list[Name], BeforeValidator(_as_list), Field(max_length=200)] = []
    severity: OptionalName = None
    status: Status = "open"
    started_at: Moment | None = None
    detected_at: Moment | None = None
    resolved_at: Moment | None = None
    symptoms: OptionalText = None
    updates: Annotated[list[Update], BeforeValidator(_as_list), Field(max_length=MOST_UPDATES)] = []
    root_cause: OptionalText = None
    cause_family: OptionalName = None
    resolution: OptionalText = None
    actions: Annotated[
        list[Annotated[Action, BeforeValidator(_from_text)]],
        BeforeValidator(_as_list),
        Field(max_length=200),
    ] = []
    lessons: OptionalText = None
    labels: Annotated[
        dict[Name, OptionalLine], BeforeValidator(_as_dict), Field(max_length=200)
    ] = {}
    evidence: Annotated[
        list[Annotated[Evidence, BeforeValidator(_from_text)]],
        BeforeValidator(_as_list),
        Field(max_length=200),
    ] = []
    trust: Trust | None = None
    known_at: Moment | None = None
    recorded_at: Moment | None = None

    @model_validator(mode="before")
    @classmethod
    def _resolved_once_it_has_an_end(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("status"):
            return {**data, "status": "resolved" if data.get("resolved_at") else "open"}
        return data

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "Incident":
        if self.started_at and self.resolved_at and self.resolved_at < self.started_at:
            raise ValueError(
                f"resolved_at {self.resolved_at.isoformat()} is before started_at "
                f"{self.started_at.isoformat()}; correct one of them, or leave resolved_at out"
            )
        return self

    def content(self) -> dict[str, Any]:
        """What the source said, without what the store added: the basis of `content_hash`."""
        ours = {"id", "version", "recorded_at", "known_at", "trust"}
        return self.model_dump(mode="json", exclude=ours)


def as_kept(document: dict[str, Any], **ours: Any) -> Incident:
    """The incident that `content()` wrote down, with the store's own fields.

    It was validated before it was kept and is not again: a search reads dozens.
    """
    parts: dict[str, Any] = {
        "updates": [_part(Update, u) for u in document["updates"]],
        "actions": [_part(Action, a) for a in document["actions"]],
        "evidence": [_part(Evidence, e) for e in document["evidence"]],
    }
    times = {name: _moment(document[name]) for name in ("started_at", "detected_at", "resolved_at")}
    return Incident.model_construct(**{**document, **parts, **times, **ours})


def _part(kind: type[Record], document: dict[str, Any]) -> Record:
    return kind.model_construct(**{**document, "at": _moment(document["at"])})


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def incident_id(source: str, source_id: str) -> str:
    """Our id: the same for the same `source` and `source_id`, on every machine."""
    digest = hashlib.sha256(f"{source}\0{source_id}".encode()).hexdigest()
    return f"inc-{digest[:16]}"


def stated_known_at(incident: Incident) -> datetime | None:
    """When the record says the world could know it: its end, its last update, or its start."""
    if incident.resolved_at:
        return incident.resolved_at
    said = [u.at for u in incident.updates if u.at]
    return max(said) if said else incident.started_at


def check_clock(incident: Incident, now: datetime) -> None:
    """Raise `Refused` when a time lies in the future; ten minutes of skew are fine."""
    moments: dict[str, datetime | None] = {
        "started_at": incident.started_at,
        "detected_at": incident.detected_at,
        "resolved_at": incident.resolved_at,
        "known_at": incident.known_at,
        **{f"updates[{n}].at": u.at for n, u in enumerate(incident.updates)},
    }
    for name, at in moments.items():
        if at and at > now + CLOCK_SKEW:
            raise Refused(
                f"{name} {at.isoformat()} is in the future "
                f"(it is {now.isoformat()} here); correct it"
            )
