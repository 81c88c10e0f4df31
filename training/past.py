"""What could be known when an incident began: its precedents as of then, asked once and kept.

A search takes tens of milliseconds and a store has thousands of incidents, while an import or a
week of work changes the past of few. So the ranking is kept, as ids without a word of text, under
a digest of everything it came from: the question, what was visible, the verdicts, the embedder and
the code that ranks.
"""

import hashlib
import os
from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

import numpy as np
import orjson

from ingest.store import Stored
from retrieval import search as searching
from retrieval.index import Index
from retrieval.prompt import question_text
from retrieval.quotes import key
from retrieval.search import Question, search
from training.admission import AT_ONCE

RANKED = 10  # hits kept: of these some are cases, and are never shown
SAVED_EVERY = 500  # searches lost at most when the process is killed

Key = tuple[str, int]
_File = dict[str, tuple[str, list[Key]]]


class Past:
    """The past of the incidents of one index; nothing may be added to the index meanwhile."""

    def __init__(self, index: Index, kept: Path) -> None:
        self.index = index
        self._kept = kept
        self._before = _read(kept)
        self._now: _File = {}
        self._searched = 0  # since what was asked was kept
        self._rows = index.facets.n
        self._marks = np.array([_mark(k) for k in index.facets.keys[: self._rows]], np.uint64)
        self._verdicts = _Verdicts(index)

    def seen(self, at: datetime) -> np.ndarray:
        """Which rows of the index were known just before `at`, (rows,) booleans."""
        return self.index.facets.seen(at)[: self._rows]

    def precedents(self, stored: Stored, seen: np.ndarray) -> list[Key]:
        """The (id, version) that a search would have shown when this began, best first."""
        incident = stored.incident
        assert incident.started_at
        asked = question_text(incident)
        digest = self._digest(asked, incident.started_at, seen)
        id, _ = key(stored)
        held = self._before.get(id)
        if held is None or held[0] != digest:
            question = Question(asked, as_of=incident.started_at, limit=RANKED)
            answer = search(question, self.index, query_id="")
            held = (digest, [key(hit.stored) for hit in answer.hits])
            self._searched += 1
        # While vectors are awaited or rows arrive, the same question will be answered better.
        if not awaiting_meaning(self.index) and self.index.facets.n == self._rows:
            self._now[id] = held
        if self._searched >= SAVED_EVERY:
            self._save({**self._before, **self._now})
        return held[1]

    def save(self) -> None:
        """Keep what was asked, and only that: what was forgotten is not asked any more."""
        if self._now != self._before:
            self._save(self._now)

    def _digest(self, asked: str, at: datetime, seen: np.ndarray) -> str:
        embedder = self.index.embedder.model_id if self.index.embedder else None
        # A sum of 2 x 64 bits: the same whatever the order, and every row counts.
        visible = self._marks[seen].sum(axis=0, dtype=np.uint64).tolist()
        told = [asked, at.isoformat(), visible, self._verdicts.before(at), embedder, RANKED]
        return hashlib.sha256(orjson.dumps([*told, _ranking()])).hexdigest()[:32]

    def _save(self, file: _File) -> None:
        draft = self._kept.with_name(self._kept.name + ".draft")
        draft.write_bytes(orjson.dumps(file))
        os.replace(draft, self._kept)
        self._searched = 0


class _Verdicts:
    """People's verdicts that stand, in the order in which they were given."""

    def __init__(self, index: Index) -> None:
        given = sorted(
            (j.when, id, j.version, j.verdict, sorted(j.asked or ()))
            for id, judged in index.judged.items()
            for j in judged
        )
        self._when = [when for when, *_ in given]
        self._upto = [""]
        for when, *said in given:
            told = orjson.dumps([self._upto[-1], when, *said])
            self._upto.append(hashlib.sha256(told).hexdigest()[:32])

    def before(self, at: datetime) -> str:
        return self._upto[bisect_left(self._when, at)]


def awaiting_meaning(index: Index) -> int:
    """How many versions are compared by their words only, while others are by their meaning."""
    return index.unembedded() if index.embedder else 0


def known_rows(index: Index, label: Callable[[Stored], str]) -> list[str]:
    """The label of every row of the index; empty for what was forgotten."""
    keys = index.facets.keys[: index.facets.n]
    labels: dict[Key, str] = {}
    for start in range(0, len(keys), AT_ONCE):
        some = index.store.many(keys[start : start + AT_ONCE])
        labels |= {k: label(stored) for k, stored in some.items()}
    return [labels.get(k, "") for k in keys]


@cache
def _ranking() -> str:
    """A digest of the code that ranks: another release may rank otherwise."""
    room = Path(searching.__file__).parent
    digest = hashlib.sha256()
    for module in sorted(room.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()


def _mark(key: Key) -> tuple[int, int]:
    digest = hashlib.sha256(f"{key[0]}:{key[1]}".encode()).digest()
    return int.from_bytes(digest[:8]), int.from_bytes(digest[8:16])


def _read(kept: Path) -> _File:
    """What is kept; nothing when there is no file, or not one of ours: then it is asked again."""
    try:
        told = orjson.loads(kept.read_bytes())
        return {
            id: (digest, [(other, int(version)) for other, version in hits])
            for id, (digest, hits) in told.items()
        }
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}
