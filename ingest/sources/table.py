"""Tables: CSV and its relatives, one incident per row, the columns found by their names.

The columns of ServiceNow, Jira and PagerDuty exports are known, and so are the plain names;
`columns` says the rest: `{"title": "short_description"}`, where the value is a column, `=words`
for the same words in every row, or (for `source_id`) `*` for an id made from the whole row. A
row that is changed then becomes another incident, so name an id column where there is one.

The source of an incident is the `source` column, else the tool whose columns these are, else the
file's name. Rows with the same id are successive versions of one incident, in the file's order.
Where ids repeat, the column that tells when a row was changed is taken as `known_at`; an end that
lies behind it is not yet known in that version.

Dates with numbers only are read day or month first as the values of their column tell (those of
the first 5,000 rows), else as the file's other columns tell. Where nothing tells, `03-04-2021`
and `03.04.2021` are in April, and `03/04/2021` is refused.
"""

import csv
import hashlib
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ingest.columns import SEVERAL, TIMES, Columns, columns_of, known_places, tool_of
from ingest.errors import Unreadable
from ingest.file import LONGEST_LINE_BYTES, BadLine, File
from ingest.frontmatter import key_of
from ingest.incident import STATUS_WORDS, Incident
from ingest.moments import Order, order_of, read_moment
from ingest.refusal import Refusal, quoted

KIND = "table"
SENTENCE = (
    "CSV or TSV with a header, one incident per row; --map FIELD=COLUMN names what is not found"
)
SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".psv"})

SAMPLE_ROWS = 5_000
MOST_COLUMNS = 2_000
LONGEST_TITLE = 200

_NOTHING = {"", "?", "-", "--", "n/a", "na", "null", "nil", "nan", "none", "(empty)", "undefined"}
_NO_TIME = re.compile(r"0000-00-00.*|0001-01-01.*")
_SWAPPABLE = re.compile(r"\d{1,2}/\d{1,2}/\d{2,4}")
# How a ticket was closed, in one word: no account of what was done.
_CLOSED_HOW = {
    "done", "fixed", "resolved", "closed", "duplicate", "won't fix", "won't do", "completed",
    "cannot reproduce", "unresolved", "declined",
}  # fmt: skip
_MARKUP = re.compile(r"</(?:div|span|p|a|li|td|b|strong)>|<br\s?/?>", re.I)
_TAG = re.compile(
    r"</?(div|span|p|a|ul|ol|li|br|b|i|strong|em|table|tr|t[dh]|h\d)\b[^<>]{0,500}>", re.I
)
_INLINE = {"span", "a", "b", "i", "strong", "em"}
_JIRA_COMMENT = re.compile(r"([^;\n]{8,30});([^;\n]{0,100});(.+)", re.S)
_JOURNAL = re.compile(
    r"^(\d[\d./-]{7,9} \d{2}:\d{2}:\d{2}) - ([^\n]{1,100}?) \([^()\n]{3,60}\)$", re.M
)


def sniff(path: Path, head: str) -> bool:
    """Whether it is named a table and its header speaks of incidents."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    found = known_places([key_of(name) for name in _header_line(head).split(_delimiter(head))])
    return "source_id" in found or "title" in found or len(found) >= 3


def read(file: File) -> Iterator[Incident | Refusal]:
    """Each row as an incident or as a refusal."""
    try:
        layout = _layout(file)
    except BadLine as bad:
        yield file.refuse(str(bad), line=bad.line)
        return
    except Unreadable as error:
        yield file.refuse(str(error), line=1)
        return
    header: _Row | None = None
    count = 0
    for row in _rows(file, layout.delimiter):
        if isinstance(row, _Row) and header is None:
            header = row
            continue
        count += 1
        yield row if isinstance(row, Refusal) else _incident(file, layout, row)
    if not count:
        yield file.refuse("a header and no row under it: there is no incident in it")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How this table is to be read; `orders` by column."""

    delimiter: str
    columns: Columns
    orders: dict[int, Order]
    source: str


