"""Turn a sentence-transformers model into what a process without torch can run.

    python -m retrieval.conversion NAME FOLDER SHA256 INTO

writes into INTO the tokenizer, model.onnx where ONNX Runtime gives equal answers in less time,
and export.json, which says what was found.
"""

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.chunks import Chunker
from retrieval.encoder import (
    Encoder,
    Kind,
    NoOnnx,
    OnnxEncoder,
    Pooling,
    TorchEncoder,
    load_torch,
)
from retrieval.export import (
    FORMAT,
    ONNX,
    SIDECAR,
    TOKENIZER,
    Export,
    versions,
)
from retrieval.weights import Weights, file_sha256

LEAST_COSINE = 0.999
LONGEST_WINDOW = 512  # attention costs its square, and one vector blurs a longer text

# Written to be awkward: nothing, one word, code, other scripts, and one longer than any window.
_PROBES = [
    "",
    ".",
    "timeout",
    "Checkout answers 502 since the 14:05 deploy; p99 of payments-api is 9.8 s and rising.",
    'level=error ts=2031-02-03T04:05:06.789Z caller=pool.go:118 err="dial tcp: i/o timeout" n=42',
    "java.lang.OutOfMemoryError: Java heap space\n\tat org.example.Cart.total(Cart.java:77)",
    "Диск заполнен на узле базы данных; 磁盘已满，主库只读。 Réplication arrêtée 🔥",
    "the connection pool of the orders database is exhausted again " * 90,
]
_TIMED = _PROBES[3] + " " + _PROBES[4]


class Misfit(Exception):
    """The reason why this model is left to torch."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How ONNX Runtime did beside sentence-transformers: worst cosine, CPU time of one query."""

    pooling: Pooling
    cosine_min: float
    onnx_ms: float
    torch_ms: float

    def verdict(self) -> str:
        """Why ONNX Runtime is not taken; empty when it is."""
        if not self.cosine_min >= LEAST_COSINE:  # also when it is not a number
            return f"not equal: cosine {self.cosine_min:.5f}"
        if self.onnx_ms >= self.torch_ms:
            return f"not faster: {self.onnx_ms:.1f} ms against {self.torch_ms:.1f} ms"
        return ""


