"""Timelines: the tables and lists in which people write down how an incident went."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from ingest.moments import Stamp, leading_moment, zone_of

_RULE = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(\|\s*:?-{2,}:?\s*)*\|?\s*")
_BULLET = re.compile(r"(?P<indent>\s*)(?:[-*+•]|\d{1,2}[.)])\s+(?=\S)")
_MARKS = re.compile(r"^[\s*_`\[(]+")
_BETWEEN = re.compile(r"^[\s*_`\])|:,;.~–—-]+")  # what stands between a time and its event
_UNTIL = re.compile(r"^\s*(?:[-–—]|to|until)\s*(?=\d{1,2}:\d{2})", re.I)
_SAID_ZONE = re.compile(r"(?:\b(?:times?|in)\b|\()\s*(?:are\s+|is\s+)?(?:in\s+)?\(?([A-Z]{3,4})\b")
_PLACE = re.compile(r"^[A-Z][A-Za-z]+(?:\s[A-Z][a-z]+)?\s+[-–—]\s")
_WHO = re.compile(r"^(author|actor|who|person|by|owner|name)s?$", re.I)
_BACKWARDS = timedelta(hours=6)  # a clock that jumps back by more has passed midnight


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline; `at` is None where the time was not written, or not surely."""

    text: str
    at: datetime | None = None
    author: str | None = None

    def as_update(self) -> dict[str, Any]:
        return {"text": self.text, "at": self.at, "author": self.author}


def entries(text: str, *, day: datetime | None = None) -> list[Entry]:
    """What happened, in the order written, from Markdown tables and lists.

    A clock time without a day belongs to the last day named above it, else to `day`; one that
    jumps back is of the next day. Times are in the zone that the text names for all, else UTC.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    rows = _rows(lines) if any(map(_is_rule, lines)) else _items(lines)
    return list(_dated(rows, day, _zone_for_all(lines)))


def _zone_for_all(lines: list[str]) -> tzinfo:
    """The zone of "All times in CET" or of a table's "Time (UTC)"; both stand at the top."""
    said = (match[1] for line in lines[:4] for match in _SAID_ZONE.finditer(line[:400]))
    return next((zone for zone in map(zone_of, said) if zone), UTC)


def _rows(lines: list[str]) -> Iterator[Entry]:
    """The rows under each table's header, the author taken from the column that says so."""
    who: int | None = None
    in_table = False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if _is_rule(line):
            in_table = True
        elif _is_rule(following):
            who = next((n for n, cell in enumerate(_cells(line)) if _WHO.match(cell)), None)
        elif in_table and "|" in line:
            yield _row(_cells(line), who)


def _is_rule(line: str) -> bool:
    return len(line) < 1000 and "|" in line and bool(_RULE.fullmatch(line))


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", inner)]


def _row(cells: list[str], who: int | None) -> Entry:
    author = cells[who][:200] if who is not None and who < len(cells) else None
    rest = [cell for n, cell in enumerate(cells) if n != who and cell]
    return Entry(" | ".join(rest), author=author or None)


def _items(lines: list[str]) -> Iterator[Entry]:
    """List items with what is indented under them; lines that begin with a time count as items."""
    item: str | None = None
    margin = 99
    for line in lines:
        bullet = _BULLET.match(line)
        indent = len(bullet["indent"].expandtabs(4)) if bullet else 99
        if (bullet and indent < margin + 2) or (not line[:1].isspace() and _is_stamped(line)):
            if item:
                yield Entry(item)
            item = line[bullet.end() :] if bullet else line
            margin = min(margin, indent)
        elif item is not None and line.strip():
            item += "\n" + line.rstrip()
    if item:
        yield Entry(item)


def _is_stamped(line: str) -> bool:
    return leading_moment(_MARKS.sub("", line), day=datetime(2000, 1, 1, tzinfo=UTC)) is not None


def _dated(rows: Iterator[Entry], day: datetime | None, zone: tzinfo) -> Iterator[Entry]:
    last: datetime | None = None
    for row in rows:
        stamp = _stamp(row.text, zone, last or day)
        if stamp is None:
            yield replace(row, text=row.text.strip())
            continue
        at = stamp.at
        if not stamp.dated and last and last - at > _BACKWARDS:
            at += timedelta(days=1)
        last = at
        if text := _plain(_after_range(stamp.rest)):
            yield replace(row, at=at, text=text)


def _stamp(text: str, zone: tzinfo, day: datetime | None) -> Stamp | None:
    """The time at the head of an entry; a clock followed by what may be a place is left as text.

    A date in one table cell and a clock in the next are one moment.
    """
    local = day.astimezone(zone) if day else None
    stamp = leading_moment(_MARKS.sub("", text), zone=zone, day=local)
    if stamp is None or not (stamp.dated or not _PLACE.match(stamp.rest)):
        return None
    if stamp.dated and stamp.rest.startswith("|"):
        clock = leading_moment(stamp.rest[1:].strip(), zone=zone, day=stamp.at.astimezone(zone))
        return replace(clock, dated=True) if clock and not clock.dated else stamp
    return stamp


def _after_range(rest: str) -> str:
    """Without the second half of `09:00 - 11:00`: an entry is dated by when it began."""
    match = _UNTIL.match(rest)
    if not match:
        return rest
    end = leading_moment(rest[match.end() :], day=datetime(2000, 1, 1, tzinfo=UTC))
    return end.rest if end else rest


def _plain(text: str) -> str:
    bare = _BETWEEN.sub("", text)
    # An emphasis whose other half went with the time: `**14:05: it began**`.
    bare = bare.replace("**", "") if bare.count("**") == 1 else bare
    for mark in ("*", "_"):
        bare = bare.removesuffix(mark) if bare.endswith(mark) and bare.count(mark) == 1 else bare
    return bare.strip()
