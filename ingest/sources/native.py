"""Our own format: JSON (one incident or a list) and JSON Lines, in the fields of `Incident`."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ingest.errors import Unreadable
from ingest.file import BadLine, File
from ingest.incident import Incident
from ingest.refusal import Refusal, quoted

KIND = "native"
SENTENCE = "Scarwise's own JSON or JSON Lines: source, source_id, title, started_at, ..."
SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})

_TELLING = {
    "source",
    "source_id",
    "services",
    "started_at",
    "resolved_at",
    "symptoms",
    "root_cause",
}
# A text that the head cuts off counts as one, so that its quotes are not tried one by one.
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)(?:"|\\?\Z)|[{}\[\]:]', re.S)


def sniff(path: Path, head: str) -> bool:
    """Whether its first object is titled and has two more fields of an incident."""
    names = first_names(head)
    return "title" in names and len(names & _TELLING) >= 2


def read(file: File) -> Iterator[Incident | Refusal]:
    """Each object of the file, as an incident or as a refusal."""
    for record in objects(file):
        if isinstance(record, Refusal):
            yield record
        else:
            yield file.admit(record.fields, line=record.line, within=record.within)


@dataclass(frozen=True, slots=True)
class Object:
    """One JSON object of a file, and where it stands; `within` is its place in a list."""

    line: int
    fields: dict[str, Any]
    within: str = ""


def objects(file: File) -> Iterator[Object | Refusal]:
    """The objects of a JSON or JSON Lines file, in order; what is none of them, as a refusal.

    Lines are read one at a time; a document (an object over several lines, a list) as a whole.
    """
    found = 0
    for record in _in_lines(file) if _is_lines(file) else _in_document(file):
        found += 1
        yield record
    if not found:
        yield file.refuse("empty: there is no incident in it")


def first_names(head: str) -> set[str]:
    """The field names of the first object in a JSON text, also where the text is cut off in it."""
    names: set[str] = set()
    closing: list[str] = []
    last = None
    if not head.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return names
    for token in _TOKEN.finditer(head):
        sign = token[0]
        if sign in "{[":
            closing.append(sign)
        elif sign in "}]":
            if closing in (["{"], ["[", "{"]):
                break
            closing = closing[:-1]
        elif sign == ":" and last is not None and closing in (["{"], ["[", "{"]):
            names.add(last)
        last = token[1]
    return names


def _is_lines(file: File) -> bool:
    """JSON Lines by name, or because the first line is an object with more behind it."""
    if file.path.suffix.lower() in (".jsonl", ".ndjson"):
        return True
    try:
        with File(file.path, file.name).lines() as lines:
            filled = (line.strip() for line in lines)
            first = next((line for line in filled if line.strip("\ufeff")), "").lstrip("\ufeff")
            return first.startswith("{") and next((line for line in filled if line), "")[:1] == "{"
    except BadLine:
        return False


def _in_lines(file: File) -> Iterator[Object | Refusal]:
    with file.lines() as lines:
        while True:
            try:
                text = next(lines)
            except StopIteration:
                return
            except BadLine as bad:
                yield file.refuse(str(bad), line=bad.line)
                continue
            if text.strip("\ufeff \t\r\n"):
                yield _object_of_line(file, lines.number, text.lstrip("\ufeff"))


def _object_of_line(file: File, line: int, text: str) -> Object | Refusal:
    try:
        value, end = _Parser().value_at(text.rstrip(), _skip_blanks(text, 0))
    except Unreadable as error:
        cut = "" if text.endswith("\n") else "; the file ends in this line, so it may be cut off"
        return file.refuse(f"{error}{cut}", line=line)
    if text[end:].strip():
        return file.refuse("more behind the object on this line; write one per line", line=line)
    return _object(file, value, line)


def _object(file: File, value: Any, line: int, within: str = "") -> Object | Refusal:
    if isinstance(value, dict):
        return Object(line, value, within)
    why = f"expected an object with the fields of an incident, got {quoted(value)}"
    return file.refuse(why, line=line, field=within.rstrip(".") or None)


def _in_document(file: File) -> Iterator[Object | Refusal]:
    """The objects of one JSON text: itself, or the items of its list."""
    try:
        text = file.text().removeprefix("\ufeff")
    except Unreadable as error:
        yield file.refuse(str(error))
        return
    start = _skip_blanks(text, 0)
    if start == len(text):
        return
    try:
        if text[start] == "[":
            yield from _in_list(file, text, start + 1)
        else:
            value, end = _Parser().value_at(text, start)
            yield _object(file, value, _line_of(text, start))
            _expect_end(text, end)
    except _Broken as error:
        yield file.refuse(str(error), line=_line_of(text, error.at))
    except _Odd as error:
        yield file.refuse(str(error), line=_line_of(text, start))


def _in_list(file: File, text: str, at: int) -> Iterator[Object | Refusal]:
    """The items one by one, so that those before a broken one still go in."""
    at, number, line, counted = _skip_blanks(text, at), 0, 1, 0
    while text[at : at + 1] != "]":
        if number:
            if text[at : at + 1] != ",":
                raise _Broken("not JSON: expected a comma or the end of the list", at)
            at = _skip_blanks(text, at + 1)
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, at = _Parser().value_at(text, at)
            yield _object(file, value, line, f"[{number}].")
        except _Odd as error:
            yield file.refuse(str(error), line=line, field=f"[{number}]")
            at = error.end
        at, number = _skip_blanks(text, at), number + 1
    _expect_end(text, at + 1)


def _expect_end(text: str, at: int) -> None:
    at = _skip_blanks(text, at)
    if at < len(text):
        raise _Broken("more behind the end of the JSON document", at)


def _skip_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


_BLANKS = re.compile(r"[ \t\r\n]*")


def _line_of(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


class _Broken(Unreadable):
    """No JSON at this place, and no way to tell where the next value begins."""

    def __init__(self, why: str, at: int) -> None:
        super().__init__(why)
        self.at = at


class _Odd(Unreadable):
    """JSON that says something JSON should not; the next value begins at `end`."""

    def __init__(self, why: str, end: int) -> None:
        super().__init__(why)
        self.end = end


class _Parser:
    """Reads JSON more strictly than the standard library: no name twice, no NaN, no huge number."""

    def __init__(self) -> None:
        self._odd: list[str] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs,
            parse_constant=self._constant,
            parse_int=self._whole,
        )

    def value_at(self, text: str, at: int) -> tuple[Any, int]:
        """The value that begins at `at`, and where it ends; else `_Broken` or `_Odd`."""
        try:
            value, end = self._decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            _refuse_json(error)
        except RecursionError:
            raise _Broken("nested too deeply to be an incident", at) from None
        if self._odd:
            raise _Odd(self._odd[0], end)
        return value, end

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            self._odd.append(f"the field {quoted(twice)} is there twice; keep one of them")
        return fields

    def _constant(self, name: str) -> None:
        self._odd.append(f"{name} is not JSON; write null")

    def _whole(self, digits: str) -> int:
        if len(digits) < 40:
            return int(digits)
        self._odd.append(f"a whole number of {len(digits)} digits")
        return 0


def _refuse_json(error: json.JSONDecodeError) -> NoReturn:
    if "\0" in error.doc[error.pos : error.pos + 2]:
        raise _Broken(
            "NUL bytes where JSON was expected; the file is damaged or no text", error.pos
        )
    what = error.msg[:1].lower() + error.msg[1:]
    raise _Broken(f"not JSON: {what} at column {error.colno}", error.pos) from None
