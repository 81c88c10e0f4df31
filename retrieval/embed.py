"""Text to vectors: one for each chunk of it, and small ones for the tokens it begins with."""

import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest.errors import Unavailable
from retrieval.chunks import Chunk, Chunker
from retrieval.encoder import (
    Encoder,
    Floats,
    Kind,
    NoOnnx,
    OnnxEncoder,
    States,
    TorchEncoder,
    load_torch,
    unit,
)
from retrieval.export import ONNX, TOKENIZER, Export, exported
from retrieval.weights import SHIPPED, Weights, find

log = logging.getLogger(__name__)

# By `benchmarks/embedding.py --tokens`: late interaction over the first different pieces in 96
# dimensions ranks as well as over all of them in 384; over the rarest it ranks far worse.
FORM = 2  # of chunks and token vectors: raised when either is made differently
MOST_TOKENS = 96
QUERY_TOKENS = 128
TOKEN_DIM = 96
KEPT_QUERIES = 256
_GIVING_WAY = 5  # the niceness of threads that embed documents: a query beside them goes first


@dataclass(frozen=True, slots=True)
class Embedding:
    """What is kept of one text to find it by; shared, and not to be written to.

    `vectors` (chunks, dim) float32 of length 1, in the order of the text; `token_ids` (m,) int32,
    the different word pieces of the text as they come first; `tokens` (n, token_dim) int8, unit
    vectors times 127, of the first n of them. A model without token states gives n = m = 0.
    """

    vectors: Floats
    tokens: NDArray[np.int8]
    token_ids: NDArray[np.int32]


class Embedder:
    """One embedding model, ready; may be called from several threads at once.

    `model_id` names the weights and the form of what is made of them: vectors of one id compare
    with each other and with no others. `backend` never changes a result, only its price.
    """

    model_id: str
    dim: int
    token_dim: int
    backend: Literal["onnx", "torch"]

    @classmethod
    def load(
        cls, name: str = SHIPPED, *, cache: Path, threads: int = 1, most_tokens: int = MOST_TOKENS
    ) -> "Embedder":
        """The model that `name` means, exported under `cache` on first use (some 15 s).

        `threads` cores work on documents; a query takes one. Raises `Unavailable` or `Unreadable`,
        naming the setting.
        """
        weights = find(name)
        model_id = f"{weights.name}-{weights.sha256[:12]}-v{FORM}-{TOKEN_DIM}x{most_tokens}"
        export, folder = exported(weights, cache)
        encoder = _encoder(export, folder, weights)
        chunker = Chunker(folder / TOKENIZER, export.window)
        return cls(model_id, export, encoder, chunker, threads=threads, most_tokens=most_tokens)

    def __init__(
        self,
        model_id: str,
        export: Export,
        encoder: Encoder,
        chunker: Chunker,
        *,
        threads: int,
        most_tokens: int,
    ) -> None:
        self.model_id, self.export = model_id, export
        self.dim, self.token_dim = export.dim, min(TOKEN_DIM, export.states_dim)
        self.backend = "onnx" if isinstance(encoder, OnnxEncoder) else "torch"
        self._encoder, self._chunker = encoder, chunker
        self._telling = chunker.telling()
        self._projection = fixed_projection(export.states_dim, self.token_dim)
        self._threads, self._most_tokens = threads, most_tokens
        self._remembered = functools.lru_cache(KEPT_QUERIES)(self._query)

    def embed(
        self, texts: Sequence[str], *, on_batch: Callable[[int], None] | None = None
    ) -> list[Embedding]:
        """One `Embedding` a text, in order; `on_batch` hears how many texts each batch finished."""
        cut = [self._chunker.chunks(text, prompt=self.export.document_prompt) for text in texts]
        chunks = [chunk for parts in cut for chunk in parts]
        owner = [number for number, parts in enumerate(cut) for _ in parts]
        unfinished = [len(parts) for parts in cut]
        made: list[_Part] = [_NOTHING] * len(chunks)

        def parts_at(places: list[int]) -> list[_Part]:
            return self._parts([chunks[place] for place in places], "document")

        batches = _batches(chunks, self._encoder.pieces_at_once)
        pool = ThreadPoolExecutor(self._threads, "embed", initializer=_give_way)
        try:
            for places, parts in zip(batches, pool.map(parts_at, batches), strict=True):
                for place, part in zip(places, parts, strict=True):
                    made[place] = part
                    unfinished[owner[place]] -= 1
                if on_batch:
                    on_batch(len({owner[p] for p in places if not unfinished[owner[p]]}))
        finally:
            pool.shutdown(cancel_futures=True)

        ends = np.cumsum([len(parts) for parts in cut])
        return [_joined(made[end - len(parts) : end]) for end, parts in zip(ends, cut, strict=True)]

    def embed_query(self, text: str) -> Embedding:
        """The same for a question, soon: of its first window only, so with one vector.

        Further windows would each cost as much again and made rankings no better. The last 256
        different questions are remembered.
        """
        return self._remembered(self._chunker.readable(text, most=1))

    def _query(self, text: str) -> Embedding:
        chunks = self._chunker.chunks(text, most=1, prompt=self.export.query_prompt)
        return _joined(self._parts(chunks, "query"))

    def _most(self, kind: Kind) -> int:
        return max(self._most_tokens, QUERY_TOKENS) if kind == "query" else self._most_tokens

    def _parts(self, chunks: Sequence[Chunk], kind: Kind) -> list["_Part"]:
        made = self._encoder.encode(chunks, kind)
        rows = zip(chunks, made.vectors, made.states, strict=True)
        return [self._part(*row, self._most(kind)) for row in rows]

    def _part(self, chunk: Chunk, vector: Floats, states: States, most: int) -> "_Part":
        ids, rows = states.ids[chunk.lead : chunk.end], states.rows[chunk.lead : chunk.end]
        firsts = first_of_each(ids, self._telling)
        kept = firsts[:most]
        small = np.rint(unit(rows[kept] @ self._projection) * 127).astype(np.int8)
        return _Part(vector, small, ids[firsts].astype(np.int32))