def _layout(file: File) -> _Layout:
    """What the header and the dates of the first rows tell; `Unreadable` when it cannot be read."""
    ahead = File(file.path, file.name)  # read twice, and told of once
    with ahead.lines() as lines:
        head = "".join(islice(lines, 3))
    if not head.strip():
        raise Unreadable("empty: there is no incident in it")
    delimiter = _delimiter(head)
    sample = list(islice(_rows(ahead, delimiter), SAMPLE_ROWS))
    header = sample[0] if sample else file.refuse("no header: there is no incident in it")
    if isinstance(header, Refusal):
        raise Unreadable(header.why)
    names = [cell.strip() for cell in header.cells]
    if len(names) > MOST_COLUMNS:
        raise Unreadable(f"{len(names)} columns; is this a table of incidents?")
    columns = columns_of(names, file.columns)
    rows = [row.cells for row in sample[1:] if isinstance(row, _Row)]
    if _ids_repeat(rows, columns):
        columns = columns.of_versions()
    source = tool_of(names) or Path(file.name).stem
    return _Layout(delimiter, columns, _orders(rows, columns), source)


def _header_line(head: str) -> str:
    """The first line that is filled, behind Excel's `sep=;`."""
    lines = [line for line in head.splitlines() if line.strip()]
    return next((line for line in lines if not line.lower().startswith("sep=")), "")


def _delimiter(head: str) -> str:
    """What Excel's `sep=;` line says, else what the header has most of outside of quotes."""
    if match := re.match(r"sep=(\S)\s*\n", head, re.I):
        return match[1]
    return max(",;\t|", key=re.sub(r'"[^"]*"', "", _header_line(head)).count)


def _rows(file: File, delimiter: str) -> Iterator[_Row | Refusal]:
    """The rows that are not blank, with the line each begins on; the header is the first."""
    # One limit for the whole process: the default refuses a cell of more than 131,072 characters.
    csv.field_size_limit(LONGEST_LINE_BYTES)
    with file.lines() as lines:
        rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        while True:
            line = lines.number + 1
            try:
                cells = next(rows)
            except StopIteration:
                return
            except BadLine as bad:
                yield file.refuse(str(bad), line=bad.line)
                continue
            except csv.Error as error:
                yield file.refuse(f"not a row of this table: {_said(error)}", line=line)
                continue
            is_sep = line == 1 and cells[:1] == ["sep="]
            if any(cell.strip() for cell in cells) and not is_sep:
                yield _Row(line, cells)


def _said(error: csv.Error) -> str:
    said = str(error)
    if "unexpected end" in said or "field limit" in said:
        return "a quote is opened in it and never closed"
    if "new-line character" in said:
        return "a carriage return inside; save the file with ordinary line ends"
    return said


def _ids_repeat(rows: Sequence[list[str]], columns: Columns) -> bool:
    place = columns.places.get("source_id", [-1])[0]
    ids = [row[place] for row in rows if 0 <= place < len(row) and row[place].strip()]
    return len(set(ids)) < len(ids)


def _orders(rows: Sequence[list[str]], columns: Columns) -> dict[int, Order]:
    times = {n for field in TIMES for n in columns.places.get(field, [])[:1]}
    each = {n: order_of(row[n] for row in rows if n < len(row)) for n in times}
    told = {order for order in each.values() if order}
    whole = told.pop() if len(told) == 1 else None
    return {n: order for n in times if (order := each[n] or whole)}


def _incident(file: File, layout: _Layout, row: _Row) -> Incident | Refusal:
    columns = layout.columns
    width = len(columns.names)
    if len(row.cells) < width or any(cell.strip() for cell in row.cells[width:]):
        why = f"expected {width} cells as in the header, got {len(row.cells)}"
        return file.refuse(why, line=row.line)
    values = dict(_values(columns, row))
    times = _times(layout, values)
    unread = next((field for field, at in times.items() if at is None), None)
    if unread:
        return file.refuse(
            _no_time(values[unread][0]), line=row.line, field=columns.called().get(unread, unread)
        )
    if columns.words.get("source_id") == "*":
        values["source_id"] = [_id_of(row)]
    fields = {"source": layout.source, **_texts(values), **_lists(values), **times}
    return file.admit(_settled(fields), line=row.line, called=columns.called())


