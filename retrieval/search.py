"""Ask the index a question; answer with what happened before and why it is similar."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Literal

import numpy as np

from ingest.store import Stored
from retrieval.columns import Facets
from retrieval.copies import fold
from retrieval.embed import Embedding
from retrieval.index import Index, Near
from retrieval.lexical import Reading
from retrieval.rank import HEAD, is_known, late, rank
from retrieval.signs import codes
from retrieval.standing import Judged, question_words, standing
from retrieval.words import passage

MOST_RANKED = 300  # enough for a hundred hits with their near-copies


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know; `as_of` asks what would have been known at that moment."""

    text: str
    services: tuple[str, ...] = ()
    severity: str | None = None
    source: str | None = None
    since: datetime | None = None
    as_of: datetime | None = None
    limit: int = 10


@dataclass(frozen=True, slots=True)
class Hit:
    """One similar incident: similar is not the same cause.

    `score` orders the hits of one answer and means nothing across answers; `similarity` is the
    cosine of the best chunk (None when only words were compared). `why` are short fragments
    that a person reads; `terms`, `codes` and `services` are what they were made of.
    """

    stored: Stored
    score: float
    why: list[str]
    similarity: float | None = None
    coverage: float = 0.0
    terms: list[str] = field(default_factory=list)
    codes: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    copies: list[Stored] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits, best first, also when `status` is novel; `degraded` says what was missing."""

    status: Literal["known", "novel"]
    hits: list[Hit]
    query_id: str
    took_ms: float
    degraded: str | None = None


def search(question: Question, index: Index, *, query_id: str) -> Answer:
    """The most similar incidents, best first, and whether anything like it was seen before.

    Never waits for the index: what is not embedded yet is compared by its words alone, and
    `degraded` says so. With `as_of`, later incidents, later edits and later verdicts are
    invisible, also to the statistics of words.
    """
    began = time.perf_counter()
    seen = index.facets.seen(question.as_of)
    chosen = _chosen(index.facets, question, len(seen))
    allowed = seen if chosen is None else seen & chosen
    reading = index.lexical.ask(question.text, seen)
    whole = chosen is None and question.as_of is None
    meaning = _meaning(question, index, allowed, whole=whole)
    ranking = _ranked(question, reading, meaning, seen, allowed, index)
    ranking = _judged(ranking, question, index)
    groups = _folded(ranking, index)[: question.limit]
    hits = _hits(groups, question, index, reading, meaning)
    return Answer(
        status=_status(hits, meaning),
        hits=hits,
        query_id=query_id,
        took_ms=(time.perf_counter() - began) * 1000,
        degraded=_degraded(index),
    )


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What the question means, and how near every allowed row is to that."""

    asked: Embedding
    near: Near


@dataclass(frozen=True, slots=True)
class _Ranked:
    row: int
    score: float


def _status(hits: Sequence[Hit], meaning: _Meaning | None) -> Literal["known", "novel"]:
    """Known when one of the first three hits is near enough to be a precedent."""
    background = meaning.near.background if meaning else None
    near = any(is_known(hit.coverage, hit.similarity, background) for hit in hits[:3])
    return "known" if near else "novel"


def _chosen(facets: Facets, question: Question, n: int) -> np.ndarray | None:
    return facets.chosen(
        n,
        services=question.services,
        severity=question.severity,
        source=question.source,
        since=question.since,
    )


def _meaning(
    question: Question, index: Index, allowed: np.ndarray, *, whole: bool
) -> _Meaning | None:
    if index.embedder is None or index.vectors is None or not index.vectors.n:
        return None
    asked = index.embedder.embed_query(question.text)
    return _Meaning(asked, index.near(asked.vectors[0], allowed, whole=whole))


def _degraded(index: Index) -> str | None:
    if index.embedder is None:
        return "compared by words only, not by meaning"
    waiting = index.unembedded()
    if waiting:
        return f"{waiting} incidents are found by their words only until they are embedded"
    return None


