"""What the streams are answered without any training: the nearest stored case's answer, copied.

Every ranking gives (asked, stored) scores for the cases that are stored at the time; what they
count (how rare a word is) they count among those alone.
"""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval import rank
from retrieval.embed import Embedder, Embedding
from retrieval.lexical import Lexical

CACHE = Path(__file__).parent / ".cache"
TEMPERATURE = 0.05  # of the votes: a neighbour 0.05 nearer weighs e times as much
Scores = npt.NDArray[np.float64]
Ranking = Callable[[Sequence[str], Sequence[str]], Scores]


def by_tfidf(stored: Sequence[str], asked: Sequence[str]) -> Scores:
    """Cosines of sublinear TF-IDF over words."""
    vectors = _words().fit(stored)
    found: Scores = (vectors.transform(asked) @ vectors.transform(stored).T).toarray()
    return found


def by_bm25(stored: Sequence[str], asked: Sequence[str]) -> Scores:
    """bm25s with Porter's stemmer, as others measure it."""
    import bm25s
    import Stemmer

    how: dict[str, Any] = {
        "stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "show_progress": False,
    }  # fmt: skip
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(stored), **how), show_progress=False)
    asked_words = [bm25s.tokenize([text], return_ids=False, **how)[0] for text in asked]
    return np.stack([index.get_scores(words) for words in asked_words]).astype(float)


def by_words(stored: Sequence[str], asked: Sequence[str]) -> Scores:
    """The product's own BM25."""
    lexical = Lexical()
    lexical.add(stored)
    return np.stack([lexical.ask(text).scores for text in asked]).astype(float)


class Meanings:
    """MiniLM over the first window of every text, embedded once and kept in the cache."""

    def __init__(self, texts: Sequence[str]) -> None:
        every = list(dict.fromkeys(texts))
        name = hashlib.sha256("\0".join(every).encode()).hexdigest()[:16]
        path = CACHE / "streams" / f"embedded-{name}.pickle"
        if not path.exists():
            embedder = Embedder.load(cache=CACHE / "models")
            made = {text: embedder.embed_query(text) for text in every}
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(made))
        self.of: dict[str, Embedding] = pickle.loads(path.read_bytes())

    def alone(self, stored: Sequence[str], asked: Sequence[str]) -> Scores:
        """Cosines."""
        known = np.stack([self.of[text].vectors[0] for text in stored])
        found: Scores = np.stack([known @ self.of[text].vectors[0] for text in asked]).astype(float)
        return found

    def ranked(self, stored: Sequence[str], asked: Sequence[str]) -> Scores:
        """The product's ranking: words, meaning, and the meaning word by word."""
        words, cosines = by_words(stored, asked), self.alone(stored, asked)
        pieces, seen = rank.Pieces(), np.ones(len(stored), np.bool_)
        pieces.add(range(len(stored)), [self.of[text].token_ids for text in stored])
        tokens = [self.of[text].tokens for text in stored]
        found = np.full(words.shape, -np.inf)
        for n, text in enumerate(asked):
            meant = self.of[text]
            weights = pieces.weights(meant.token_ids[: len(meant.tokens)], seen)
            first = rank.fuse(words[n].astype(np.float32), cosines[n].astype(np.float32), seen)
            rows = rank.head(first)
            late = rank.late(meant.tokens, weights, [tokens[row] for row in rows])
            found[n, rows] = rank.settle(first[rows], late)
        return found


def fused(one: Scores, other: Scores) -> Scores:
    """Reciprocal rank fusion, k 60."""
    first, second = (
        1 / (60.0 + (-scores).argsort(1, kind="stable").argsort(1)) for scores in (one, other)
    )
    return first + second


def copied(
    scores: Scores, answers: Sequence[str], choices: Sequence[Sequence[str] | None]
) -> list[str | None]:
    """The answer of the nearest stored case, of those that may be chosen; None where none may."""
    said: list[str | None] = []
    for row, allowed in zip(scores, choices, strict=True):
        order = np.argsort(-row, kind="stable")
        fit = (answers[n] for n in order if not allowed or answers[n] in allowed)
        said.append(next(fit, None))
    return said


def votes(scores: Scores, answers: Sequence[str], columns: Sequence[str]) -> Scores:
    """(asked, columns): the share of each answer among the stored cases, the nearer the heavier."""
    weights = np.exp((scores - scores.max(1, keepdims=True)) / TEMPERATURE)
    said = np.array([[answer == column for column in columns] for answer in answers], float)
    found: Scores = (weights / weights.sum(1, keepdims=True)) @ said
    return found


def softmax_over_words(
    stored: Sequence[str], answers: Sequence[str], asked: Sequence[str], columns: Sequence[str]
) -> Scores:
    """(asked, columns) probabilities of a softmax over TF-IDF, trained on all that is stored."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    vectors = _words().fit(stored)
    fitted = LogisticRegression(C=30, max_iter=300).fit(vectors.transform(stored), answers)
    sure = fitted.predict_proba(vectors.transform(asked))
    found = np.zeros((len(asked), len(columns)))
    found[:, [list(columns).index(answer) for answer in fitted.classes_]] = sure
    return found


def _words() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer  # type: ignore[import-untyped]

    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w\w+")
