"""Chroma's copy of the vectors: derived, disposable, one folder a generation.

The store keeps the vectors; this copy is for the graph search that pays beyond some ten thousand
of them. A generation is written whole, probed by a process of its own, and only then named in
`current.json` by a rename. Chroma's graph files are never written (a kill during a write left
them unreadable; see `SYNC_THRESHOLD`), so an open costs a replay: 2.4 CPU-seconds for 10,000.
"""

import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from retrieval.probe import COLLECTION, open_collection

log = logging.getLogger(__name__)

# Beyond any store this copy serves: 0 of 42 kills damaged a folder, against 10 of 82 at 1,000.
SYNC_THRESHOLD = 1_000_000
BATCH = 2_000  # chromadb 1.5.9 takes at most 5,461 a call
PROBE_TIMEOUT_S = 300


class Unsound(RuntimeError):
    """Chroma's copy cannot be trusted; the sentence says what was seen."""


class Generations:
    """The generations in one folder, for vectors of one model; written by one process only."""

    def __init__(self, folder: Path, model_id: str, dim: int) -> None:
        self.folder = folder
        self.model_id = model_id
        self.dim = dim
        self._lock: IO[str] | None = None
        self._collection: Any = None
        self._opened: Path | None = None

    def own(self) -> bool:
        """True when this process is, or becomes, the only one that writes here."""
        if self._lock:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / "owner.lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def disown(self) -> None:
        """Close the copy and let another process own it."""
        self._close()
        if self._lock:
            self._lock.close()
            self._lock = None

    def current(self) -> Path | None:
        """The folder of the generation in use; None when there is none for this model."""
        try:
            pointer = json.loads((self.folder / "current.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(pointer, dict):
            return None
        if (pointer.get("model_id"), pointer.get("dim")) != (self.model_id, self.dim):
            return None
        folder = self.folder / str(pointer.get("generation"))
        return folder if (folder / "chroma.sqlite3").is_file() else None

    def began(self) -> bool:
        """Whether there ever was a generation here."""
        return any(self.folder.glob("gen-*")) or (self.folder / "current.json").exists()

    def check(self) -> int:
        """How many vectors the current generation holds; `Unsound` says why it cannot be used."""
        folder = self.current()
        if folder is None:
            raise Unsound(f"there is no generation built by {self.model_id}")
        return _probed(folder)

    def intact(self) -> bool:
        """A cheap look: what was opened is still what `current.json` names, and still there."""
        return self._opened is not None and self.current() == self._opened

    def open(self) -> set[str]:
        """Open the current generation, after `check`; the ids that it holds."""
        from chromadb.errors import ChromaError

        folder = self.current()
        if folder is None:
            raise Unsound("there is no current generation")
        try:
            self._collection = open_collection(folder)
            self._opened = folder
            return set(self._collection.get(include=[])["ids"])
        except ChromaError as error:
            raise Unsound(f"Chroma cannot open {folder.name}: {error}") from error

    def upsert(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        from chromadb.errors import ChromaError

        try:
            for at in range(0, len(ids), BATCH):
                self._collection.upsert(
                    ids=list(ids[at : at + BATCH]), embeddings=vectors[at : at + BATCH]
                )
        except ChromaError as error:
            raise Unsound(f"Chroma refused a write: {error}") from error

    def delete(self, ids: Sequence[str]) -> None:
        from chromadb.errors import ChromaError

        try:
            for at in range(0, len(ids), BATCH):
                self._collection.delete(ids=list(ids[at : at + BATCH]))
        except ChromaError as error:
            raise Unsound(f"Chroma refused a delete: {error}") from error

    def nearest(self, vector: np.ndarray, limit: int) -> list[tuple[str, float]]:
        """The `limit` nearest ids and their cosines, best first."""
        from chromadb.errors import ChromaError

        if self._collection is None:
            raise Unsound("no generation is open")
        try:
            found = self._collection.query(
                query_embeddings=[vector], n_results=limit, include=["distances"]
            )
        except ChromaError as error:
            raise Unsound(f"Chroma cannot search: {error}") from error
        return [(i, 1.0 - d) for i, d in zip(found["ids"][0], found["distances"][0], strict=True)]

    def rebuild(self, batches: Iterable[tuple[Sequence[str], np.ndarray]]) -> int:
        """A new generation of these ids and unit vectors, probed, then current; its size."""
        self._close()
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = self.folder / f"gen-{time.time_ns():x}"
        _create(fresh)
        self._collection = open_collection(fresh)
        for ids, vectors in batches:
            self.upsert(ids, vectors)
        count = _probed(fresh)
        self._point_at(fresh)
        self._opened = fresh
        for old in self.folder.glob("gen-*"):
            if old != fresh:
                shutil.rmtree(old, ignore_errors=True)
        log.info("index.rebuilt generation=%s vectors=%d", fresh.name, count)
        return count

    def _point_at(self, generation: Path) -> None:
        pointer = {"generation": generation.name, "model_id": self.model_id, "dim": self.dim}
        draft = self.folder / "current.json.new"
        with draft.open("w", encoding="utf-8") as file:
            json.dump(pointer, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / "current.json")

    def _close(self) -> None:
        self._collection = None
        self._opened = None


def _create(folder: Path) -> None:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.PersistentClient(
        path=str(folder), settings=Settings(anonymized_telemetry=False)
    )
    client.create_collection(
        COLLECTION,
        embedding_function=None,
        configuration={"hnsw": {"space": "ip", "sync_threshold": SYNC_THRESHOLD, "ef_search": 200}},
    )


def _probed(folder: Path) -> int:
    """The probe's count; `Unsound` when it died, hung, or missed one of its own vectors."""
    command = [sys.executable, "-m", "retrieval.probe", str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unsound(f"the probe of {folder.name} hung for {PROBE_TIMEOUT_S} s") from None
    if done.returncode < 0:
        raise Unsound(f"the probe of {folder.name} was ended by signal {-done.returncode}")
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        raise Unsound(f"the probe of {folder.name} failed: {last[0][:200]}") from None
    if not answer["sound"]:
        raise Unsound(f"{answer['misses']} of {answer['asked']} vectors did not find themselves")
    return int(answer["count"])
