"""The importer: finds the files, tells their formats, and reads the incidents out of them."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ingest.errors import Refused, Unreadable
from ingest.file import File, head_of
from ingest.incident import Incident, visible
from ingest.refusal import Refusal, nearest
from ingest.sources import archive, markdown, native, table

__all__ = ["Found", "Refusal", "find", "kinds", "read"]


class Source(Protocol):
    """What a module of `ingest.sources` has; a new one is named in `SOURCES`, and that is all."""

    KIND: str
    SENTENCE: str
    SUFFIXES: frozenset[str]

    def sniff(self, path: Path, head: str) -> bool:
        """Whether a file whose first 64 KiB are `head` is of this kind."""

    def read(self, file: File) -> Iterator[Incident | Refusal]:
        """Each record of the file once: as an incident, or as a refusal that names its line."""


SOURCES: tuple[Source, ...] = (archive, native, markdown, table)  # the first that claims a file


@dataclass(frozen=True, slots=True)
class Found:
    """One file to read; `name` is its path from the given folder on, with that folder's name."""

    path: Path
    kind: str
    size: int  # bytes
    name: str


def kinds() -> dict[str, str]:
    """The kinds that can be read, with a sentence about each."""
    return {source.KIND: source.SENTENCE for source in SOURCES}


def find(paths: Sequence[str], *, kind: str = "auto") -> tuple[list[Found], list[Refusal]]:
    """The files to read, each once, in order; and what is left out, with the reason.

    Folders are walked without their hidden files and without following links to folders; a path
    with `*`, `?` or `[` that is no file is a pattern, with `**` for any folders. `Unreadable` when
    a path names nothing, `Refused` when the kind is unknown: then nothing is to be read at all. A
    file in a folder that is of no known format is a refusal marked `skipped`.
    """
    if kind != "auto" and kind not in kinds():
        meant = nearest(kind, kinds())
        hint = f"did you mean {meant!r}?" if meant else f"known are auto, {', '.join(kinds())}"
        raise Refused(f"no kind {kind!r}; {hint}")
    found: list[Found] = []
    refused: list[Refusal] = []
    seen: set[Path] = set()
    for given in [given for path in paths for given in _given(path)]:
        if isinstance(given, Refusal):
            refused.append(given)
            continue
        whole = given.path.resolve()
        if whole in seen:
            continue
        seen.add(whole)
        known = _known(given, kind)
        if isinstance(known, Refusal):
            refused.append(known)
        else:
            found.append(known)
    return found, refused


def read(
    found: Found,
    *,
    columns: Mapping[str, str] | None = None,
    now: datetime | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Incident | Refusal]:
    """Each record of the file once, in order, as an incident or as a refusal with its line.

    Lines and rows are read one at a time. `columns` maps fields to columns, and only tables heed
    it. With `now`, an incident from the future is refused. `on_bytes` is told of every piece read;
    the pieces add up to `found.size` or less.
    """
    file = File(found.path, found.name, columns or {}, now, on_bytes)
    source = _source(found.kind)
    try:
        yield from source.read(file)
    except OSError as error:
        yield file.refuse(f"cannot be read: {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class _Given:
    """A file that was named, or found in a folder that was."""

    path: Path
    name: str
    is_named: bool


def _given(path: str) -> Iterator[_Given | Refusal]:
    """The files that one argument names."""
    if not path:
        raise Unreadable("an empty path; `.` is the folder that you are in")
    place = Path(os.path.expanduser(path))
    try:
        if place.is_dir():
            yield from _in_folder(place, place)
        elif place.is_file():
            yield _Given(place, _name(place, place.parent), is_named=True)
        elif place.exists():
            yield _refusal(place, "neither a file nor a folder")
        else:
            yield from _matching(path)
    except OSError as error:
        raise Unreadable(f"{visible(path)}: {error.strerror or error}") from None


def _matching(path: str) -> Iterator[_Given | Refusal]:
    matches = (
        sorted(glob.glob(os.path.expanduser(path), recursive=True)) if glob.has_magic(path) else []
    )
    if not matches:
        raise Unreadable(_nothing_there(path))
    root = _root_of(path)
    for match in map(Path, matches):
        if match.is_dir() and "**" not in path:
            yield from _in_folder(match, match)
        elif match.is_file():
            yield _Given(match, _name(match, root), is_named=False)


def _root_of(pattern: str) -> Path:
    """The folder that a pattern starts from: what stands before its first sign."""
    fixed: list[str] = []
    for part in Path(os.path.expanduser(pattern)).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _in_folder(folder: Path, root: Path) -> Iterator[_Given | Refusal]:
    failed: list[OSError] = []
    for here, folders, names in os.walk(folder, onerror=failed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and path.is_file():
                yield _Given(path, _name(path, root), is_named=False)
    for error in failed:
        yield _refusal(Path(error.filename), f"cannot be read: {error.strerror}")


def _name(path: Path, root: Path) -> str:
    """The path from `root` on, with the root's own name: the same from every working directory."""
    root = root.absolute()
    inner = Path(os.path.abspath(path)).relative_to(os.path.abspath(root))
    return visible((Path(os.path.basename(os.path.abspath(root))) / inner).as_posix())


def _known(given: _Given, kind: str) -> Found | Refusal:
    try:
        size = given.path.stat().st_size
        if not size:
            return _refusal(given.path, "empty: there is no incident in it", not given.is_named)
        named = _kind_of(given, head_of(given.path)) if kind == "auto" else _as_asked(given, kind)
    except OSError as error:
        return _refusal(given.path, f"cannot be read: {error.strerror}")
    if named:
        return Found(given.path, named, size, given.name)
    tried = ", ".join(kinds()) if kind == "auto" else kind
    return _refusal(
        given.path,
        f"not a format that is known here ({tried}); --kind says which",
        not given.is_named,
    )


def _kind_of(given: _Given, head: str) -> str | None:
    """The kind that its content shows; what was named itself may go by its suffix alone."""
    shown = next((s.KIND for s in SOURCES if head and s.sniff(given.path, head)), None)
    if shown or not given.is_named:
        return shown
    suffix = given.path.suffix.lower()
    plain: tuple[Source, ...] = (native, markdown, table)
    return next((source.KIND for source in plain if suffix in source.SUFFIXES), None)


def _as_asked(given: _Given, kind: str) -> str | None:
    """The kind asked for, for every file named and for those in a folder with its suffixes."""
    is_likely = given.path.suffix.lower() in _source(kind).SUFFIXES
    return kind if given.is_named or is_likely else None


def _source(kind: str) -> Source:
    return {source.KIND: source for source in SOURCES}[kind]


def _refusal(path: Path, why: str, skipped: bool = False) -> Refusal:
    return Refusal(visible(str(path)), None, None, why, skipped)


def _nothing_there(path: str) -> str:
    """Says so, and names what was probably meant."""
    place = Path(os.path.expanduser(path))
    if glob.has_magic(path):
        return f"{visible(path)}: nothing matches this pattern"
    beside: Iterable[str] = ()
    if place.parent.is_dir():
        beside = [entry.name for entry in place.parent.iterdir()]
    meant = nearest(place.name, {name.lower() for name in beside})
    real = next((name for name in beside if name.lower() == meant), None)
    hint = f"; did you mean {visible(str(place.with_name(real)))}?" if real else ""
    return f"{visible(path)}: no such file or folder{hint}"
