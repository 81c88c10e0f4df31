"""Moments: times as people and tools write them, read as UTC or not at all."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal

Order = Literal["day first", "month first"]

# Abbreviations that mean one offset wherever operations people write them.
ZONES = {
    "Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3,
    "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9, "KST": 9,
    "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13,
}  # fmt: skip
# These mean several, or an offset that we would have to look up: a time in them is not read.
UNSURE_ZONES = ("IST", "CST", "AST", "BST", "ADT", "SGT", "HKT", "MSK", "BRT", "ART", "SAST", "PHT")
_ZONE_WORD = "|".join(sorted((*ZONES, *UNSURE_ZONES), key=len, reverse=True))
EARLIEST_YEAR = 1900  # an earlier one is a tool's way to say "none", such as 0001-01-01
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?(?![a-z]))?"
    rf"(?:\s*(?P<zone>[+-]\d{{2}}:?\d{{2}}(?:\s+[A-Z]{{3,4}}\b)?|(?-i:{_ZONE_WORD})\b))?"
)
_DATE = (
    r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?(?:"
    r"(?P<year>\d{4})(?P<dash>[-/.])(?P<month>\d{1,2})(?P=dash)(?P<day>\d{1,2})"
    r"|(?P<one>\d{1,2})(?P<sep>[-/.])(?P<two>\d{1,2})(?P=sep)(?P<year2>\d{4}|\d{2})"
    r"|(?P<day3>\d{1,2})(?:st|nd|rd|th)?[\s./-]+(?P<name3>[a-z]{3,9})\.?[\s,./-]+(?P<year3>\d{4}|\d{2})"
    r"|(?P<name4>[a-z]{3,9})\.?\s+(?P<day4>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<year4>\d{4})"
    r")(?!\d)"
)
_DATED = re.compile(rf"\s*{_DATE}(?:(?:T|\s*,\s*|\s+(?:at\s+|-\s+)?)(?:{_CLOCK})(?!\d))?", re.I)
_CLOCKED = re.compile(rf"\s*{_CLOCK}(?!\d)", re.I)
_EPOCH = re.compile(r"\s*(\d{10}|\d{13}|\d{16}|\d{19})(?:\.\d+)?\s*")
_NUMERIC = re.compile(r"\s*(\d{1,2})[-/.](\d{1,2})[-/.](?:\d{4}|\d{2})(?!\d)")


@dataclass(frozen=True, slots=True)
class Stamp:
    """A moment at the head of a text, and the text behind it."""

    at: datetime
    rest: str
    dated: bool = True  # False: only a clock time was written, the day was given by the caller


def read_moment(text: str, *, order: Order | None = None, zone: tzinfo = UTC) -> datetime | None:
    """The moment that the whole text names; None when it names none that we can be sure of.

    ISO 8601, `29-02-2016 01:16`, `3/25/21 4:10 PM`, `12 Mar 2021`, `March 12, 2021 16:00 UTC`,
    epoch seconds. Where day and month could be swapped and no `order` is given: None.
    """
    if epoch := _EPOCH.fullmatch(text):
        return from_epoch(int(epoch[1]))
    stamp = leading_moment(text, order=order, zone=zone)
    return stamp.at if stamp and not stamp.rest else None


def leading_moment(
    text: str,
    *,
    order: Order | None = None,
    zone: tzinfo = UTC,
    day: datetime | None = None,
) -> Stamp | None:
    """The moment that the text begins with; a bare clock time counts when its `day` is given."""
    if match := _DATED.match(text):
        date = _date(match.groupdict(), order)
        at = _moment(date, match.groupdict(), zone) if date else None
        return Stamp(at, text[match.end() :].strip()) if at else None
    if day and (match := _CLOCKED.match(text)):
        at = _moment((day.year, day.month, day.day), match.groupdict(), zone)
        return Stamp(at, text[match.end() :].strip(), dated=False) if at else None
    return None


def from_epoch(count: int) -> datetime | None:
    """The moment of so many seconds, milliseconds, micro- or nanoseconds since 1970."""
    while abs(count) >= 10**11:
        count //= 1000
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=count) if count > 0 else None


def order_of(values: Iterable[str]) -> Order | None:
    """Whether these dates put the day or the month first; None when none tells, or they disagree.

    A number above 12 tells.
    """
    pairs = [(int(m[1]), int(m[2])) for m in map(_NUMERIC.match, values) if m]
    day_first = any(one > 12 for one, _ in pairs)
    month_first = any(two > 12 for _, two in pairs)
    if day_first == month_first:
        return None
    return "day first" if day_first else "month first"


def zone_of(name: str) -> tzinfo | None:
    """The fixed offset that an abbreviation such as `CET` names; None when it names several."""
    hours = ZONES.get(name.upper())
    return None if hours is None else timezone(timedelta(hours=hours))


def _date(got: dict[str, str | None], order: Order | None) -> tuple[int, int, int] | None:
    if got["year"]:
        return int(got["year"]), int(got["month"] or 0), int(got["day"] or 0)
    if got["one"]:
        return _numeric(int(got["one"]), int(got["two"] or 0), got, order)
    name = (got["name3"] or got["name4"] or "")[:3].lower()
    if name not in _MONTHS:
        return None
    day, year = got["day3"] or got["day4"] or "", got["year3"] or got["year4"] or ""
    return _full_year(year), _MONTHS.index(name) + 1, int(day)


def _numeric(
    one: int, two: int, got: dict[str, str | None], order: Order | None
) -> tuple[int, int, int] | None:
    year = _full_year(got["year2"] or "")
    # No country writes the month first with dots, and hardly a tool with dashes.
    if order is None and got["sep"] in ("-", ".") and two <= 12:
        order = "day first"
    if order is None and one != two:
        order = order_of([f"{one}/{two}/2000"])
    if order is None and one != two:
        return None
    return (year, one, two) if order == "month first" else (year, two, one)


def _full_year(digits: str) -> int:
    return int(digits) + 2000 if len(digits) == 2 else int(digits)


def _moment(
    date: tuple[int, int, int], got: dict[str, str | None], zone: tzinfo
) -> datetime | None:
    hour, minute, second = (int(got[part] or 0) for part in ("hour", "minute", "second"))
    if got["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if got["half"].lower() == "p" else 0)
    micro = int((got["fraction"] or "0").ljust(6, "0")[:6])
    written = _offset(got["zone"]) if got["zone"] else zone
    if written is None or date[0] < EARLIEST_YEAR:
        return None
    try:
        return datetime(*date, hour, minute, second, micro, tzinfo=written).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _offset(written: str) -> tzinfo | None:
    if written[0] not in "+-":
        return zone_of(written)
    digits = written.split()[0].replace(":", "")
    minutes = int(digits[1:3]) * 60 + int(digits[3:5])
    if minutes >= 24 * 60:
        return None
    return timezone(timedelta(minutes=-minutes if digits[0] == "-" else minutes))