def _ranked(
    question: Question,
    reading: Reading,
    meaning: _Meaning | None,
    seen: np.ndarray,
    allowed: np.ndarray,
    index: Index,
) -> list[_Ranked]:
    if not allowed.any():
        return []
    ranking = rank(
        reading.scores,
        meaning.near.cosines if meaning else None,
        allowed,
        compare=partial(_late, meaning, seen, index) if meaning else None,
        services=index.facets.services,
        most=min(MOST_RANKED, max(HEAD, question.limit * 2)),
    )
    return [_Ranked(int(r), float(s)) for r, s in zip(ranking.rows, ranking.scores, strict=True)]


def _late(meaning: _Meaning, seen: np.ndarray, index: Index, rows: np.ndarray) -> np.ndarray:
    """How well these rows answer the question token by token; NaN where a row has no tokens."""
    assert index.vectors is not None
    asked = meaning.asked
    weights = index.pieces.weights(asked.token_ids[: len(asked.tokens)], seen)
    return late(asked.tokens, weights, [index.vectors.tokens(int(row)) for row in rows])


def _folded(ranking: Sequence[_Ranked], index: Index) -> list[tuple[_Ranked, list[int]]]:
    """The ranking with near-copies behind the first of them."""
    place_of = {place.row: place for place in ranking}
    groups = fold([place.row for place in ranking], index.sketches, index.facets.started)
    return [(place_of[first], copies) for first, *copies in groups]


def _judged(ranking: Sequence[_Ranked], question: Question, index: Index) -> list[_Ranked]:
    """The ranking as people's verdicts leave it."""
    if not index.judged:
        return list(ranking)
    asked = question_words(question.text)
    weighed = []
    for place in ranking:
        incident_id, version = index.facets.keys[place.row]
        judged = index.judged.get(incident_id)
        factor = standing(judged, version, asked, question.as_of) if judged else 1.0
        weighed.append(_Ranked(place.row, place.score * factor))
    return sorted(weighed, key=lambda r: -r.score)


def _hits(
    groups: Sequence[tuple[_Ranked, list[int]]],
    question: Question,
    index: Index,
    reading: Reading,
    meaning: _Meaning | None,
) -> list[Hit]:
    keys = index.facets.keys
    kept = index.store.many([keys[r] for place, copies in groups for r in (place.row, *copies)])
    asked_codes = codes(question.text)
    hits = []
    for place, copies in groups:
        stored = kept.get(keys[place.row])
        if stored is None:
            continue  # forgotten between the ranking and now
        cosine = float(meaning.near.cosines[place.row]) if meaning else np.nan
        terms = reading.shared(place.row)
        shared_codes = _shared(asked_codes, codes(passage(stored.incident)))
        services = _shared_services(question, stored)
        hits.append(
            Hit(
                stored=stored,
                score=place.score,
                why=_why(terms, shared_codes, services, cosine),
                similarity=None if np.isnan(cosine) else cosine,
                coverage=float(reading.coverage[place.row]),
                terms=terms,
                codes=shared_codes,
                services=services,
                outcomes=_outcomes(index.judged.get(keys[place.row][0], []), stored, question),
                copies=[kept[keys[r]] for r in copies if keys[r] in kept],
            )
        )
    return hits


def _shared(asked: Mapping[str, str], held: Mapping[str, str]) -> list[str]:
    return [written for key, written in asked.items() if key in held]


def _shared_services(question: Question, stored: Stored) -> list[str]:
    asked, text = {s.casefold() for s in question.services}, question.text.casefold()
    return [s for s in stored.incident.services if s.casefold() in asked or s.casefold() in text]


def _outcomes(judged: Sequence[Judged], stored: Stored, question: Question) -> dict[str, int]:
    version, as_of = stored.incident.version, question.as_of
    said = [j.verdict for j in judged if j.version == version and not (as_of and j.when >= as_of)]
    return dict(Counter(said))


def _why(
    terms: list[str], shared_codes: list[str], services: list[str], cosine: float
) -> list[str]:
    """Fragments a person reads, the most telling first."""
    said = {c.casefold() for c in shared_codes}
    plain = [t for t in terms if t.casefold() not in said and not t.isdigit()]
    fragments = []
    if shared_codes:
        fragments.append("same error code " + ", ".join(shared_codes[:3]))
    if services:
        fragments.append("same service " + ", ".join(services[:3]))
    if plain:
        fragments.append("shares the words " + ", ".join(plain[:6]))
    if cosine >= 0.5:
        fragments.append("similar description")
    return fragments or ["the nearest there is, with little in common"]
