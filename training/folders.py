"""Folders that are whole or not there, on disks that may fill."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.errors import StoreFull, StoreReadOnly

_FULL = {errno.ENOSPC, errno.EDQUOT}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """A draft beside `place` to write into; it becomes `place` when all of it is on the disk.

    Whatever is raised inside leaves neither. A draft that a killed process left is thrown away.
    Raises `StoreFull` and `StoreReadOnly` for what the disk refuses.
    """
    draft = place.with_name(place.name + ".draft")
    with in_our_words(place):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            yield draft
            for file in (p for p in draft.rglob("*") if p.is_file()):
                to_disk(file)
            shutil.rmtree(place, ignore_errors=True)
            os.replace(draft, place)
            to_disk(place.parent)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise


@contextmanager
def in_our_words(place: Path) -> Iterator[None]:
    """Turn what a disk refuses into an `Unavailable` that names the place and the way out."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        # Both report a full disk in a type of their own; torch's says no more than this.
        if "No space left" in str(error) or "inline_container" in str(error):
            raise StoreFull(f"no room is left for {place}; free some, then try again") from error
        raise
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in _FULL:
            raise StoreFull(
                f"no room is left for {place} ({said}); free some, then try again"
            ) from error
        if error.errno in _CLOSED:
            raise StoreReadOnly(
                f"{place} cannot be written ({said}); let this user write there"
            ) from error
        raise


def to_disk(path: Path) -> None:
    """Wait until this file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
