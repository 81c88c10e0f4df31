"""One score from three: the words shared, the meaning, and the meaning word by word.

Pure functions of arrays. Each part is on a scale of its own that is the same for every store: the
best row by words has 1, a cosine and a late interaction have 1 for the same text. So a question
whose meanings all lie close together is decided by words, and the other way round, without any
weight that depends on the question. benchmarks/fusion.py compares this with other ways.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from retrieval.lexical import rarity
from retrieval.postings import Ints, Mask, Postings

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Tokens = npt.NDArray[np.int8]

# Chosen on six tasks of real incidents; anything from half to twice of each ranks about as well.
WORDS, MEANING, LATE = 0.3, 0.4, 1.0
KIN = 0.1

# A question is known when one of its best three hits is at least this near. Then one in twenty
# whose answer is in the store is called novel by mistake; of those about something foreign to it
# four of five are found out in large stores and nearly all in small ones, and of those whose own
# answer was taken away one in five: similar is not the same. benchmarks/novelty.py
KNOWN = 0.28
KNOWN_BY_WORDS = 0.23  # the coverage with as many mistakes, where there is no meaning to compare

HEAD = 50  # rows compared word by word: with 100 the ranking is the same
_FULL = 127.0**2  # the product of two equal unit vectors in int8


@dataclass(frozen=True, slots=True)
class Ranking:
    """`rows` (n,) best first, and their `scores` (n,), which order this answer and no other."""

    rows: Rows
    scores: Floats

    @classmethod
    def of(cls, rows: Rows, scores: Floats) -> "Ranking":
        order = np.argsort(-scores, kind="stable")
        return cls(rows[order], scores[order])


def rank(
    words: Floats,
    cosines: Floats | None,
    allowed: Mask,
    *,
    compare: Callable[[Rows], Floats] | None,
    services: Callable[[int], frozenset[str]],
    most: int = HEAD,
) -> Ranking:
    """The best rows, at least `most` where so many are `allowed`.

    `compare` gives some rows their late scores, `services` a row the services it names.
    """
    first = fuse(words, cosines, allowed)
    rows = head(first, max(most, HEAD))
    scores = settle(first[rows], compare(rows)) if compare else first[rows]
    ranking = Ranking.of(rows, scores)
    named = [services(int(row)) for row in ranking.rows]
    return Ranking.of(ranking.rows, kin(ranking.scores, named))


def fuse(words: Floats, cosines: Floats | None, allowed: Mask) -> Floats:
    """The first score of every row, (n_rows,), 0 to 1; -inf where it is not `allowed`.

    `words` is BM25, `cosines` the cosine to the question, NaN where a row has none yet: it is
    taken to mean about what the rows mean that share as many words.
    """
    most = float(words.max(initial=0.0, where=allowed))
    shared = words / most if most > 0 else words
    if cosines is None:
        return np.where(allowed, shared, -np.inf).astype(np.float32)
    near = np.where(np.isnan(cosines), _rivals(words, cosines, allowed), cosines)
    fused = (WORDS * shared + MEANING * near) / (WORDS + MEANING)
    return np.where(allowed, fused, -np.inf).astype(np.float32)


def head(scores: Floats, most: int = HEAD) -> Rows:
    """The rows with the highest scores, best first; none that has -inf."""
    most = min(most, len(scores))
    if not most:
        return np.zeros(0, np.intp)
    rows = np.sort(np.argpartition(-scores, most - 1)[:most])
    rows = rows[np.isfinite(scores[rows])]
    return rows[np.argsort(-scores[rows], kind="stable")]


def late(question: Tokens, weights: Floats, documents: Sequence[Tokens | None]) -> Floats:
    """How well each document answers each word of the question, (n_documents,), -1 to 1.

    The mean, under `weights` (n,), of each question token's best cosine among the document's
    tokens (late interaction as in ColBERT, Khattab and Zaharia 2020). NaN for a document without
    token vectors. Tokens are unit vectors times 127.
    """
    scores = np.full(len(documents), np.nan, np.float32)
    held = [n for n, document in enumerate(documents) if document is not None and len(document)]
    total = float(weights.sum())
    if not held or not total:
        return scores
    tokens = [d for d in documents if d is not None and len(d)]
    cosines = np.concatenate(tokens).astype(np.float32) @ question.T.astype(np.float32)
    starts = np.cumsum([0, *(len(t) for t in tokens[:-1])])
    best = np.maximum.reduceat(cosines, starts, axis=0)
    scores[held] = best @ (weights / np.float32(total * _FULL))
    return scores


def settle(first: Floats, late: Floats) -> Floats:
    """The final scores of the rows of the head, (n,), from the first ones and the late ones.

    A row without a late score is given what the others have on average; when none has one, the
    first scores stand.
    """
    known = ~np.isnan(late)
    if not known.any():
        return first
    filled = np.where(known, late, late[known].mean())
    before = WORDS + MEANING
    settled: Floats = ((before * first + LATE * filled) / (before + LATE)).astype(np.float32)
    return settled


def kin(scores: Floats, services: Sequence[frozenset[str]], *, best: int = 5) -> Floats:
    """The scores, (n,) best first, with a little for having a service of the best few.

    An incident of the service that broke is a better guess than an equally similar one of
    another. One that names no service gains what the others gain on average.
    """
    strongest = list(enumerate(services[:best]))
    gains = np.array(
        [sum(_discount(rank) for rank, held in strongest if held & own) for own in services]
    )
    named = np.array([bool(own) for own in services])
    if not named.any():
        return scores
    gains = np.where(named, gains, gains[named].mean())
    total = sum(_discount(rank) for rank, _ in strongest)
    return (scores + KIN / (WORDS + MEANING + LATE) * gains / total).astype(np.float32)


def nearness(coverage: float, cosine: float, background: float) -> float:
    """How near a row is to a question, 0 to 1, on a scale that is the same for every store.

    The mean of two shares: of the question's words that the row holds (`coverage`), and of the
    way from the cosine that an average row has (`background`) to 1 that the row's `cosine` goes.
    A floor under the cosine itself would mean another thing in every store and for every model.
    """
    return (coverage + (cosine - background) / max(1.0 - background, 1e-6)) / 2


def is_known(coverage: float, cosine: float | None, background: float | None) -> bool:
    """Whether a hit is near enough to be called a precedent; without a cosine, by its words."""
    if cosine is None or background is None:
        return coverage >= KNOWN_BY_WORDS
    return nearness(coverage, cosine, background) >= KNOWN


class Pieces:
    """How rare each word piece is among the rows that are seen: the weights of late interaction.

    Counted over all pieces of a row's text, not only those whose vector is kept. One thread adds,
    any number may ask.
    """

    def __init__(self) -> None:
        self._postings = Postings()

    def add(self, rows: Sequence[int], ids: Sequence[Ints]) -> None:
        """Count the pieces of these rows, each piece of a row once."""
        flat = np.repeat(np.asarray(rows, np.int64), [len(i) for i in ids])
        self._postings = self._postings.adding(flat, np.concatenate([*ids, np.zeros(0, np.int32)]))

    def remove(self, row: int) -> None:
        self._postings = self._postings.without(row)

    def weights(self, ids: Ints, seen: Mask) -> Floats:
        """The weight of each piece of a question, (n,)."""
        found = self._postings.found(ids, seen)
        rows_with = np.bincount(found.term, minlength=len(ids))
        # 1.5: of 1, 1.5 and 2 it lost on no task; rare pieces count more than in BM25, which
        # already multiplies by how often they occur.
        return rarity(rows_with, int(np.count_nonzero(seen))) ** np.float32(1.5)


def _rivals(words: Floats, cosines: Floats, allowed: Mask) -> float:
    """The mean cosine of the rows that are best by words; 0 when no cosine is known."""
    known = allowed & ~np.isnan(cosines)
    rows = head(np.where(known, words, -np.inf).astype(np.float32))
    return float(cosines[rows].mean()) if len(rows) else 0.0


def _discount(rank: int) -> float:
    """How much a place counts, as in nDCG."""
    return float(1 / np.log2(rank + 2))
