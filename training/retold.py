"""Near-copies of a whole store: incidents that training and the suite may not have between them.

Two incidents are near-copies when they tell of one event (`retrieval.copies`), when their alerts
are the same but for case, punctuation and order, or when nearly all of what they say is the same,
or of what a model is asked and taught of them, however far apart they are in time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ingest.store import Stored
from retrieval.copies import AT_ONCE_S, LONG, SAME_DAYS_S, Sketch, same_event, sketch
from retrieval.index import Index
from retrieval.prompt import cause_of, fix_of, question_text
from retrieval.quotes import key
from retrieval.words import passage
from training.admission import in_any_order

# Chosen, not fitted: one word changed in forty leaves 0.8 of the runs of five words.
NEARLY_ALL = 0.8  # of the runs that either has
# 12 tables of 4 smallest hashes find 99.8 % of the pairs that share 0.8 of their runs: the chance
# to miss one is (1 - 0.8^4)^12 (Broder's min-hashing, with banding).
_BANDS, _IN_A_BAND = 12, 4


@dataclass(frozen=True, slots=True)
class _Tale:
    """What is compared of one incident."""

    asked: tuple[str, ...]
    sketch: Sketch
    taught: Sketch
    started: float  # seconds; NaN where nobody said


def groups(incidents: Iterable[Stored], index: Index) -> list[int]:
    """The number of each incident's group of near-copies, (incidents,); alone, a group of one.

    A copy of a copy is in the group. Takes about 0.5 ms an incident.
    """
    tales = [_tale(stored, index) for stored in incidents]
    found = _Groups(len(tales))
    for one, other in _same_alert(tales):
        found.join(one, other)
    for one, other in _near_in_time(tales):
        if found.apart(one, other) and _one_event(tales[one], tales[other]):
            found.join(one, other)
    for sketches in ([t.sketch for t in tales], [t.taught for t in tales]):
        for one, other in _near_in_words(sketches):
            if found.apart(one, other) and nearly_all(sketches[one], sketches[other]):
                found.join(one, other)
    return [found.of(n) for n in range(len(tales))]


def lesson_sketch(alert: str, cause: str | None, fix: str | None) -> Sketch:
    """Of an alert with its answer: what a model is asked and taught of an incident."""
    return sketch(" ".join(part for part in (alert, cause, fix) if part))


class Bands:
    """Texts by their smallest hashes, so that those which share most of their runs meet."""

    def __init__(self) -> None:
        self._odd = np.random.default_rng(0).integers(0, 2**31, _BANDS, dtype=np.uint32) * 2 + 1
        self._tables: list[dict[bytes, int]] = [{} for _ in self._odd]

    def add(self, n: int, of: Sketch) -> list[int]:
        """Take in text `n`; the first text in each of its bands, often itself."""
        pairs = zip(self._tables, self._keys(of), strict=False)
        return [table.setdefault(band, n) for table, band in pairs]

    def near(self, of: Sketch) -> set[int]:
        """The first text in each band of this one, which is not taken in."""
        pairs = zip(self._tables, self._keys(of), strict=False)
        return {table[band] for table, band in pairs if band in table}

    def _keys(self, of: Sketch) -> list[bytes]:
        """One for each band; none of a text with too few runs."""
        if len(of.hashes) < _IN_A_BAND:
            return []
        return [np.sort(of.hashes * factor)[:_IN_A_BAND].tobytes() for factor in self._odd]


class _Groups:
    """Disjoint sets of numbers; a set is called by its smallest."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def of(self, n: int) -> int:
        while self._parent[n] != n:
            self._parent[n] = n = self._parent[self._parent[n]]
        return n

    def apart(self, one: int, other: int) -> bool:
        return self.of(one) != self.of(other)

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.of(one), self.of(other)))
        self._parent[second] = first


def _tale(stored: Stored, index: Index) -> _Tale:
    row = index.facets.row_of.get(key(stored))
    incident = stored.incident
    asked = question_text(incident)
    return _Tale(
        asked=in_any_order(asked),
        taught=lesson_sketch(asked, cause_of(incident), fix_of(incident)),
        sketch=sketch(passage(incident)) if row is None else index.sketches[row],
        started=incident.started_at.timestamp() if incident.started_at else np.nan,
    )


def _same_alert(tales: Sequence[_Tale]) -> Iterator[tuple[int, int]]:
    first: dict[tuple[str, ...], int] = {}
    for n, tale in enumerate(tales):
        yield first.setdefault(tale.asked, n), n


def _near_in_time(tales: Sequence[_Tale]) -> Iterator[tuple[int, int]]:
    dated = [n for n, tale in enumerate(tales) if not np.isnan(tale.started)]
    dated.sort(key=lambda n: tales[n].started)
    for place, one in enumerate(dated):
        reach = SAME_DAYS_S if tales[one].sketch.runs >= LONG else AT_ONCE_S
        for other in dated[place + 1 :]:
            if tales[other].started - tales[one].started > reach:
                break
            yield one, other


def _near_in_words(sketches: Sequence[Sketch]) -> Iterator[tuple[int, int]]:
    """Pairs that probably share most of their runs; a pair may come more than once."""
    bands = Bands()
    for n, of in enumerate(sketches):
        for first in bands.add(n, of):
            yield first, n


def _one_event(one: _Tale, other: _Tale) -> bool:
    return same_event(one.sketch, other.sketch, one.started, other.started)


def nearly_all(one: Sketch, other: Sketch) -> bool:
    """Whether nearly all runs that either text has are in both."""
    limit = min(one.limit, other.limit)
    mine, theirs = one.up_to(limit), other.up_to(limit)
    both = len(np.intersect1d(mine, theirs, assume_unique=True))
    return both >= NEARLY_ALL * (len(mine) + len(theirs) - both) > 0
