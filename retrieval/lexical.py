"""BM25 over rows that keep coming: a row added is found by the next question."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import Stemmer

from retrieval.postings import Found, Ints, Mask, Postings
from retrieval.words import STOP_WORDS, as_written, forms, words

Floats = npt.NDArray[np.float32]

K1 = 1.5
B = 0.75
# A pasted log repeats itself: beyond its most telling terms it costs time and changes no ranking.
MOST_TERMS = 128


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All that a question reads; never changed once published."""

    postings: Postings
    lengths: Floats  # terms per row, stop words left out


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question's terms: how often each is said, how it was written, how many no row holds."""

    terms: Ints
    times: Floats
    surfaces: list[str]
    unknown: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What the words of one question found.

    `scores` (n_rows,) is BM25, 0 where no word is shared. `coverage` (n_rows,) is the share, 0 to
    1, of the question's words that the row holds, each weighted by its rarity; a word that no row
    holds weighs as much as the rarest could. `ceiling` is the score that no row can reach: every
    word of the question, held without end.
    """

    scores: Floats
    coverage: Floats
    ceiling: float
    _surfaces: list[str]
    _idf: Floats
    _found: Found

    def shared(self, row: int, most: int = 8) -> list[str]:
        """The question's words that the row holds too, as they were asked, the rarest first."""
        held = self._found.term[self._found.rows == row]
        rarest = held[np.argsort(-self._idf[held], kind="stable")]
        return [self._surfaces[term] for term in rarest[:most]]


class Lexical:
    """Live BM25 (Lucene's variant, k1 1.5, b 0.75) over rows numbered in the order they are added.

    One thread adds; any number may ask meanwhile, without a lock: a question reads one immutable
    snapshot. A question says which rows it may see, and how rare a word is gets counted among
    those alone: superseded versions weigh nothing, and with `as_of` a later incident changes no
    score.
    """

    def __init__(self) -> None:
        self._terms_of: dict[str, tuple[int, ...]] = {}  # of a word as written
        self._stems: dict[str, int] = {}
        self._lengths = np.zeros(1024, np.float32)
        self._snapshot = _Snapshot(Postings(), self._lengths[:0])
        # The race: two writers would build upon the same snapshot, and what one did be lost.
        self._writing = threading.Lock()

    def __len__(self) -> int:
        return len(self._snapshot.lengths)

    def add(self, texts: Sequence[str]) -> None:
        """Append one row per text, in order; the next question sees all of them or none."""
        with self._writing:
            terms = [self._learned(text) for text in texts]
            sizes = np.fromiter(map(len, terms), np.int64, len(terms))
            rows = np.repeat(np.arange(len(self), len(self) + len(texts)), sizes)
            flat = np.fromiter(chain.from_iterable(terms), np.int64, len(rows))
            postings = self._snapshot.postings.adding(rows, flat)
            self._snapshot = _Snapshot(postings, self._lengthened(sizes))

    def remove(self, row: int) -> None:
        """Forget what this row says; its number stays, and scores 0."""
        with self._writing:
            lengths = self._snapshot.lengths
            lengths[row] = 0
            self._snapshot = _Snapshot(self._snapshot.postings.without(row), lengths)

    def ask(self, question: str, seen: Mask | None = None) -> Reading:
        """What the words of the question find among the rows `seen` (n_rows,), by default all.

        The answer is as long as `seen`: rows added after that mask was made are left out, and rows
        that are yet to be added score 0.
        """
        snapshot = self._snapshot
        if seen is None:
            seen = np.ones(len(snapshot.lengths), np.bool_)
        asked = self._asked(question, snapshot.postings)
        found = snapshot.postings.found(asked.terms, seen)
        rows_seen = int(np.count_nonzero(seen))
        idf = rarity(np.bincount(found.term, minlength=len(asked.terms)), rows_seen)
        weights = idf * asked.times
        scores = weights[found.term] * _saturation(found, snapshot.lengths, seen)
        all_idf = float(idf.sum() + asked.unknown * rarity(np.zeros(1, np.int64), rows_seen)[0])
        coverage = np.bincount(found.rows, idf[found.term], len(seen)) / (all_idf or 1.0)
        return Reading(
            scores=np.bincount(found.rows, scores, len(seen)).astype(np.float32),
            coverage=coverage.astype(np.float32),
            ceiling=float(weights.sum()),
            _surfaces=asked.surfaces,
            _idf=idf,
            _found=found,
        )

    def _learned(self, text: str) -> list[int]:
        """The terms of a text, known from now on."""
        terms: list[int] = []
        for word in as_written(text):
            known = self._terms_of.get(word)
            terms += self._learn(word) if known is None else known
        return terms

    def _learn(self, word: str) -> tuple[int, ...]:
        """The terms of a word; a row is found by them once its text is in a snapshot."""
        stems = _stems([form for form in forms(word) if form not in STOP_WORDS])
        terms = tuple(self._stems.setdefault(stem, len(self._stems)) for stem in stems)
        self._terms_of[word] = terms
        return terms

    def _lengthened(self, sizes: npt.NDArray[np.int64]) -> Floats:
        """The lengths of all rows and these; what earlier snapshots see stays as it is."""
        rows = len(self)
        if rows + len(sizes) > len(self._lengths):
            grown = np.zeros(2 * (rows + len(sizes)), np.float32)
            grown[:rows] = self._lengths[:rows]
            self._lengths = grown
        self._lengths[rows : rows + len(sizes)] = sizes
        return self._lengths[: rows + len(sizes)]

    def _asked(self, question: str, postings: Postings) -> _Asked:
        said = [word for word in words(question) if word not in STOP_WORDS]
        stems = _stems(said)
        times = Counter(stems)
        surfaces = dict(zip(reversed(stems), reversed(said), strict=True))  # as first written
        known = [stem for stem in times if stem in self._stems]
        terms = np.array([self._stems[stem] for stem in known], np.int32)
        kept = np.sort(np.argsort(postings.rows_with(terms), kind="stable")[:MOST_TERMS])
        return _Asked(
            terms=terms[kept],
            times=np.array([times[known[n]] for n in kept], np.float32),
            surfaces=[surfaces[known[n]] for n in kept],
            unknown=len(times) - len(known),
        )


def rarity(rows_with: npt.NDArray[np.int64], rows: int) -> Floats:
    """How telling it is to hold what so many of the rows hold: Lucene's inverse frequency."""
    return np.log1p((rows - rows_with + 0.5) / (rows_with + 0.5)).astype(np.float32)


def _stems(said: Sequence[str]) -> list[str]:
    # A stemmer of its own for each call: one may not be shared between threads.
    stems: list[str] = Stemmer.Stemmer("english").stemWords(said)
    return stems


def _saturation(found: Found, lengths: Floats, seen: Mask) -> Floats:
    """The share of its word's weight that a posting earns: more repeated, less in a long row."""
    average = float(lengths[seen[: len(lengths)].nonzero()].mean()) if len(found.rows) else 1.0
    counts = found.counts.astype(np.float32)
    norms = np.float32(K1 * B / average) * lengths[found.rows] + np.float32(K1 * (1 - B))
    return (counts / (counts + norms)).astype(np.float32, copy=False)
