"""Quote an incident: fields by name, sentences as they stand, and proof that a quote occurs."""

import re
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from ingest.incident import Incident, incident_id
from ingest.store import Stored

LONGEST_QUOTE = 400  # characters
LONGEST_READ = 30_000  # characters of one field; what comes after is pasted logs, and costs time
MOST_ENTRIES = 60  # of a list such as `updates`


class Record(BaseModel):
    """Frozen, and closed to fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Citation(Record):
    """A span that stands, letter by letter, in one field of one version of an incident."""

    incident_id: str
    version: int
    source: str
    source_id: str
    field: str
    quote: str


def cite(stored: Stored, field: str, quote: str) -> Citation | None:
    """The citation of this quote; None where the field does not hold it."""
    name, version = key(stored)
    citation = Citation(
        incident_id=name,
        version=version,
        source=stored.incident.source,
        source_id=stored.incident.source_id,
        field=field,
        quote=quote,
    )
    return citation if occurs(citation, stored) else None


def occurs(citation: Citation, stored: Stored) -> bool:
    """Whether this very version of the incident holds the quote in the field it names."""
    if (citation.incident_id, citation.version) != key(stored) or not citation.quote.strip():
        return False
    text = field_text(stored.incident, citation.field)
    return text is not None and citation.quote in text


def key(stored: Stored) -> tuple[str, int]:
    """(id, version), also of a record that the store has not numbered."""
    incident = stored.incident
    return incident.id or incident_id(incident.source, incident.source_id), incident.version or 1


_PLAIN_FIELDS = ("title", "summary", "symptoms", "root_cause", "resolution", "lessons")
_ENTRY = re.compile(r"(updates|actions|evidence)\[(\d{1,4})\]\.text")


def field_text(incident: Incident, field: str) -> str | None:
    """The text of a field by name ("root_cause", "updates[2].text"); None where there is none."""
    if field in _PLAIN_FIELDS:
        text: str | None = getattr(incident, field)
        return text
    entry = _ENTRY.fullmatch(field)
    if not entry:
        return None
    entries = getattr(incident, entry[1])
    n = int(entry[2])
    return entries[n].text if n < len(entries) else None


def fields(incident: Incident, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(field, text) of these fields in their order; "updates" stands for each of the updates."""
    for name in names:
        if name in _PLAIN_FIELDS:
            if text := getattr(incident, name):
                yield name, text[:LONGEST_READ]
            continue
        for n, entry in enumerate(getattr(incident, name)[:MOST_ENTRIES]):
            yield f"{name}[{n}].text", entry.text[:LONGEST_READ]


def sentences(text: str) -> list[str]:
    """The sentences of a text in their order, each a span of it, without list and heading marks.

    A log line, a table row and a list item are sentences of their own; a line break inside of a
    wrapped sentence is kept, so that the span is still found in the text.
    """
    found: list[str] = []
    for block in _blocks(text):
        if _HEADING.match(block):
            continue
        pieces = [block] if _MACHINE.match(block) else _split(block)
        found += [s for piece in pieces if (s := _bare(piece))]
    return found


def clipped(sentence: str) -> str:
    """The sentence, or as much of it as a quote may hold, cut where a clause ends."""
    if len(sentence) <= LONGEST_QUOTE:
        return sentence
    head = sentence[:LONGEST_QUOTE]
    cut = max(head.rfind(mark) for mark in (", ", "; ", ": ", " - ", " – "))
    if cut < LONGEST_QUOTE // 3:
        cut = head.rfind(" ")
    return head[:cut].rstrip() if cut > 0 else head


def stems(text: str) -> frozenset[str]:
    """The telling words of a text, cut to six letters so that forms of one word fall together."""
    return frozenset(w[:6] for w in _WORD.findall(text.lower()) if w not in _COMMON)


