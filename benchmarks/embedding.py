"""What an embedding costs in ONNX Runtime and in sentence-transformers, and what tokens are worth.

    python -m benchmarks.embedding [--texts 300] [--int8] [--tokens]

One thread each, least CPU time of calls taken in turns, since others use the machine too. `--int8`
adds the dynamically quantised model, which is not shipped: its vectors are not equal. `--tokens`
ranks three public tasks by late interaction alone, over different choices of tokens (minutes).
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import json
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpus, results
from retrieval.chunks import Chunk, Chunker
from retrieval.conversion import LEAST_COSINE, fastest_ms
from retrieval.embed import MOST_TOKENS, TOKEN_DIM, Embedder, first_of_each, fixed_projection
from retrieval.encoder import Encoder, Floats, OnnxEncoder, load_torch, unit
from retrieval.export import ONNX, TOKENIZER, exported
from retrieval.weights import SHIPPED, find
from retrieval.words import passage

CACHE = Path(__file__).parent / ".cache" / "models"
TASKS = Path(__file__).parents[2] / "shared" / "data" / "dev" / "tasks"
LEAST_THROUGHPUT = 0.9
SERVE = """
import sys
from pathlib import Path
from retrieval.embed import Embedder
embedder = Embedder.load(cache=Path(sys.argv[1]))
for n in range(50):
    embedder.embed_query(f"question {n}: " + "the checkout is slow again " * n)