@dataclass(frozen=True, slots=True)
class _Part:
    """What one chunk gives: its vector, its tokens, and the ids of all its pieces."""

    vector: Floats
    tokens: NDArray[np.int8]
    token_ids: NDArray[np.int32]


_NOTHING = _Part(np.zeros(0, np.float32), np.zeros((0, 0), np.int8), np.zeros(0, np.int32))


def first_of_each(ids: NDArray[np.int64], telling: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The places where each different telling id comes first, in order."""
    places = np.flatnonzero(telling[ids])
    _, firsts = np.unique(ids[places], return_index=True)
    return places[np.sort(firsts)]


def fixed_projection(width: int, token_dim: int) -> Floats:
    """The (width, token_dim) orthonormal projection of token states: random, the same for ever.

    Measured on three tasks, it ranks as well as one learned (PCA of token states), and unlike
    that one it cannot come out differently on another machine, which would leave stored vectors
    without meaning.
    """
    if not token_dim:
        return np.zeros((0, 0), np.float32)
    # RandomState and not a Generator: numpy promises that its numbers never change.
    basis, triangle = np.linalg.qr(np.random.RandomState(0).standard_normal((width, token_dim)))
    projection: Floats = (basis * np.sign(np.diag(triangle))).astype(np.float32)
    return projection


def _batches(chunks: Sequence[Chunk], pieces_at_once: int) -> list[list[int]]:
    """The places of the chunks that are encoded together: of like length, longest first."""
    batches: list[list[int]] = []
    width = 0
    for place in sorted(range(len(chunks)), key=lambda n: -len(chunks[n].ids)):
        if not batches or (len(batches[-1]) + 1) * width > pieces_at_once:
            batches.append([])
            width = len(chunks[place].ids)
        batches[-1].append(place)
    return batches


def _joined(parts: Sequence[_Part]) -> Embedding:
    """Of a text in several chunks, the first gives the tokens: incidents say it up front."""
    vectors = np.stack([part.vector for part in parts])
    said = np.concatenate([part.token_ids for part in parts])
    _, firsts = np.unique(said, return_index=True)
    embedding = Embedding(vectors, parts[0].tokens, said[np.sort(firsts)])
    for array in (embedding.vectors, embedding.tokens, embedding.token_ids):
        array.flags.writeable = False
    return embedding


def _give_way() -> None:
    if sys.platform == "linux":  # where each thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _GIVING_WAY)


def _encoder(export: Export, folder: Path, weights: Weights) -> Encoder:
    if export.backend == "onnx" and export.pooling:
        try:
            return OnnxEncoder(folder / ONNX, export.pooling)
        except NoOnnx as error:
            log.warning("embedder.fallback backend=torch why=%r", str(error))
    try:
        return TorchEncoder(load_torch(weights.folder), with_states=export.states_dim > 0)
    except ImportError as error:
        raise Unavailable(
            f"the embedding model {weights.name!r} needs {error.name}, which cannot be imported; "
            "install it, or leave retrieval.embedder out"
        ) from error
