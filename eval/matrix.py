"""The forgetting matrix: how well every era was known after each one that was learned.

`R[i][j]` is the score on era `j` of the model that had learned the eras up to `i`; era 0 is what
the base knows, so row 0 is the base itself. Libraries call different things "forgetting" (that
of Avalanche starts from the first score, that of Mammoth takes in the last row), so every metric
here is a named variant with its formula, and what was not measured is None.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from eval.score import Arm, Slice, outcome
from eval.transcript import Transcript
from ingest.errors import Refused

Score = float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name, its formula, and its value; None where `words` say why."""

    name: str
    formula: str
    value: Score
    words: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Square; `rows[i][j]` as above, with None where era `j` was not replayed after era `i`.

    What lies above the diagonal (an era not yet learned) is only used by `fwt`.
    """

    eras: tuple[str, ...]
    rows: tuple[tuple[Score, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.eras)
        if not size or len(self.rows) != size or any(len(row) != size for row in self.rows):
            raise Refused(f"a forgetting matrix of {size} eras needs {size} rows of {size} scores")
        if any(score is not None and not isfinite(score) for row in self.rows for score in row):
            raise Refused("a score of the forgetting matrix is not finite; replay that era again")

    @property
    def last(self) -> int:
        """T, the number of eras learned after the base."""
        return len(self.eras) - 1

    def acc(self, *, first: int = 1) -> Score:
        """Average accuracy at the end, the mean of R[T][j] over j >= `first`; 0 counts the base."""
        return _mean([self.rows[-1][j] for j in range(first, self.last + 1)])

    def aia(self) -> Score:
        """Average incremental accuracy: the mean over i >= 1 of the mean of R[i][1..i]."""
        return _mean([_mean(self.rows[i][1 : i + 1]) for i in range(1, self.last + 1)])

    def la(self) -> Score:
        """Learning accuracy: the mean of R[j][j] over j >= 1."""
        return _mean([self.rows[j][j] for j in range(1, self.last + 1)])

    def bwt(self, *, first: int = 1) -> Score:
        """Backward transfer (GEM), the mean of R[T][j] - R[j][j] over `first` <= j < T."""
        ends = [_less(self.rows[-1][j], self.rows[j][j]) for j in range(first, self.last)]
        return _mean(ends)

    def forgotten(self, era: int) -> Score:
        """max of R[l][era] over era <= l < T, less R[T][era]: below 0 where it was never better."""
        seen = [self.rows[i][era] for i in range(era, self.last)]
        return _less(_greatest(seen), self.rows[-1][era])

    def forgetting(self, *, first: int = 1) -> Score:
        """Forgetting against the best ever (Chaudhry 2018): the mean of `forgotten` over j < T."""
        return _mean([self.forgotten(j) for j in range(first, self.last)])

    def base_kept(self) -> Score:
        """R[T][0]: what is left of what the base knew."""
        return self.rows[-1][0]

    def fwt(self) -> Score:
        """Forward transfer, the mean of R[j-1][j] - R[0][j] over j >= 2; see `metrics`."""
        return _mean([_less(self.rows[j - 1][j], self.rows[0][j]) for j in range(2, self.last + 1)])

    def metrics(self, *, labels_seen: bool = False) -> list[Metric]:
        """All of them by name. Without `labels_seen` the causes of an era cannot be known before
        it, so forward transfer is undefined and not 0.
        """
        none = "not measured: a score that it needs is missing"
        named = [
            ("ACC", "mean R[T][j], j >= 1", self.acc()),
            ("ACC with base", "mean R[T][j], j >= 0", self.acc(first=0)),
            ("AIA", "mean over i >= 1 of mean R[i][1..i]", self.aia()),
            ("LA", "mean R[j][j], j >= 1", self.la()),
            ("BWT", "mean R[T][j] - R[j][j], 1 <= j < T", self.bwt()),
            ("BWT with base", "mean R[T][j] - R[j][j], 0 <= j < T", self.bwt(first=0)),
            ("forgetting", "mean max R[j..T-1][j] - R[T][j], 1 <= j < T", self.forgetting()),
            ("base kept", "R[T][0]", self.base_kept()),
        ]
        return [
            *(Metric(n, formula, v, none if v is None else "") for n, formula, v in named),
            self._fwt(labels_seen=labels_seen),
        ]

    def _fwt(self, *, labels_seen: bool) -> Metric:
        formula = "mean R[j-1][j] - R[0][j], j >= 2"
        if not labels_seen:
            return Metric("FWT", formula, None, "undefined: the causes of an era are unseen before")
        value = self.fwt()
        return Metric("FWT", formula, value, "" if value is not None else "not measured")


def measured(
    transcripts: Sequence[Transcript], cohorts: Sequence[str], *, arm: Arm, wanted: Slice = "gate"
) -> Matrix:
    """The matrix of the models in `transcripts`, the base first, over `cohorts`, the oldest first.

    A score is the mean of the main scores; None where a cohort has no answer in that arm, or one
    that was not scored.
    """
    rows = [tuple(_share(t, cohort, arm, wanted) for cohort in cohorts) for t in transcripts]
    return Matrix(tuple(cohorts), tuple(rows))


def _share(transcript: Transcript, cohort: str, arm: Arm, wanted: Slice) -> Score:
    return _mean(
        [
            outcome(p)
            for p in transcript.predictions
            if (p.cohort, p.arm, p.slice) == (cohort, arm, wanted)
        ]
    )


def _mean(scores: Sequence[Score]) -> Score:
    """The mean; None when there is nothing, or when one of them was not measured."""
    known = [score for score in scores if score is not None]
    return fmean(known) if known and len(known) == len(scores) else None


def _greatest(scores: Sequence[Score]) -> Score:
    known = [score for score in scores if score is not None]
    return max(known) if known and len(known) == len(scores) else None


def _less(one: Score, other: Score) -> Score:
    return None if one is None or other is None else one - other