def _values(columns: Columns, row: _Row) -> Iterator[tuple[str, list[str]]]:
    """Each field with the cells that say something about it."""
    for field, words in columns.words.items():
        yield field, [words]
    for field, places in columns.places.items():
        cells = (_plain(row.cells[n]).strip() for n in places)
        if values := [cell for cell in cells if cell.lower() not in _NOTHING]:
            yield field, values


def _times(layout: _Layout, values: Mapping[str, list[str]]) -> dict[str, datetime | None]:
    """Each time that is given; None where it cannot be read."""
    places = layout.columns.places
    return {
        field: read_moment(texts[0], order=layout.orders.get(places.get(field, [-1])[0]))
        for field, texts in values.items()
        if field in TIMES and not _NO_TIME.fullmatch(texts[0])
    }


def _no_time(text: str) -> str:
    why = f"expected a time such as 2026-03-01T10:00:00Z, got {quoted(text)}"
    if _SWAPPABLE.match(text):
        return f"{why}; no row tells whether day or month comes first, write 2021-04-03 for 3 April"
    return why


def _id_of(row: _Row) -> str:
    return hashlib.sha256("\0".join(row.cells).encode("utf-8", "replace")).hexdigest()[:16]


def _texts(values: Mapping[str, list[str]]) -> dict[str, str]:
    """The fields that hold one text."""
    texts = {f: v[0] for f, v in values.items() if f not in SEVERAL | TIMES and "." not in f}
    if "title" in texts:
        texts["title"] = texts["title"].strip().split("\n")[0][:LONGEST_TITLE]
    return texts


def _lists(values: Mapping[str, list[str]]) -> dict[str, Any]:
    """The fields that hold several things."""
    services = [name for cell in values.get("services", []) for name in _names(cell)]
    return {
        "services": list(dict.fromkeys(services)),
        "actions": values.get("actions"),
        "updates": [update for cell in values.get("updates", []) for update in _updates(cell)],
        "labels": {
            field.removeprefix("labels."): "; ".join(texts)[:2000]
            for field, texts in values.items()
            if field.startswith("labels.")
        },
    }


def _names(cell: str) -> list[str]:
    """The names in `checkout, web`; a cell that reads like prose is one name."""
    names = [name.strip() for name in re.split(r"[,;\n]", cell)]
    return [name for name in names if name] if all(len(n) <= 60 for n in names) else [cell]


def _settled(fields: dict[str, Any]) -> dict[str, Any]:
    """With our word for the status, and without what the row cannot know or does not tell."""
    word, known_at, end = (fields.pop(f, None) for f in ("status", "known_at", "resolved_at"))
    status = _status(word) if word else None
    labels = {"status": word} if word and not status else {}
    if fields.get("resolution", "").lower() in _CLOSED_HOW:
        labels["resolution"] = fields.pop("resolution")
    return fields | {
        "status": status,
        "known_at": known_at,
        "resolved_at": None if end and known_at and end > known_at else end,
        "labels": labels | fields["labels"],
    }


def _status(word: str) -> str | None:
    """One of our four words for the tool's own, or for the one in brackets before a title."""
    bracketed = re.match(r"\[([A-Za-z ]{2,20})\]", word)
    return STATUS_WORDS.get((bracketed[1] if bracketed else word).lower().replace("_", " ").strip())


def _updates(cell: str) -> Iterator[dict[str, Any]]:
    """The comments in a cell: Jira's `date;who;text`, ServiceNow's journal, or the whole cell."""
    if (match := _JIRA_COMMENT.fullmatch(cell)) and (at := read_moment(match[1])):
        yield {"at": at, "author": match[2] or None, "text": match[3]}
        return
    parts = _JOURNAL.split(cell)
    if parts[0].strip():
        yield {"text": parts[0]}
    for when, who, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if text.strip():
            yield {"at": read_moment(when), "author": who, "text": text}


def _plain(cell: str) -> str:
    """The text of a cell that holds HTML; any other as it is."""
    if not _MARKUP.search(cell):
        return cell
    text = _TAG.sub(lambda tag: "" if tag[1].lower() in _INLINE else "\n", cell)
    lines = (" ".join(line.split()) for line in html.unescape(text).splitlines())
    return "\n".join(line for line in lines if line)