assert "torch" not in sys.modules
status = Path("/proc/self/status").read_text()
print(int(status.split("VmRSS:")[1].split()[0]) // 1024)
"""


def main() -> int:
    """0 when ONNX Runtime is equal, faster on a query and fast enough on documents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--tokens", action="store_true")
    options = parser.parse_args()

    export, folder = exported(find(SHIPPED), CACHE)
    assert export.pooling, f"ONNX was not chosen: {export.why}"
    chunker = Chunker(folder / TOKENIZER, export.window)
    encoders = {"onnx": OnnxEncoder(folder / ONNX, export.pooling)}
    if options.int8:
        encoders["onnx int8"] = OnnxEncoder(quantised(folder), export.pooling)
    torch = load_torch(find(SHIPPED).folder, "cpu")

    figures: dict[str, Any] = {"queries": queries(encoders, torch, chunker)}
    texts = [passage(i) for i in corpus.incidents(options.texts)]
    figures["documents"] = documents(encoders, torch, chunker, texts) | {"of": corpus.origin()}
    figures["serving_rss_mb"] = int(_said([sys.executable, "-c", SERVE, str(CACHE)]))
    print(f"a process that only answers queries: {figures['serving_rss_mb']} MB")
    if options.tokens:
        figures["tokens_ndcg@10"] = tokens(encoders["onnx"], chunker)
    results.keep("embedding", " ".join(["python -m benchmarks.embedding", *sys.argv[1:]]), figures)
    onnx = figures["documents"]["onnx"]
    equal = onnx["cosine_min"] >= LEAST_COSINE and onnx["throughput_ratio"] >= LEAST_THROUGHPUT
    # At a full window both run at the speed of the processor's multiplications.
    faster = all(row["ratio"] < (1 if row["pieces"] < 256 else 1.1) for row in figures["queries"])
    return int(not (equal and faster))


def queries(encoders: dict[str, OnnxEncoder], torch: Any, chunker: Chunker) -> list[dict[str, Any]]:
    """CPU milliseconds of one query of 16, 64 and 256 word pieces, the tokenizer included."""
    rows = []
    for pieces in (16, 64, 256):
        text = " ".join(["disk"] * (pieces - 2))
        calls = [_asking(encoder, chunker, text) for encoder in encoders.values()]
        *ours, theirs = fastest_ms(*calls, partial(torch.encode_query, text))
        row = {"pieces": pieces, **dict(zip(encoders, ours, strict=True))}
        rows.append(row | {"sentence-transformers": theirs, "ratio": round(ours[0] / theirs, 3)})
    print(results.table(list(rows[0]), [list(row.values()) for row in rows]))
    return rows


def _asking(encoder: Encoder, chunker: Chunker, text: str) -> Callable[[], object]:
    return lambda: encoder.encode(chunker.chunks(text, most=1), "query")


def documents(
    encoders: dict[str, OnnxEncoder], torch: Any, chunker: Chunker, texts: list[str]
) -> dict[str, Any]:
    """Chunks a CPU-second through `Embedder.embed` and through `encode` of the same chunks."""
    export, _ = exported(find(SHIPPED), CACHE)
    chunks = [c.text for text in texts for c in chunker.chunks(text)]
    theirs, cpu_s = _timed(lambda: torch.encode(chunks, normalize_embeddings=True))
    figures: dict[str, Any] = {"texts": len(texts), "chunks": len(chunks)}
    figures["sentence-transformers"] = {"chunks_per_cpu_s": round(len(chunks) / cpu_s, 1)}
    for name, encoder in encoders.items():
        embedder = Embedder(name, export, encoder, chunker, threads=1, most_tokens=MOST_TOKENS)
        made, took_s = _timed(partial(embedder.embed, texts))
        ours = np.concatenate([embedding.vectors for embedding in made])
        figures[name] = {
            "chunks_per_cpu_s": round(len(chunks) / took_s, 1),
            "throughput_ratio": round(cpu_s / took_s, 3),
            "cosine_min": round(float((ours * theirs).sum(axis=1).min()), 5),
        }
        print(f"{name}: {figures[name]}, against {figures['sentence-transformers']}")
    return figures


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    made = call()
    return made, time.process_time() - start


def quantised(folder: Path) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    path = folder.parent / f"{folder.name}-int8.onnx"
    quantize_dynamic(folder / ONNX, path, per_channel=True)
    return path


@dataclass(frozen=True, slots=True)
class Pieces:
    """The telling word pieces of one text, over all its chunks: ids (n,) and unit rows (n, 384)."""

    ids: np.ndarray
    rows: np.ndarray


Choice = Callable[[Pieces], Pieces]


def tokens(encoder: Encoder, chunker: Chunker) -> dict[str, dict[str, float]]:
    """nDCG@10 of late interaction alone, weighted by IDF, for each choice of tokens and task."""
    figures: dict[str, dict[str, float]] = defaultdict(dict)
    for task in ("same_fault", "symptom_to_report", "alert_to_runbook"):
        if not (TASKS / task).exists():
            print(f"skipped {task}: {TASKS} is not there")
            continue
        asked, known, relevant = _task(TASKS / task)
        corpus_pieces = [_pieces(encoder, chunker, chunker.chunks(d["text"])) for d in known]
        questions = [_pieces(encoder, chunker, chunker.chunks(q["text"])[:1]) for q in asked]
        idf = _idf(corpus_pieces, len(chunker.telling()))
        for name, (choose, of_query) in _choices().items():
            scores = _scores(questions, corpus_pieces, idf, choose, of_query)
            ndcg = [
                _ndcg(row, q, known, relevant[q["id"]])
                for row, q in zip(scores, asked, strict=True)
            ]
            figures[name][task] = round(float(np.mean(ndcg)), 3)
    if figures:
        rows = [[name, *by_task.values()] for name, by_task in figures.items()]
        print(results.table(["tokens", *next(iter(figures.values()))], rows))
    return dict(figures)


def _choices() -> dict[str, tuple[Choice, Choice]]:
    """By name, which tokens of a document and which of a query."""
    matrix = fixed_projection(384, TOKEN_DIM)

    def first(most: int) -> Choice:
        def choose(p: Pieces) -> Pieces:
            kept = first_of_each(p.ids, np.ones(p.ids.max(initial=0) + 1, dtype=bool))[:most]
            return Pieces(p.ids[kept], p.rows[kept])

        return choose

    def rarest(p: Pieces) -> Pieces:
        # A vocabulary is listed by falling frequency.
        kept = np.sort(np.argsort(-p.ids, kind="stable")[:MOST_TOKENS])
        return Pieces(p.ids[kept], p.rows[kept])

    def small(choose: Choice) -> Choice:
        def chosen(p: Pieces) -> Pieces:
            kept = choose(p)
            return Pieces(kept.ids, np.rint(unit(kept.rows @ matrix) * 127) / 127)

        return chosen

    def every(p: Pieces) -> Pieces:
        return p

    return {
        "all of both, 384 dimensions": (every, every),
        "first 64 different of both, 384 dimensions": (first(64), first(64)),
        "first 64 different of both, 96, int8 (ours)": (small(first(64)), small(first(64))),
        "first 32 different of both, 96, int8": (small(first(32)), small(first(32))),
        "first 128 different of both, 96, int8": (small(first(128)), small(first(128))),
        "first 64 different, all of the query, 96, int8": (small(first(64)), small(every)),
        "64 rarest, all of the query, 96, int8": (small(rarest), small(every)),
    }


def _pieces(encoder: Encoder, chunker: Chunker, chunks: list[Chunk]) -> Pieces:
    telling = chunker.telling()
    parts = []
    for chunk in chunks:
        [states] = encoder.encode([chunk], "document").states
        ids, rows = states.ids[chunk.lead : chunk.end], states.rows[chunk.lead : chunk.end]
        parts.append((ids[telling[ids]], unit(rows[telling[ids]])))
    return Pieces(np.concatenate([i for i, _ in parts]), np.concatenate([r for _, r in parts]))


def _idf(pieces: list[Pieces], size: int) -> Floats:
    seen = Counter(n for p in pieces for n in set(p.ids.tolist()))
    count = np.array([seen[n] for n in range(size)])
    return np.log(1 + (len(pieces) - count + 0.5) / (count + 0.5)).astype(np.float32)


def _scores(
    questions: list[Pieces], documents: list[Pieces], idf: Floats, choose: Choice, of_query: Choice
) -> list[Floats]:
    chosen = [choose(p) for p in documents]
    starts = np.cumsum([0] + [len(p.ids) for p in chosen[:-1]])
    matrix = np.concatenate([p.rows for p in chosen])
    asked = [of_query(q) for q in questions]
    best = (np.maximum.reduceat(matrix @ q.rows.T, starts, axis=0) for q in asked)
    return [rows @ idf[q.ids] for rows, q in zip(best, asked, strict=True)]


def _task(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    asked, known = (
        [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]
        for name in ("queries.jsonl", "corpus.jsonl")
    )
    relevant: dict[str, Any] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text("utf-8").splitlines()[1:]:
        query, document, grade = line.split("\t")
        relevant[query][document] = int(grade)
    return [q for q in asked if relevant[q["id"]]], known, relevant


def _ndcg(
    scores: Floats, query: dict[str, Any], known: list[dict[str, Any]], grades: dict[str, int]
) -> float:
    hidden = set(query.get("exclude") or [])
    ranked = [known[n]["id"] for n in np.argsort(-scores, kind="stable")]
    gains = [2 ** grades.get(d, 0) - 1 for d in ranked if d not in hidden][:10]
    ideal = sorted((2**g - 1 for g in grades.values()), reverse=True)[:10]
    discounts = 1 / np.log2(np.arange(2, 12))
    found = float(np.dot(gains, discounts[: len(gains)]))
    return found / float(np.dot(ideal, discounts[: len(ideal)]))


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
