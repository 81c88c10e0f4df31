"""The file being read: its text decoded, its lines numbered, its records admitted or refused."""

import codecs
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ingest.errors import Refused, Unreadable
from ingest.incident import Incident, check_clock, visible
from ingest.refusal import Fault, Refusal, faults, in_one_sentence

# An incident has at most some twenty texts of 200,000 characters; the longest of the 5,122 public
# records we looked at has 100 kB. A longer line is a file without line ends.
LONGEST_LINE_BYTES = 8 * 2**20
LARGEST_DOCUMENT_BYTES = 64 * 2**20  # what must be held whole: one JSON document, one Markdown page
HEAD_BYTES = 64 * 2**10

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its first half
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class BadLine(Unreadable):
    """One line is not text; the lines behind it may still be."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True, slots=True)
class File:
    """One file to read, and what its records are called and held against.

    `name` is the same wherever the reading starts from (see `importer.find`). With `now`, an
    incident from the future is refused here, where its line is still known.
    """

    path: Path
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)
    now: datetime | None = None
    on_bytes: Callable[[int], None] | None = None

    def lines(self) -> "Lines":
        """Its lines, one at a time; a `BadLine` is raised for one and the next can still be had."""
        return Lines(self.path, self.on_bytes)

    def text(self, *, at_most: int = LARGEST_DOCUMENT_BYTES) -> str:
        """All of it at once; `Unreadable` when it has more than `at_most` bytes or is no text."""
        size = self.path.stat().st_size
        if size > at_most:
            raise Unreadable(
                f"{size / 2**20:.1f} MiB in one document, and at most {at_most // 2**20} MiB are "
                "read; split it (JSON: write one object per line)"
            )
        raw = self.path.read_bytes()
        if self.on_bytes:
            self.on_bytes(len(raw))
        return decoded(raw)

    def refuse(self, why: str, *, line: int | None = None, field: str | None = None) -> Refusal:
        """A refusal that names this file."""
        return Refusal(visible(str(self.path)), line, field, why)

    def admit(
        self,
        fields: Mapping[str, Any],
        *,
        line: int | None = None,
        called: Mapping[str, str] | None = None,
        within: str = "",
    ) -> Incident | Refusal:
        """The incident that these fields make, or one refusal with every fault of it.

        `called` gives our field's name in this file's own words, `within` what leads to it.
        """
        try:
            incident = Incident.model_validate({k: v for k, v in fields.items() if v is not None})
            if self.now:
                check_clock(incident, self.now)
        except ValidationError as error:
            fault = in_one_sentence([_renamed(f, called or {}) for f in faults(error)])
            return self.refuse(
                fault.why, line=line, field=f"{within}{fault.field or ''}".rstrip(".") or None
            )
        except Refused as error:
            return self.refuse(str(error), line=line)
        return incident


class Lines:
    """The lines of a file with their line ends, decoded as its byte order mark or zeros tell.

    After a `BadLine` the next line can still be asked for: `csv.reader` and the JSON Lines reader
    both go on behind one bad line.
    """

    def __init__(self, path: Path, on_bytes: Callable[[int], None] | None = None) -> None:
        self.number = 0
        self._file: BufferedReader = path.open("rb")
        self._on_bytes = on_bytes
        self._at = 0
        head = self._file.read(HEAD_BYTES)
        self._encoding = encoding_of(head)
        self._file.seek(3 if self._encoding == "utf-8-sig" else 0)
        self._wide = (
            None
            if self._encoding.startswith("utf-8")
            else TextIOWrapper(self._file, self._encoding, newline="\n")
        )

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._file.closed:
            raise StopIteration
        line = self._next_wide(self._wide) if self._wide else self._next_narrow()
        self._tell()
        if not line:
            self._file.close()
            raise StopIteration
        return line

    def _next_narrow(self) -> str:
        raw = self._file.readline(LONGEST_LINE_BYTES + 1)
        self.number += 1
        if len(raw) > LONGEST_LINE_BYTES:
            while raw and not raw.endswith(b"\n"):
                raw = self._file.readline(LONGEST_LINE_BYTES)
            raise BadLine(self.number, _too_long())
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadLine(self.number, _not_utf8(raw, error)) from None

    def _next_wide(self, text: TextIOWrapper) -> str:
        self.number += 1
        try:
            line = text.readline(LONGEST_LINE_BYTES + 1)
            if len(line) <= LONGEST_LINE_BYTES:
                return line
            while line and not line.endswith("\n"):
                line = text.readline(LONGEST_LINE_BYTES)
        except UnicodeError as error:
            self._file.close()
            why = f"not {self._encoding.upper()} from here on; save the file as UTF-8"
            raise BadLine(self.number, why) from error
        raise BadLine(self.number, _too_long())

    def _tell(self) -> None:
        if self._on_bytes and not self._file.closed:
            at = self._file.tell()
            self._on_bytes(at - self._at)
            self._at = at


def head_of(path: Path) -> str:
    """The first 64 KiB as text, for a look at the format; empty when it is not text."""
    with path.open("rb") as file:
        raw = file.read(HEAD_BYTES)
    head = raw.decode(encoding_of(raw), errors="replace")
    return "" if "\0" in head else head


def decoded(raw: bytes) -> str:
    """The text of these bytes; `Unreadable` names the first byte that is none."""
    encoding = encoding_of(raw[:HEAD_BYTES])
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding.startswith("utf-8"):
            raise Unreadable(_not_utf8(raw, error)) from None
        raise Unreadable(f"not {encoding.upper()} throughout; save the file as UTF-8") from None


def encoding_of(head: bytes) -> str:
    """What the byte order mark says, else UTF-16 where every other byte is zero, else UTF-8."""
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    pairs = len(head) // 2
    first, second = head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if pairs >= 2 and second > 0.4 * pairs and first < 0.1 * pairs:
        return "utf-16-le"
    if pairs >= 2 and first > 0.4 * pairs and second < 0.1 * pairs:
        return "utf-16-be"
    return "utf-8"


def _not_utf8(raw: bytes, error: UnicodeDecodeError) -> str:
    byte = raw[error.start]
    return (
        f"not UTF-8: byte 0x{byte:02x} at position {error.start + 1}; save the file as UTF-8 "
        "(`iconv -f windows-1252 -t utf-8` for one that comes from a Windows program)"
    )


def _too_long() -> str:
    return f"longer than {LONGEST_LINE_BYTES // 2**20} MiB; one line holds one record"


def _renamed(fault: Fault, called: Mapping[str, str]) -> Fault:
    if not fault.field:
        return fault
    ours, _, rest = fault.field.partition("[")
    if ours not in called:
        return fault
    return Fault(called[ours] + ("[" + rest if rest else ""), fault.why)
