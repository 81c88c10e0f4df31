"""One event told several times: on several pages, in several tools, in parts and as a whole."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]

RUN = 5  # words
KEPT = 512  # most texts have fewer runs, and are kept whole
# One page often holds more updates than the other: what counts is how much of the shorter text is
# found in the longer. Measured on public status pages: 96 % of 1,653 posts that operators made on
# several pages, and 95 % of 44 incidents that two archives tell, have these.
ALIKE = 0.8
ENOUGH = 10  # runs in common sampling below which containment means nothing
# A provider tells different outages of one week in one sentence, so a short text must be close in
# time; a long one repeats itself only about the same event, even where an archive errs by a day.
AT_ONCE_S = 2 * 3600.0
SAME_DAYS_S = 48 * 3600.0
LONG = 60  # runs

_WORD = re.compile(rb"[0-9a-z\x80-\xff]+")


@dataclass(frozen=True, slots=True)
class Sketch:
    """A sample of a text's runs of five words: its smallest hashes, ascending; `runs`: how many."""

    hashes: Hashes
    runs: int

    def up_to(self, limit: int) -> Hashes:
        return self.hashes[: np.searchsorted(self.hashes, limit, side="right")]

    @property
    def limit(self) -> int:
        """The hash below which every run of the text is in the sample."""
        return int(self.hashes[-1]) if len(self.hashes) < self.runs else 0xFFFFFFFF


def sketch(text: str) -> Sketch:
    """What is kept of a text to tell its copies; two kilobytes at most."""
    found = _WORD.findall(text.lower().encode("utf-8", "replace"))
    words = np.fromiter(map(zlib.crc32, found), np.uint64, len(found))
    if not len(words):
        return Sketch(np.zeros(0, np.uint32), 0)
    runs = np.zeros(max(1, len(words) - RUN + 1), np.uint64)
    for place in range(min(RUN, len(words))):
        # Polynomial hash, modulo 2^64; odd multiplier from Knuth's MMIX generator.
        runs = runs * np.uint64(6364136223846793005) + words[place : place + len(runs)]
    hashes = np.unique(_mixed(runs))
    return Sketch(hashes[:KEPT], len(hashes))


def same_event(one: Sketch, other: Sketch, started: float, other_started: float) -> bool:
    """Whether two texts tell of one event; `started` in seconds, NaN where nobody said (never)."""
    apart = abs(started - other_started)
    shorter = min(one.runs, other.runs)
    if not (apart <= AT_ONCE_S or (apart <= SAME_DAYS_S and shorter >= LONG)):
        return False
    return _alike(one, other)


def fold(
    rows: Sequence[int], sketches: Sequence[Sketch], started: Callable[[int], float]
) -> list[list[int]]:
    """The rows in groups that tell of one event, in the order of each group's first row.

    A row belongs to the first group whose first row it is a copy of, not to a copy of a copy.
    """
    groups: list[list[int]] = []
    began = {row: started(row) for row in rows}
    for row in rows:
        for group in groups:
            first = group[0]
            if not abs(began[first] - began[row]) <= SAME_DAYS_S:
                continue  # nearly all pairs end here
            if same_event(sketches[first], sketches[row], began[first], began[row]):
                group.append(row)
                break
        else:
            groups.append([row])
    return groups


def _alike(one: Sketch, other: Sketch) -> bool:
    limit = min(one.limit, other.limit)
    mine, theirs = one.up_to(limit), other.up_to(limit)
    both = len(np.intersect1d(mine, theirs, assume_unique=True))
    shorter, all_runs = min(len(mine), len(theirs)), len(mine) + len(theirs) - both
    if min(one.runs, other.runs) < ENOUGH:
        return both >= ALIKE * all_runs > 0
    return shorter >= ENOUGH and both >= ALIKE * shorter


def _mixed(runs: npt.NDArray[np.uint64]) -> Hashes:
    """Evenly spread 32 bits of each: the finalizer of MurmurHash3."""
    runs = (runs ^ (runs >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    runs = (runs ^ (runs >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (runs >> np.uint64(32)).astype(np.uint32)
