"""The index: what the store holds, resident and searchable; derived, disposable, self-healing.

It follows the store's change feed in two steps: a change is found by its words as soon as it is
read, and by its meaning once it has been embedded. The vectors go to the store's own shelf, so a
rebuild never embeds again, and to Chroma (`generations`), whose copy is checked and rebuilt by
itself; while it is unsound, or below `exact_below` vectors, the resident ones are scanned.
"""

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ingest import vectors as shelf
from ingest.feedback import Feedback, given
from ingest.queries import kept
from ingest.store import Change, Store, Stored
from retrieval.columns import Facets, Vectors, key_of
from retrieval.copies import Sketch, sketch
from retrieval.embed import Embedder, Embedding
from retrieval.generations import Generations, Unsound
from retrieval.lexical import Lexical
from retrieval.mirror import SOUND, Mirror
from retrieval.rank import Pieces
from retrieval.standing import Judged
from retrieval.words import passage

log = logging.getLogger(__name__)

SHELF_AT_ONCE = 500
EMBED_AT_ONCE = 32  # about a second on one core: what a live incident may wait behind an import


@dataclass(frozen=True, slots=True)
class Condition:
    """How the index stands; `copy` is about Chroma's copy, in words."""

    incidents: int
    lag: int
    embedder: str | None
    vectors: int
    copy: str
    healed: int


@dataclass(frozen=True, slots=True)
class Near:
    """Each row's cosine, (rows,) float32, NaN where unknown; `background` is an average row's."""

    cosines: np.ndarray
    background: float


@dataclass(frozen=True, slots=True)
class _Unembedded:
    row: int
    key: tuple[str, int]
    passage_hash: str