_MARK = r"(?:[-*+•–>]+[ \t]+|\d{1,3}[.)][ \t]+|#{1,6}[ \t]+|\[[ xX]\][ \t]+|\|)"
_STRUCTURE = re.compile(rf"[ \t]*(?:{_MARK}|```|~~~)")
# A label in bold goes too, unless it says that a cause follows.
_LEADING = re.compile(
    rf"\s*(?:{_MARK}[ \t]*)*(?:\*\*(?![^*\n]{{0,50}}[Cc]ause)[^*\n]{{1,60}}:?\*\*:?\s+(?=\S))?"
)
_HEADING = re.compile(
    r"\s*(?:#{1,6}\s|[-=_*~`]{3,}|\|?[ :|-]+\|\s*$|\*{0,2}[^.!?\n]{1,60}:\*{0,2}\s*$"
    r"|\*\*[^*\n]{1,60}\*\*\s*$)"
)
_MACHINE = re.compile(
    r"\s*(?:\||```|\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:|\[?\d\d:\d\d:\d\d"
    r"|[A-Z][a-z]{2} +\d{1,2} \d\d:\d\d:\d\d|[IWEF]\d{4} \d\d:|(?:level|ts|time|msg)="
    r"|(?:\S{1,40} )?\[?(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL|CRITICAL|TRACE)\b[\]: ]"
    r"|\{\s*\"|at [\w.$]+\(|Traceback |event [A-Z])"
)
_END = re.compile(r"(?<![.!?])[.!?]+[\"'”’)\]*_`]{0,3}\s+(?=[\"'“‘(\[*_`]{0,3}[^\W_])|[。！？]+")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:e\.g|i\.e|a\.m|p\.m|u\.s|[a-z]|\d{1,2}|etc|vs|cf|al|approx|ca|incl|resp|no|nr"
    r"|fig|sec|min|max|avg|est|dept|inc|ltd|co|corp|mr|mrs|ms|dr|st|jan|feb|mar|apr|jun|jul|aug"
    r"|sept?|oct|nov|dec)$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_][^\W_]+")
_COMMON_WORDS = """
a about after again all also am an and any are as at be because been before being between both but
by can could did do does doing due during each for from further had has have having he her here him
his how i if in into is it its itself just may me might more most my no nor not of on once one only
or other our out over own same she should so some such than that the their them then there these
they this those through to too two under until up us very was we were what when where which while
who whom why will with would you your utc pst pdt pt am pm"""
_COMMON = frozenset(_COMMON_WORDS.split())


def _blocks(text: str) -> Iterator[str]:
    """Runs of lines that belong together: a wrapped paragraph, a list item, one log line."""
    start = end = 0
    last = ""  # the line before, while its block can still go on
    for line in text.splitlines(keepends=True):
        if not (last and _continues(last, line)):
            if end > start:
                yield text[start:end]
            start = end
        end += len(line)
        last = "" if _HEADING.match(line) or _MACHINE.match(line) else line.strip()
    if end > start:
        yield text[start:end]


def _continues(last: str, line: str) -> bool:
    """Whether this line is the wrapped rest of the line before it."""
    first = line.lstrip()[:1]
    if not first or last.endswith((":", ".", "!", "?", "。")):
        return False
    if _STRUCTURE.match(line) or _MACHINE.match(line):
        return False
    return first.islower() or len(last) >= 60


def _split(block: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(block):
        before = block[max(start, end.start() - 12) : end.start()]
        if end[0][0] == "." and _ABBREVIATED.search(before):
            continue
        if _is_bracketed(block, start, end.end()):
            continue
        # A small letter follows: a file name, a version, a shortened word or a quotation.
        if block[end.end() : end.end() + 1].islower():
            continue
        yield block[start : end.end()]
        start = end.end()
    yield block[start:]


def _is_bracketed(block: str, start: int, end: int) -> bool:
    """Whether a bracket is open here that closes soon: (SELECT ... FOR UPDATE) is one phrase."""
    is_open = block.count("(", start, end) > block.count(")", start, end)
    return is_open and ")" in block[end : end + 120]


def _bare(piece: str) -> str:
    leading = _LEADING.match(piece)
    text = piece[leading.end() if leading else 0 :].strip()
    return text.rstrip("*|` \t") if text.endswith(("**", "|", "```")) else text
