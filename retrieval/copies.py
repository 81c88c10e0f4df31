"""The same event told twice: near-copies are shown as one hit."""

import re
import zlib
from dataclasses import dataclass

import numpy as np

SHINGLE = 5  # words
KEPT = 64  # of the smallest hashes: the Jaccard index is estimated to about 0.06 (Broder, 1997)
ALIKE = 0.8
WITHIN_S = 48 * 3600.0

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Sketch:
    """The smallest hashes of a text's runs of five words, ascending; at most 64."""

    hashes: np.ndarray


def sketch(text: str) -> Sketch:
    """What is kept of a text to tell its copies."""
    words = _WORD.findall(text.lower())
    runs = {" ".join(words[n : n + SHINGLE]) for n in range(max(1, len(words) - SHINGLE + 1))}
    hashes = np.fromiter((zlib.crc32(run.encode()) for run in runs), np.uint32, len(runs))
    return Sketch(np.sort(hashes)[:KEPT])


def resemblance(one: Sketch, other: Sketch) -> float:
    """The estimated Jaccard index of two texts' runs of words, 0 to 1."""
    smallest = np.union1d(one.hashes, other.hashes)[:KEPT]
    both = np.intersect1d(one.hashes, other.hashes, assume_unique=True)
    return float(np.isin(smallest, both, assume_unique=True).mean()) if len(smallest) else 0.0


def same_event(one: Sketch, other: Sketch, started: float, other_started: float) -> bool:
    """Whether two incidents tell of one event: nearly the same words, begun within two days.

    Words alone do not say it: a provider describes many outages with one sentence.
    """
    near = abs(started - other_started) <= WITHIN_S
    return near and resemblance(one, other) >= ALIKE