def convert(weights: Weights, into: Path) -> Export:
    """Write the export of this model into `into`; takes torch of this process to one thread."""
    import torch

    torch.set_num_threads(1)
    model = load_torch(weights.folder, device="cpu")
    _tokenizer_of(model).save(str(into / TOKENIZER))
    window = int(min(model.max_seq_length or LONGEST_WINDOW, LONGEST_WINDOW))
    chunker = Chunker(into / TOKENIZER, window)
    reference = TorchEncoder(model, with_states=type(model[0]).__name__ == "Transformer")
    sample = reference.encode(chunker.chunks(_TIMED), "document")

    trial = None
    try:
        trial = _try(model, reference, chunker, into / ONNX)
        why_not = trial.verdict()
    except Misfit as misfit:
        why_not = str(misfit)
    if why_not:
        (into / ONNX).unlink(missing_ok=True)

    export = Export(
        format=FORMAT,
        model=weights.name,
        weights_sha256=weights.sha256,
        backend="torch" if why_not else "onnx",
        why=why_not or "equal and faster",
        pooling=trial and trial.pooling,
        window=window,
        dim=sample.vectors.shape[1],
        states_dim=sample.states[0].rows.shape[1],
        query_prompt=_prompt(model, "query"),
        document_prompt=_prompt(model, "document"),
        cosine_min=trial and trial.cosine_min,
        onnx_ms=trial and trial.onnx_ms,
        torch_ms=trial and trial.torch_ms,
        versions=versions(),
        files={p.name: file_sha256(p) for p in sorted(into.iterdir())},
    )
    (into / SIDECAR).write_text(export.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return export


def _tokenizer_of(model: Any) -> Any:
    tokenizer = getattr(model.tokenizer, "backend_tokenizer", model.tokenizer)
    if not hasattr(tokenizer, "save"):
        raise SystemExit(f"`tokenizers` cannot read its {type(tokenizer).__name__}")
    return tokenizer


def _prompt(model: Any, kind: Kind) -> str:
    """What sentence-transformers puts before a text of this kind."""
    names = ["query"] if kind == "query" else ["document", "passage", "corpus"]
    return next((model.prompts[name] for name in names if name in model.prompts), "")


def _try(model: Any, reference: Encoder, chunker: Chunker, path: Path) -> Trial:
    """Write the ONNX file and compare it; raises `Misfit` where that makes no sense."""
    pooling = _pooling(model)
    _write_onnx(model, path)
    try:
        onnx = OnnxEncoder(path, pooling)
        cosine_min = min(
            _worst_cosine(onnx, reference, chunker, "query", _prompt(model, "query")),
            _worst_cosine(onnx, reference, chunker, "document", _prompt(model, "document")),
        )
    except NoOnnx as error:
        raise Misfit(str(error)) from error
    prompt = _prompt(model, "query")

    def ask(encoder: Encoder) -> Callable[[], object]:
        return lambda: encoder.encode(chunker.chunks(_TIMED, prompt=prompt), "query")

    onnx_ms, torch_ms = fastest_ms(ask(onnx), ask(reference))
    return Trial(pooling, cosine_min, onnx_ms, torch_ms)


def _pooling(model: Any) -> Pooling:
    """How the vector is made of token states, where that is all that happens to them."""
    kinds = [type(module).__name__ for module in model]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Misfit(f"made of {', '.join(kinds)}")
    mode: Any = model[1].pooling_mode
    if mode not in ("mean", "cls"):
        raise Misfit(f"pooled by {mode}")
    if not model[1].include_prompt and any(model.prompts.values()):
        raise Misfit("leaves its prompt out of the pooling")
    if not {"input_ids", "attention_mask"} <= set(model.tokenizer.model_input_names):
        raise Misfit(f"reads {', '.join(model.tokenizer.model_input_names)}")
    pooling: Pooling = mode
    return pooling


def _write_onnx(model: Any, path: Path) -> None:
    import torch

    class LastLayer(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True))).last_hidden_state

    takes = model.tokenizer.model_input_names
    names = [n for n in ("input_ids", "attention_mask", "token_type_ids") if n in takes]
    ids = torch.ones(2, 9, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0  # a padded row: without one the mask would be traced away
    values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    try:
        _trace(LastLayer(model[0].model).eval(), {n: values[n] for n in names}, path)
    except (ImportError, RuntimeError, ValueError, TypeError) as error:
        raise Misfit(f"torch cannot export it: {type(error).__name__}") from error


def _trace(layer: Any, inputs: dict[str, Any], path: Path) -> None:
    import torch

    with warnings.catch_warnings():
        # The exporter announces its end and each branch it follows; the trial judges the result.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python", Warning)
        warnings.filterwarnings("ignore", "Exporting aten::", UserWarning)
        torch.onnx.export(
            layer,
            tuple(inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=["states"],
            dynamic_axes={n: {0: "chunks", 1: "pieces"} for n in [*inputs, "states"]},
            opset_version=17,
            dynamo=False,
        )


def _worst_cosine(
    onnx: Encoder, reference: Encoder, chunker: Chunker, kind: Kind, prompt: str
) -> float:
    """Over all probes, each alone and all in one padded batch."""
    chunks = [c for text in _PROBES for c in chunker.chunks(text, most=2, prompt=prompt)]
    expected = np.concatenate([reference.encode([c], kind).vectors for c in chunks])
    alone = np.concatenate([onnx.encode([c], kind).vectors for c in chunks])
    together = onnx.encode(chunks, kind).vectors
    cosines = np.concatenate([(expected * alone).sum(axis=1), (expected * together).sum(axis=1)])
    return float(cosines.min())


def fastest_ms(*calls: Callable[[], object], rounds: int = 15) -> list[float]:
    """The least CPU time of each call, taken in turns: CPU time, as others use this machine too."""
    fastest = [float("inf")] * len(calls)
    for _ in range(rounds):
        for n, call in enumerate(calls):
            start = time.process_time()
            call()
            fastest[n] = min(fastest[n], (time.process_time() - start) * 1000)
    return [round(ms, 3) for ms in fastest]


def main() -> None:
    name, folder, sha256, into = sys.argv[1:]
    convert(Weights(name, Path(folder), sha256), Path(into))


if __name__ == "__main__":
    main()
