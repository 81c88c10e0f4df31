"""How words, meaning and late interaction are put together, compared on task folders, offline.

    python -m benchmarks.fusion FOLDER...

A folder holds `corpus.jsonl`, `queries.jsonl` and `qrels.tsv`, as those of `../shared`. Scores are
nDCG@10 (gain 2^grade - 1); each gain is against the best of BM25 (bm25s), MiniLM and their
reciprocal rank fusion over the same texts, with a 95 % interval from a paired bootstrap. Embedding
four thousand documents takes minutes; the vectors are kept in `benchmarks/.cache`.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import hashlib
import itertools
import json
import pickle
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import results
from ingest.incident import Incident
from retrieval import rank
from retrieval.embed import Embedder, Embedding
from retrieval.lexical import Lexical, Reading
from retrieval.rank import Floats, Pieces, Ranking
from retrieval.words import passage

CACHE = Path(__file__).parent / ".cache"
K, RRF_K, DEPTH = 10, 60, 200
LATER_CHUNK = 0.05  # as the index does it
Matrix = npt.NDArray[np.float32]
Scorer = Callable[["Asked"], Floats]


@dataclass(frozen=True)
class Task:
    """One folder, read: what is known, what is asked, and what would answer it."""

    name: str
    ids: frozenset[str]
    texts: list[str]  # as they came, for the baselines
    incidents: list[Incident]
    asked: list[dict[str, Any]]
    allowed: npt.NDArray[np.bool_]  # (questions, documents)
    gains: Matrix
    ideal: Floats


@dataclass(frozen=True)
class Asked:
    """One question, and what every part of the search makes of it: (documents,) each."""

    text: str
    allowed: npt.NDArray[np.bool_]
    reading: Reading
    cosines: Floats
    late: Floats  # NaN beyond the best few hundred
    services: list[frozenset[str]]
    baselines: dict[str, Floats]


def main() -> int:
    """0 when the served ranking is above the best baseline on every folder, or within chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()

    embedder = Embedder.load(cache=CACHE / "models")
    tasks = [read(folder) for folder in options.folders]
    stores = [Store(task, embedder) for task in tasks]
    asked = [[store.ask(n) for n in range(len(store.task.asked))] for store in stores]
    return report_rankings(tasks, asked)


def read(folder: Path) -> Task:
    docs = _records(folder / "corpus.jsonl")
    grades: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
        asker, document, grade = line.split("\t")
        grades[asker][document] = int(grade)
    asked = [q for q in _records(folder / "queries.jsonl") if grades[q["id"]]]
    ids = [doc["id"] for doc in docs]
    times = np.array([doc.get("started_at") or "" for doc in docs])
    allowed = np.array([~np.isin(ids, q.get("exclude") or []) for q in asked])
    for n, query in enumerate(asked):
        if query.get("before"):
            allowed[n] &= times < query["before"]
    wanted = [[2.0 ** grades[q["id"]].get(i, 0) - 1 for i in ids] for q in asked]
    best = [sorted(grades[q["id"]].values(), reverse=True)[:K] for q in asked]
    ideal = [sum((2.0**g - 1) / np.log2(r + 2) for r, g in enumerate(row)) for row in best]
    return Task(
        name=folder.name,
        ids=frozenset(ids),
        texts=[doc["text"] for doc in docs],
        incidents=[_incident(doc) for doc in docs],
        asked=asked,
        allowed=allowed,
        gains=np.array(wanted, np.float32),
        ideal=np.array(ideal, np.float32),
    )


