"""Chroma's copy kept in step with the resident vectors, checked, and rebuilt when it is unsound."""

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np

from retrieval.columns import Facets, Vectors
from retrieval.generations import Generations, Unsound

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 5.0
PROBE_AGAIN_S = 600.0
REBUILD_AT_ONCE = 500
NEIGHBOURS = 400  # chunks asked of the graph: near-copies and superseded versions use some up

SOUND = "sound"


class Mirror:
    """What Chroma should hold, and whether it does; only the thread that embeds calls `tend`.

    `state` is `sound`, or says in words what it is instead; `healed` counts the rebuilds of a copy
    that was lost or damaged.
    """

    def __init__(self, generations: Generations, facets: Facets, vectors: Vectors) -> None:
        self.state = "not opened"
        self.healed = 0
        self._generations = generations
        self._facets = facets
        self._vectors = vectors
        self._added: list[int] = []
        self._removed: list[str] = []
        self._looked = self._probed = float("-inf")

    def add(self, row: int) -> None:
        """This row has vectors now."""
        self._added.append(row)

    def remove(self, row: int) -> None:
        """This row is about to lose its vectors."""
        self._removed += self._ids(row)

    def tend(self) -> None:
        """Bring Chroma's copy up to date; check it now and then, and heal what is found."""
        if not self._generations.own():
            self.state = "kept by another process"
            return
        try:
            self._look()
            self._bring_up_to_date()
        except Unsound as why:
            if self.state == SOUND or self._generations.began():
                log.warning("index.unsound why=%r", str(why))
                self.healed += self._rebuild(str(why)) is not None
            else:
                self._rebuild("first made")

    def rebuild(self) -> int | None:
        """Write a new generation now; its size, None when another process keeps the copy."""
        return self._rebuild("asked for") if self._generations.own() else None

    def nearest(self, query: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The graph's nearest rows of `mask`: their cosines, NaN elsewhere; (rows,) float32."""
        best = np.full(len(mask), np.nan, np.float32)
        for chunk, cosine in self._generations.nearest(query, NEIGHBOURS):
            incident_id, version, _ = chunk.rsplit(":", 2)
            row = self._facets.row_of.get((incident_id, int(version)))
            if row is not None and row < len(mask) and mask[row]:
                best[row] = np.fmax(best[row], cosine)
        return best

    def close(self) -> None:
        """Let another process keep the copy."""
        self._generations.disown()

    def _look(self) -> None:
        now, opened = time.monotonic(), self.state == SOUND
        if opened and now - self._looked < LOOK_AGAIN_S:
            return
        self._looked = now
        if opened and not self._generations.intact():
            raise Unsound("the folder in use was removed or replaced")
        if opened and now - self._probed < PROBE_AGAIN_S:
            return
        self._probed = now
        self._generations.check()
        if not opened:
            self._open()

    def _open(self) -> None:
        held = self._generations.open()
        wanted = {chunk: row for row in self._vectors.rows() for chunk in self._ids(row)}
        self._removed = sorted(held - wanted.keys())
        self._added = sorted({row for chunk, row in wanted.items() if chunk not in held})
        self.state = SOUND

    def _bring_up_to_date(self) -> None:
        removed, self._removed = self._removed, []
        if removed:
            self._generations.delete(removed)
        rows, self._added = self._added, []
        if rows:
            self._generations.upsert(*self._batch(rows))

    def _rebuild(self, why: str) -> int | None:
        self.state = f"rebuilding: {why}"
        self._added, self._removed = [], []
        rows = sorted(self._vectors.rows())
        slices = [rows[at : at + REBUILD_AT_ONCE] for at in range(0, len(rows), REBUILD_AT_ONCE)]
        self._looked = self._probed = time.monotonic()
        try:
            count = self._generations.rebuild(self._batches(slices))
        except (Unsound, OSError) as error:
            log.error("index.rebuild_failed why=%r", str(error))
            self.state = f"unsound: {error}"
            return None
        self.state = SOUND
        return count

    def _batches(
        self, slices: Sequence[Sequence[int]]
    ) -> Iterator[tuple[Sequence[str], np.ndarray]]:
        for rows in slices:
            yield self._batch(rows)

    def _batch(self, rows: Sequence[int]) -> tuple[list[str], np.ndarray]:
        present = [row for row in rows if self._vectors.has(row)]
        ids = [chunk for row in present for chunk in self._ids(row)]
        parts = [self._vectors.of(row) for row in present]
        return ids, np.concatenate([np.zeros((0, self._vectors.dim), np.float32), *parts])

    def _ids(self, row: int) -> list[str]:
        incident_id, version = self._facets.keys[row]
        return [f"{incident_id}:{version}:{n}" for n in range(len(self._vectors.of(row)))]