class Index:
    """The resident index over one store; reads from any thread, changes under one lock."""

    def __init__(
        self,
        store: Store,
        *,
        embedder: Embedder | None = None,
        generations: Generations | None = None,
        exact_below: int = 25_000,
    ) -> None:
        self.store = store
        self.facets = Facets()
        self.lexical = Lexical()
        self.vectors: Vectors | None = None
        self.pieces = Pieces()
        self.sketches: list[Sketch] = []
        self.judged: dict[str, list[Judged]] = {}
        self.embedder: Embedder | None = None
        self.mirror: Mirror | None = None
        self.exact_below = exact_below
        self.awaits_meaning = False
        self._cursor = 0
        self._unshelved: deque[_Unembedded] = deque()  # not looked up on the shelf yet
        self._waiting: deque[_Unembedded] = deque()  # not on the shelf: to be embedded
        self._in_hand = 0  # being embedded now
        # Two threads may follow the feed at once: the one that wrote, and the background's.
        self._writing = threading.Lock()
        if embedder:
            self.use(embedder, generations)

    def use(self, embedder: Embedder, generations: Generations | None = None) -> None:
        """Compare by meaning from now on; what is already followed waits to be embedded."""
        with self._writing:
            again = self.embedder is not None
            vectors = Vectors(embedder.dim)
            self.mirror = Mirror(generations, self.facets, vectors) if generations else None
            self.vectors, self.pieces = vectors, Pieces()
            self.embedder, self.awaits_meaning = embedder, True
        if again:
            self._refollow()

    def follow(self) -> int:
        """Apply what the store has recorded since; how many changes that were.

        What is applied is found by its words when this returns; costs about 0.1 ms an incident.
        """
        applied = 0
        with self._writing:
            while changes := self.store.changes(self._cursor):
                self._apply(changes)
                self._cursor = changes[-1].seq
                applied += len(changes)
        return applied

    def embed_some(self, most: int = EMBED_AT_ONCE) -> int:
        """Give vectors to the next waiting incidents, from the shelf or new; how many were done.

        Only one thread may call this. What the shelf holds costs nothing and does not count.
        """
        if self.embedder is None:
            return 0
        self._take_from_shelf()
        batch = self._taken(self._waiting, most)
        try:
            self._embed(batch)
        except BaseException:
            with self._writing:
                self._waiting.extendleft(reversed(batch))
            raise
        finally:
            self._in_hand = 0
        return len(batch)

    def embed_all(self, progress: Callable[[int, int], None] | None = None) -> int:
        """Give vectors to whatever waits now; how many were done, of so many. As `embed_some`."""
        done = self.embed_some(0)
        total = self.unembedded()
        while batch := self.embed_some():
            done += batch
            if progress:
                progress(done, max(done, total))
        return done

    def tend(self) -> None:
        """Keep Chroma's copy in step and sound; only the thread that embeds may call this.

        Costs nothing when there is nothing to do.
        """
        if self.mirror:
            self.mirror.tend()

    def rebuild(self) -> int | None:
        """A new generation from the vectors at hand; None when this process keeps no copy."""
        return self.mirror.rebuild() if self.mirror else None

    def lag(self) -> int:
        """Incidents that the store holds and this index does not know yet, by words or by meaning.

        Meaning counts once an embedder is there, or on its way (`awaits_meaning`).
        """
        unread = len({c.incident_id for c in self.store.changes(self._cursor)})
        return unread + (self.unembedded() if self.awaits_meaning else 0)

    def condition(self) -> Condition:
        """How the index stands now."""
        return Condition(
            incidents=self.facets.count(),
            lag=self.lag(),
            embedder=self.embedder.model_id if self.embedder else None,
            vectors=self.vectors.n if self.vectors else 0,
            copy=self.mirror.state if self.mirror else "not kept by this process",
            healed=self.mirror.healed if self.mirror else 0,
        )

    def unembedded(self) -> int:
        """How many versions are found by their words only, so far."""
        return len(self._unshelved) + len(self._waiting) + self._in_hand

    def near(self, query: np.ndarray, mask: np.ndarray, *, whole: bool) -> Near:
        """How near every row of `mask` is to the question.

        Exact, except for a question to the whole store of more than `exact_below` vectors: then
        the graph's nearest, and NaN for the rest.
        """
        assert self.vectors is not None
        mirror = self.mirror
        small = self.vectors.n <= self.exact_below
        if whole and not small and mirror and mirror.state == SOUND:
            try:
                return Near(mirror.nearest(query, mask), self.vectors.background(query))
            except Unsound as why:
                log.warning("index.unsound why=%r", str(why))
                mirror.state = f"unsound: {why}"
        cosines = self.vectors.cosines(query, mask)
        known = cosines[~np.isnan(cosines)]
        return Near(cosines, float(known.mean()) if len(known) else 0.0)

    def close(self) -> None:
        """Let another process own Chroma's copy."""
        if self.mirror:
            self.mirror.close()

    def _apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.kind == "forget":
                self._drop(change.incident_id)
        keys = [(c.incident_id, c.version) for c in changes if c.kind in ("put", "trust")]
        kept = self.store.many(list(dict.fromkeys(keys)))
        fresh = [
            s
            for key, s in kept.items()
            if key not in self.facets.row_of and s.incident.trust == "trusted"
        ]
        self._add(sorted(fresh, key=lambda s: s.seq))
        for incident_id in {c.incident_id for c in changes if c.kind == "feedback"}:
            standing = given(self.store, incident_id=incident_id)
            self.judged[incident_id] = [Judged.of(f, self._asked(f)) for f in standing]

    def _add(self, versions: Sequence[Stored]) -> None:
        texts = [passage(s.incident) for s in versions]
        self.lexical.add(texts)
        for stored, text in zip(versions, texts, strict=True):
            self.sketches.append(sketch(text))
            row = self.facets.add(stored)
            passage_hash = hashlib.sha256(text.encode()).hexdigest()
            self._unshelved.append(_Unembedded(row, key_of(stored), passage_hash))

    def _asked(self, feedback: Feedback) -> str | None:
        return kept(self.store, feedback.query_id).text if feedback.query_id else None

    def _drop(self, incident_id: str) -> None:
        for row in self.facets.drop(incident_id):
            self.lexical.remove(row)
            if self.mirror:
                self.mirror.remove(row)
            if self.vectors:
                self.vectors.wipe(row)
                self.pieces.remove(row)
        self.judged.pop(incident_id, None)

    def _refollow(self) -> None:
        # Another embedder: everything known by its words waits for vectors once more.
        kept = self.store.many(list(self.facets.row_of))
        with self._writing:
            self._waiting.clear()
            self._unshelved = deque(
                _Unembedded(row, key, hashlib.sha256(passage(s.incident).encode()).hexdigest())
                for key, s in kept.items()
                if (row := self.facets.row_of.get(key)) is not None
            )

    def _taken(self, waiting: deque[_Unembedded], most: int) -> list[_Unembedded]:
        with self._writing:
            batch = [waiting.popleft() for _ in range(min(most, len(waiting)))]
            self._in_hand = len(batch)
            return batch

    def _take_from_shelf(self) -> None:
        assert self.embedder is not None
        while batch := self._taken(self._unshelved, SHELF_AT_ONCE):
            held = shelf.vectors(self.store, self.embedder.model_id, [w.key for w in batch])
            found: list[tuple[int, Embedding]] = []
            with self._writing:
                for one in batch:
                    row = held.get(one.key)
                    if row and row.content_hash == one.passage_hash:
                        found.append((one.row, _from_shelf(row, self.embedder)))
                    else:
                        self._waiting.append(one)
                self._place(found)
                self._in_hand = 0

    def _embed(self, batch: Sequence[_Unembedded]) -> None:
        assert self.embedder is not None
        kept = self.store.many([w.key for w in batch])
        there = [w for w in batch if w.key in kept]
        if not there:
            return
        made = self.embedder.embed([passage(kept[w.key].incident) for w in there])
        rows = [_shelved(w, e) for w, e in zip(there, made, strict=True)]
        shelf.put_vectors(self.store, self.embedder.model_id, rows)
        with self._writing:
            self._place([(w.row, e) for w, e in zip(there, made, strict=True)])

    def _place(self, made: Sequence[tuple[int, Embedding]]) -> None:
        assert self.vectors is not None
        # What was forgotten while it was being embedded has no place any more.
        there = [(row, e) for row, e in made if self.facets.keys[row] in self.facets.row_of]
        for row, embedding in there:
            self.vectors.add(row, embedding.vectors, embedding.tokens)
            if self.mirror:
                self.mirror.add(row)
        self.pieces.add([row for row, _ in there], [e.token_ids for _, e in there])


def _shelved(waiting: _Unembedded, embedding: Embedding) -> shelf.Shelved:
    meta = f"{len(embedding.vectors)}x{len(embedding.tokens)}"
    return shelf.Shelved(
        incident_id=waiting.key[0],
        version=waiting.key[1],
        content_hash=waiting.passage_hash,
        vectors=embedding.vectors.astype(np.float32).tobytes(),
        tokens=embedding.tokens.astype(np.int8).tobytes()
        + embedding.token_ids.astype(np.int32).tobytes(),
        meta=meta,
    )


def _from_shelf(row: shelf.Shelved, embedder: Embedder) -> Embedding:
    chunks, tokens = (int(n) for n in row.meta.split("x"))
    split = tokens * embedder.token_dim
    return Embedding(
        vectors=np.frombuffer(row.vectors, np.float32).reshape(chunks, embedder.dim),
        tokens=np.frombuffer(row.tokens[:split], np.int8).reshape(tokens, embedder.token_dim),
        token_ids=np.frombuffer(row.tokens[split:], np.int32),
    )