def _records(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _incident(doc: dict[str, Any]) -> Incident:
    """The document as it is sent to the API: its first line is the title."""
    title, _, rest = doc["text"].partition("\n")
    whole = doc["text"] if len(title) > 300 else rest or title
    return Incident(
        source="bench",
        source_id=doc["id"],
        title=title[:300].strip() or doc["id"],
        summary=whole,
        services=doc.get("components") or [],
    )


class Store:
    """One task's documents, indexed as the product does it."""

    def __init__(self, task: Task, embedder: Embedder) -> None:
        self.task = task
        passages = [passage(incident) for incident in task.incidents]
        self.services = [frozenset(incident.services) for incident in task.incidents]
        self.lexical = Lexical()
        self.lexical.add(passages)
        made = embedded(passages, embedder)
        self.tokens = [m.tokens for m in made]
        self.pieces = Pieces()
        self.pieces.add(range(len(made)), [m.token_ids for m in made])
        self.chunks = np.concatenate([m.vectors for m in made])
        self.owner = np.repeat(np.arange(len(made)), [len(m.vectors) for m in made])
        self.plain = np.stack([m.vectors[0] for m in made])
        # Where the passage names services, the text alone means something else.
        named = [n for n, services in enumerate(self.services) if services]
        for n, again in zip(named, embedded([task.texts[n] for n in named], embedder), strict=True):
            self.plain[n] = again.vectors[0]
        self.bm25, self.stemmed = _bm25(task.texts)
        self.embedder = embedder

    def ask(self, n: int) -> Asked:
        query = self.task.asked[n]
        seen = np.ones(len(self.services), np.bool_)
        if query.get("before"):
            seen = self.task.allowed[n]
        return self.asked(query["text"], seen, self.task.allowed[n])

    def asked(
        self, text: str, seen: npt.NDArray[np.bool_], allowed: npt.NDArray[np.bool_]
    ) -> Asked:
        """What the parts make of a question about the documents that are `seen`."""
        reading = self.lexical.ask(text, seen)
        meant = self.embedder.embed_query(text)
        cosines = self._cosines(meant.vectors[0])
        late = np.full(len(seen), np.nan, np.float32)
        parts = (reading.scores, cosines, rank.fuse(reading.scores, cosines, allowed))
        barred = [np.where(allowed, part, -np.inf).astype(np.float32) for part in parts]
        rows = np.unique(np.concatenate([rank.head(part, 100) for part in barred]))
        weights = self.pieces.weights(meant.token_ids[: len(meant.tokens)], seen)
        late[rows] = rank.late(meant.tokens, weights, [self.tokens[row] for row in rows])
        bm25, minilm = self.bm25.get_scores(self.stemmed(text)), self.plain @ meant.vectors[0]
        both = reciprocal(np.asarray(bm25), allowed) + reciprocal(minilm, allowed)
        baselines = {"bm25": np.asarray(bm25), "minilm": minilm, "rrf": both}
        return Asked(text, allowed, reading, cosines, late, self.services, baselines)

    def _cosines(self, question: Floats) -> Floats:
        later = np.concatenate([[False], self.owner[1:] == self.owner[:-1]])
        best = np.full(len(self.services), -1.0, np.float32)
        np.maximum.at(best, self.owner, self.chunks @ question - LATER_CHUNK * later)
        return best


def _bm25(texts: Sequence[str]) -> tuple[Any, Callable[[str], list[str]]]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    how: dict[str, Any] = {"stopwords": "en", "stemmer": stemmer, "show_progress": False}
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(texts), **how), show_progress=False)

    def stemmed(text: str) -> list[str]:
        words: list[str] = bm25s.tokenize([text], return_ids=False, **how)[0]
        return words

    return index, stemmed


def embedded(texts: Sequence[str], embedder: Embedder) -> list[Embedding]:
    """Their embeddings, from the cache where they have been made before."""
    key = hashlib.sha256("\0".join([embedder.model_id, *texts]).encode()).hexdigest()[:16]
    kept = CACHE / f"fusion-{key}.pkl"
    if not kept.exists():
        print(f"embedding {len(texts)} texts ...", file=sys.stderr, flush=True)
        made = embedder.embed(texts)
        kept.parent.mkdir(exist_ok=True)
        kept.write_bytes(pickle.dumps([(m.vectors, m.tokens, m.token_ids) for m in made]))
    return [Embedding(*fields) for fields in pickle.loads(kept.read_bytes())]


def reciprocal(scores: Floats, allowed: npt.NDArray[np.bool_]) -> Floats:
    """Reciprocal rank of the best 200."""
    fused = np.zeros(len(scores), np.float32)
    order = np.argsort(-np.where(allowed, scores, -np.inf), kind="stable")[:DEPTH]
    fused[order] = 1 / (RRF_K + 1 + np.arange(len(order)))
    return fused


def weighed(words: float, meaning: float, late: float = 1.0) -> Scorer:
    """The product's sum with other weights."""

    def score(asked: Asked) -> Floats:
        most = asked.reading.scores.max(initial=1e-9, where=asked.allowed)
        total: Floats = words * asked.reading.scores / most + meaning * asked.cosines
        return total + np.float32(late) * asked.late if late else total

    return score


def standardised(asked: Asked) -> Floats:
    """Every part shifted and scaled to mean 0 and deviation 1 over what was compared by tokens."""
    known = ~np.isnan(asked.late) & asked.allowed
    parts = (asked.reading.scores, asked.cosines, asked.late)
    words, meaning, late = [(p - p[known].mean()) / (p[known].std() + 1e-9) for p in parts]
    total: Floats = 0.8 * words + 0.5 * meaning + late
    return total


def three_ranks(asked: Asked) -> Floats:
    late = np.nan_to_num(asked.late, nan=-1.0)
    return sum(
        (reciprocal(p, asked.allowed) for p in (asked.reading.scores, asked.cosines, late)),
        np.zeros(len(late), np.float32),
    )


def served(asked: Asked) -> Ranking:
    """What the product answers."""
    return rank.rank(
        asked.reading.scores,
        asked.cosines,
        asked.allowed,
        compare=lambda rows: asked.late[rows],
        services=lambda row: asked.services[row],
    )


