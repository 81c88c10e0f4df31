"""One forward pass of the embedding model, by ONNX Runtime or by torch, with equal results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.errors import Unavailable
from retrieval.chunks import Chunk

Kind = Literal["query", "document"]
Pooling = Literal["mean", "cls"]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class States:
    """The last layer over one chunk: `ids` (n,), `rows` (n, width); nothing where there is none."""

    ids: NDArray[np.int64]
    rows: Floats


@dataclass(frozen=True, slots=True)
class Encoded:
    """Unit `vectors` (chunks, dim), and the token states of each chunk."""

    vectors: Floats
    states: list[States]


class Encoder(Protocol):
    """Chunks in, vectors out, in the same order; may be called from several threads at once.

    `pieces_at_once` word pieces, padding included, make the batch that is fastest.
    """

    pieces_at_once: int

    def encode(self, chunks: Sequence[Chunk], kind: Kind) -> Encoded: ...


class NoOnnx(Unavailable):
    """ONNX Runtime is missing, or cannot run this model here."""


class OnnxEncoder:
    """A BERT-like model in ONNX Runtime, one thread a call; torch is never imported."""

    # Measured on 284 chunks of real incidents: a batch of 32 costs a third more than one by one.
    pieces_at_once = 256

    def __init__(self, model: Path, pooling: Pooling) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise NoOnnx(f"onnxruntime cannot be imported: {error}") from error

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # A thread that spins while it waits takes the core from the other requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        with _onnx_errors():
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        self._inputs = {i.name for i in self._session.get_inputs()}
        self._pooling = pooling

    def encode(self, chunks: Sequence[Chunk], kind: Kind) -> Encoded:
        lengths = [len(c.ids) for c in chunks]
        ids = np.zeros((len(chunks), max(lengths)), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, chunk in enumerate(chunks):
            ids[row, : lengths[row]] = chunk.ids
            mask[row, : lengths[row]] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with _onnx_errors():
            [states] = self._session.run(None, {k: feeds[k] for k in self._inputs})
        rows = [states[n, :length] for n, length in enumerate(lengths)]
        pooled = [r[0] if self._pooling == "cls" else r.mean(axis=0) for r in rows]
        return Encoded(
            vectors=unit(np.stack(pooled)),
            states=[States(c.ids, r) for c, r in zip(chunks, rows, strict=True)],
        )


@contextmanager
def _onnx_errors() -> Iterator[None]:
    """What ONNX Runtime raises, as `NoOnnx`; its errors share no class but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    refusals = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf)
    absences = (ort.NoModel, ort.NoSuchFile, ort.NotImplemented, ort.RuntimeException)
    try:
        yield
    except (*refusals, *absences, RuntimeError) as error:
        raise NoOnnx(f"ONNX Runtime failed: {type(error).__name__}") from error


class TorchEncoder:
    """Any sentence-transformers model in torch, on the GPU where there is one."""

    def __init__(self, model: Any, *, with_states: bool = True) -> None:
        self._model = model
        self._with_states = with_states
        self.pieces_at_once = 512 if model.device.type == "cpu" else 32_768
        # transformers' tokenizers raise "Already borrowed" when two threads use one.
        self._one_at_a_time = Lock()

    def encode(self, chunks: Sequence[Chunk], kind: Kind) -> Encoded:
        encode = self._model.encode_query if kind == "query" else self._model.encode_document
        texts = [c.text for c in chunks]
        settings = {"batch_size": len(texts), "show_progress_bar": False}
        with self._one_at_a_time:
            if not self._with_states:
                return Encoded(unit(encode(texts, **settings)), [_NO_STATES] * len(texts))
            rows = encode(texts, output_value=None, **settings)
        vectors = np.stack([_array(r["sentence_embedding"]) for r in rows])
        return Encoded(unit(vectors), [_states(r) for r in rows])


_NO_STATES = States(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))


def load_torch(folder: Path, device: str | None = None) -> Any:
    """The model in sentence-transformers: safetensors only, no code from the folder, no network."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(
        str(folder),
        device=device,
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    ).eval()


def unit(rows: NDArray[Any]) -> Floats:
    """The same rows with length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    scaled: Floats = (rows / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled


def _states(row: dict[str, Any]) -> States:
    kept = _array(row["attention_mask"]).astype(bool)
    ids, rows = _array(row["input_ids"]), _array(row["token_embeddings"])
    return States(ids[kept].astype(np.int64), rows[kept].astype(np.float32))


def _array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().float().cpu().numpy()
    return array
