"""Which rows hold which terms: immutable, so that one thread adds while others read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Counts = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
AnyInts = npt.NDArray[np.integer]

_NO_ROWS = np.zeros(0, np.int32)
_NO_COUNTS = np.zeros(0, np.uint16)


@dataclass(frozen=True, slots=True)
class Found:
    """Where some terms occur: `rows[i]` holds term number `term[i]` of them, `counts[i]` times."""

    term: Ints
    rows: Ints
    counts: Counts


@dataclass(frozen=True, slots=True)
class _Segment:
    """`rows[starts[i]:starts[i + 1]]` hold `terms[i]`; `terms` ascend."""

    terms: Ints
    starts: Ints
    rows: Ints
    counts: Counts


@dataclass(frozen=True, slots=True)
class Postings:
    """The terms of some rows, six bytes for each term of a row.

    What is added becomes a segment of its own; segments of like size are merged, so that there
    are few and adding one row costs about as much as the logarithm of all.
    """

    _segments: tuple[_Segment, ...] = ()

    def adding(self, rows: AnyInts, terms: AnyInts) -> "Postings":
        """These postings and: `terms[i]` occurs in `rows[i]`, once for every time it is given."""
        if not len(rows):
            return self
        pairs, counts = np.unique(terms.astype(np.int64) << 32 | rows, return_counts=True)
        added = _sealed(pairs >> 32, pairs & 0xFFFFFFFF, np.minimum(counts, 0xFFFF))
        return Postings(_compacted([*self._segments, added]))

    def without(self, row: int) -> "Postings":
        """These postings, and nothing left of this row."""
        left = (_without(segment, row) for segment in self._segments)
        return Postings(tuple(segment for segment in left if len(segment.rows)))

    def rows_with(self, terms: Ints) -> Ints:
        """How many rows hold each term, (n_terms,)."""
        held = np.zeros(len(terms), np.int32)
        for segment in self._segments:
            starts, ends = _places(segment, terms)
            held += ends - starts
        return held

    def found(self, terms: Ints, seen: Mask) -> Found:
        """Where the terms occur among the rows that are `seen` (n_rows,); no row beyond it is."""
        term, rows, counts = [_NO_ROWS], [_NO_ROWS], [_NO_COUNTS]
        for segment in self._segments:
            starts, ends = _places(segment, terms)
            term.append(np.repeat(np.arange(len(terms), dtype=np.int32), ends - starts))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                rows.append(segment.rows[start:end])
                counts.append(segment.counts[start:end])
        return _only_seen(
            Found(np.concatenate(term), np.concatenate(rows), np.concatenate(counts)), seen
        )


def _only_seen(found: Found, seen: Mask) -> Found:
    known = np.zeros(max(len(seen), int(found.rows.max(initial=0)) + 1), np.bool_)
    known[: len(seen)] = seen
    visible = known[found.rows]
    if visible.all():
        return found
    return Found(found.term[visible], found.rows[visible], found.counts[visible])


def _places(segment: _Segment, terms: Ints) -> tuple[Ints, Ints]:
    """Where the rows of each term start and end; both the same where it is not held."""
    at = np.searchsorted(segment.terms, terms)
    held = segment.terms.take(at, mode="clip") == terms
    starts = segment.starts[at]
    return starts, np.where(held, segment.starts.take(at + 1, mode="clip"), starts)


def _sealed(terms: AnyInts, rows: AnyInts, counts: AnyInts) -> _Segment:
    """The segment of these postings, whose terms ascend."""
    first = np.flatnonzero(np.diff(terms, prepend=-1))
    return _Segment(
        terms=terms[first].astype(np.int32),
        starts=np.append(first, len(terms)).astype(np.int32),
        rows=rows.astype(np.int32),
        counts=counts.astype(np.uint16),
    )


def _compacted(segments: list[_Segment]) -> tuple[_Segment, ...]:
    """The same postings in few segments, each at least twice as large as the next."""
    while len(segments) > 1 and len(segments[-2].rows) < 2 * len(segments[-1].rows):
        segments[-2:] = [_merged(segments[-2:])]
    return tuple(segments)


def _merged(segments: Sequence[_Segment]) -> _Segment:
    terms = np.concatenate([_unrolled(segment) for segment in segments])
    order = np.argsort(terms, kind="stable")
    rows = np.concatenate([segment.rows for segment in segments])
    counts = np.concatenate([segment.counts for segment in segments])
    return _sealed(terms[order], rows[order], counts[order])


def _without(segment: _Segment, row: int) -> _Segment:
    kept = segment.rows != row
    if kept.all():
        return segment
    return _sealed(_unrolled(segment)[kept], segment.rows[kept], segment.counts[kept])


def _unrolled(segment: _Segment) -> Ints:
    """The term of every posting."""
    return np.repeat(segment.terms, np.diff(segment.starts))