def served_scores(asked: Asked) -> Floats:
    scores = np.full(len(asked.cosines), -np.inf, np.float32)
    ranking = served(asked)
    scores[ranking.rows] = ranking.scores
    return scores


WAYS: dict[str, Scorer] = {
    "words": lambda a: a.reading.scores,
    "meaning": lambda a: a.cosines,
    "late": lambda a: a.late,
    "ranks of two": lambda a: (
        reciprocal(a.reading.scores, a.allowed) + reciprocal(a.cosines, a.allowed)
    ),
    "ranks of three": three_ranks,
    "standardised": standardised,
    "words + meaning": weighed(rank.WORDS, rank.MEANING, 0.0),
    "all three": weighed(rank.WORDS, rank.MEANING),
    "half the words": weighed(rank.WORDS / 2, rank.MEANING),
    "twice the words": weighed(rank.WORDS * 2, rank.MEANING),
    "half the meaning": weighed(rank.WORDS, rank.MEANING / 2),
    "twice the meaning": weighed(rank.WORDS, rank.MEANING * 2),
    "served": served_scores,
}


def ndcg(task: Task, asked: Sequence[Asked], way: Scorer) -> Floats:
    """(questions,)"""
    return np.array([_ndcg(task, n, way(one)) for n, one in enumerate(asked)], np.float32)


def _ndcg(task: Task, n: int, scores: Floats) -> float:
    allowed = task.allowed[n] & ~np.isnan(scores)
    order = np.argsort(-np.where(allowed, scores, -np.inf), kind="stable")[:K]
    gains = task.gains[n, order] * allowed[order]
    return float((gains / np.log2(np.arange(len(gains)) + 2)).sum() / task.ideal[n])


def interval(values: Floats) -> tuple[float, float, float]:
    """Mean, and the 95 % interval of the bootstrap."""
    rng = np.random.default_rng(11)
    means = values[rng.integers(0, len(values), (4000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def report_rankings(tasks: Sequence[Task], asked: Sequence[Sequence[Asked]]) -> int:
    base = [
        {name: ndcg(t, a, _baseline(name)) for name in ("bm25", "minilm", "rrf")}
        for t, a in zip(tasks, asked, strict=True)
    ]
    best = [max(b.values(), key=lambda scores: scores.mean()) for b in base]
    table = [
        [k, *(f"{b[k].mean():.3f}" for b in base), _mean([b[k] for b in base])] for k in base[0]
    ]
    falls_short, figures = False, {}
    for name, way in WAYS.items():
        scores = [ndcg(t, a, way) for t, a in zip(tasks, asked, strict=True)]
        gains = [interval(s - b) for s, b in zip(scores, best, strict=True)]
        figures[name] = {
            t.name: [float(s.mean()), *g] for t, s, g in zip(tasks, scores, gains, strict=True)
        }
        cells = [f"{s.mean():.3f} ({g[0]:+.3f})" for s, g in zip(scores, gains, strict=True)]
        table.append([name, *cells, _mean(scores)])
    last = figures["served"].values()
    table.append(
        ["served, gain", *(f"{g:+.3f} [{lo:+.3f}, {hi:+.3f}]" for _, g, lo, hi in last), ""]
    )
    table.append(["left out", *left_out(tasks, asked, best), ""])
    print(results.table(["nDCG@10", *(t.name for t in tasks), "mean"], table))
    falls_short = any(high < 0 for *_, high in last)
    results.keep(
        "fusion", " ".join(["python -m benchmarks.fusion", *(t.name for t in tasks)]), figures
    )
    return int(falls_short)


def _baseline(name: str) -> Scorer:
    return lambda asked: asked.baselines[name]


def left_out(
    tasks: Sequence[Task], asked: Sequence[Sequence[Asked]], best: Sequence[Floats]
) -> list[str]:
    """The gain on each task under the weights that are best on the others."""
    grid = list(itertools.product((0.2, 0.3, 0.4, 0.5, 0.7, 1.0), (0.25, 0.5, 0.75, 1.0, 1.5)))
    gains = np.array(
        [
            [
                (ndcg(t, a, weighed(*w)) - b).mean()
                for t, a, b in zip(tasks, asked, best, strict=True)
            ]
            for w in grid
        ]
    )
    cells = []
    for n in range(len(tasks)):
        others = [m for m in range(len(tasks)) if m != n] or [n]
        chosen = int(gains[:, others].mean(axis=1).argmax())
        cells.append(f"{gains[chosen, n]:+.3f} by {grid[chosen]}")
    return cells


def _mean(scores: Sequence[Floats]) -> str:
    return f"{np.mean([s.mean() for s in scores]):.3f}"


if __name__ == "__main__":
    sys.exit(main())
