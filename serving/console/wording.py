"""How the console says things: times, spans, what came of a fix, and where a quote stands."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode, urlsplit

from markupsafe import Markup, escape

from retrieval.differences import Difference
from serving.terminal import VERDICTS

RULINGS = {
    "allowed": "allowed",
    "needs_approval": "needs approval",
    "forbidden": "forbidden",
}
_HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")
_AGES = [
    (timedelta(days=730), timedelta(days=365), "years"),
    (timedelta(days=60), timedelta(days=30.44), "months"),
    (timedelta(days=2), timedelta(days=1), "days"),
    (timedelta(hours=2), timedelta(hours=1), "hours"),
    (timedelta(minutes=2), timedelta(minutes=1), "minutes"),
]


def commands(text: str) -> Markup:
    """The text, escaped, with what stands between backticks set as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts)
    )


def moment(at: datetime | str | None) -> str:
    """`23 Jan 2024 09:12 UTC`; empty when nobody knows."""
    return f"{_at(at):%-d %b %Y %H:%M} UTC" if at else ""


def day(at: datetime | str | None) -> str:
    """`23 Jan 2024`."""
    return f"{_at(at):%-d %b %Y}" if at else ""


def age(at: datetime | str | None, now: datetime | None = None) -> str:
    """`22 months ago`; `just now` for what is younger than two minutes."""
    if not at:
        return ""
    passed = (now or datetime.now(UTC)) - _at(at)
    for least, unit, word in _AGES:
        if passed >= least:
            return f"{int(passed / unit)} {word} ago"
    return "just now"


def lasted(start: datetime | None, end: datetime | None) -> str:
    """`5 h 30 min`, `2 d 4 h`; empty unless both ends are known."""
    if not start or not end:
        return ""
    minutes = int((end - start).total_seconds() // 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def field_time(at: datetime | str | None) -> str:
    """The value of a `datetime-local` field, in UTC; empty for what is no time."""
    try:
        return f"{_at(at):%Y-%m-%dT%H:%M}" if at else ""
    except ValueError:
        return ""


def short(text: str | None, most: int = 320) -> str:
    """The text on one line, cut at a word where it is longer."""
    flat = " ".join((text or "").split())
    return flat if len(flat) <= most else flat[:most].rsplit(" ", 1)[0] + " …"


def after_label(words: str) -> str:
    """What a sentence says after its label: `Not seen before: nothing ...` is `Nothing ...`."""
    _, _, rest = words.partition(": ")
    return rest[:1].upper() + rest[1:]


def shortened(detail: str) -> str:
    """An audit entry's detail as `name=value`, long hashes cut to what a person compares."""
    told = json.loads(detail)
    return _HASH.sub(r"\1…", " ".join(f"{name}={_plain(v)}" for name, v in told.items() if v))


@dataclass(frozen=True, slots=True)
class Sides:
    """The first few things that only one side has, and how many `more` there are."""

    here: list[str]
    there: list[str]
    more: int


def sides(differences: Sequence[Difference], most: int) -> Sides:
    """The differences from one precedent, for one line; hosts tell least, so only when alone."""
    telling = [d for d in differences if d.kind != "hosts"] or differences
    here = [value for d in telling for value in d.here][:most]
    there = [value for d in telling for value in d.there][:most]
    every = sum(len(d.here) + len(d.there) for d in differences)
    return Sides(here, there, every - len(here) - len(there))


def verdict(name: str) -> str:
    """A verdict as people say it."""
    return VERDICTS.get(name, name)


def ruling(decision: str) -> str:
    """A ruling as people say it."""
    return RULINGS.get(decision, decision)


def tally(outcomes: Mapping[str, int]) -> list[tuple[str, str, int]]:
    """(verdict, its words, how often), only those that were given, in the order of the buttons."""
    return [(v, words, outcomes[v]) for v, words in VERDICTS.items() if outcomes.get(v)]


def anchor(field: str) -> str:
    """Where on the incident's page this field stands: `updates[2].text` is `updates-2`."""
    return field.removesuffix(".text").replace("[", "-").rstrip("]")


def web_address(url: str | None) -> str | None:
    """The address when a browser may follow it: http or https, never `javascript:`."""
    if not url:
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.netloc else None


def citation_link(incident_id: str, version: int, field: str, quote: str) -> str:
    """The page of the cited version, at the field that holds the quote, with the quote marked."""
    query = urlencode({"version": version, "quote": quote})
    return f"/incidents/{incident_id}?{query}#{anchor(field)}"


def spoken(sentence: str) -> Markup:
    """An error's sentence as a person reads it: escaped, and what stands in backticks as code."""
    parts = (sentence[:1].upper() + sentence[1:]).split("`")
    if len(parts) % 2 == 0:
        return escape(sentence)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(p) if n % 2 else escape(p) for n, p in enumerate(parts))


def marked(text: str, quote: str | None) -> Markup:
    """The text, escaped, with the first place of the quote marked where it occurs."""
    before, found, after = text.partition(quote) if quote else (text, "", "")
    if not found:
        return escape(text)
    return escape(before) + Markup("<mark>") + escape(found) + Markup("</mark>") + escape(after)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _at(at: datetime | str) -> datetime:
    moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
