"""What share of questions is called novel, on task folders, offline.

    python -m benchmarks.novelty FOLDER...

Of each folder's questions: with their answers in the store, with those taken out, and questions of
the folders that share no document with this one (of which two may still be about the same kind of
system). At the store's own size, and at sixty incidents, one of them the answer.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import results
from benchmarks.fusion import CACHE, Store, read, served
from retrieval import rank
from retrieval.embed import Embedder


def main() -> int:
    """0; there is nothing to fall short of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()

    embedder = Embedder.load(cache=CACHE / "models")
    report([Store(read(folder), embedder) for folder in options.folders])
    return 0


def report(stores: Sequence[Store]) -> None:
    """The share of questions called novel, at the store's own size and at sixty incidents."""
    rng = np.random.default_rng(3)
    rows = []
    for store, size in itertools.product(stores, (None, 60)):
        known, removed = _with_and_without(store, size, rng)
        strangers = [
            q for s in stores if not s.task.ids & store.task.ids for q in s.task.asked[:25]
        ]
        everything = np.ones(len(store.services), np.bool_)
        foreign = [_called_novel(store, q["text"], some(everything, size, rng)) for q in strangers]
        shares = [
            f"{np.mean(called):.2f}" if called else "-" for called in (known, removed, foreign)
        ]
        rows.append([store.task.name, str(size or len(store.services)), *shares])
    columns = ["called novel", "incidents", "answered", "answer removed", "foreign"]
    print(results.table(columns, rows))
    command = " ".join(["python -m benchmarks.novelty", *(s.task.name for s in stores)])
    results.keep("novelty", command, {"columns": columns, "rows": rows})


def _with_and_without(
    store: Store, size: int | None, rng: np.random.Generator
) -> tuple[list[bool], list[bool]]:
    """What eighty questions are called with their answers in the store, and without."""
    known, removed = [], []
    for n in rng.permutation(len(store.task.asked))[:80]:
        allowed, answers = store.task.allowed[n], store.task.gains[n] > 0
        rest = some(allowed & ~answers, size, rng)
        if (allowed & answers).any() and rest.sum() >= 30:
            text = store.task.asked[n]["text"]
            answered = rest | some(allowed & answers, 1 if size else None, rng)
            known.append(_called_novel(store, text, answered))
            removed.append(_called_novel(store, text, rest))
    return known, removed


def some(
    mask: npt.NDArray[np.bool_], most: int | None, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """At most so many of these, drawn by chance."""
    if most is None:
        return mask
    chosen = np.zeros_like(mask)
    chosen[rng.permutation(np.flatnonzero(mask))[:most]] = True
    return chosen


def _called_novel(store: Store, text: str, seen: npt.NDArray[np.bool_]) -> bool:
    asked = store.asked(text, seen, seen)
    background = float(asked.cosines[seen].mean())
    best = served(asked).rows[:3]
    return not any(
        rank.is_known(float(asked.reading.coverage[row]), float(asked.cosines[row]), background)
        for row in best
    )


if __name__ == "__main__":
    sys.exit(main())
