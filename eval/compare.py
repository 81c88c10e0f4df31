"""Compare two transcripts case by case: any two models, at any later time, from what was kept."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from eval.score import Arm, CaseTask, Prediction, Slice, outcome
from eval.statistics import (
    Interval,
    clustered_lower,
    p_better,
    p_worse,
    tango_lower,
    tango_upper,
    wilson,
)
from eval.transcript import Transcript
from ingest.errors import Conflict

ARMS: tuple[Arm, ...] = ("closed_book", "retrieval")
ARM_WORDS = {"closed_book": "closed book", "retrieval": "with retrieval"}


class Incomparable(Conflict):
    """Two transcripts were not made of the same questions, or not scored alike."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One case in one arm as both models answered it; the scores are main scores, 0 or 1."""

    case: str
    arm: Arm
    cohort: str
    family: str
    task: CaseTask
    cluster: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Tally:
    """What a set of pairs says; it has at least one, and both models were scored in each."""

    n: int
    before: float
    after: float
    gained: int
    lost: int
    clusters: int
    low: float  # one-sided 95 % bounds of the difference
    high: float
    p_better: float
    p_worse: float

    @property
    def difference(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Row:
    """One slice, a cohort in one arm; the intervals are two-sided 95 % ones of each share.

    `missing` counts the cases that one of the two did not answer or that have no score. Without a
    single pair there is no tally, which is not the same as a tally of 0.
    """

    cohort: str
    arm: Arm
    tally: Tally | None
    before: Interval | None
    after: Interval | None
    missing: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on the same cases; `missing` holds (cohort, arm, case) that are not paired."""

    before: str
    after: str
    pairs: tuple[Pair, ...]
    missing: tuple[tuple[str, Arm, str], ...]

    def of(self, cohorts: Iterable[str], arms: Sequence[Arm] = ARMS) -> list[Pair]:
        """The pairs of these cohorts in these arms."""
        wanted = set(cohorts)
        return [p for p in self.pairs if p.cohort in wanted and p.arm in arms]

    def lacking(self, cohorts: Iterable[str], arms: Sequence[Arm] = ARMS) -> int:
        """How many cases of these cohorts and arms could not be paired."""
        wanted = set(cohorts)
        return sum(cohort in wanted and arm in arms for cohort, arm, _ in self.missing)

    @property
    def cohorts(self) -> list[str]:
        """Every cohort that at least one of the two models was asked about, by name."""
        named = {p.cohort for p in self.pairs} | {cohort for cohort, _, _ in self.missing}
        return sorted(named)

    @property
    def lost(self) -> list[Pair]:
        """What only the earlier model had right."""
        return [p for p in self.pairs if p.difference < 0]

    @property
    def gained(self) -> list[Pair]:
        """What only the later model had right."""
        return [p for p in self.pairs if p.difference > 0]

    def rows(self) -> list[Row]:
        """One for each cohort and arm that holds anything, by name."""
        slices = {(p.cohort, p.arm) for p in self.pairs} | {(c, a) for c, a, _ in self.missing}
        return [self.row(cohort, arm) for cohort, arm in sorted(slices)]

    def row(self, cohort: str, arm: Arm) -> Row:
        """One slice."""
        pairs = self.of([cohort], [arm])
        missing = self.lacking([cohort], [arm])
        if not pairs:
            return Row(cohort, arm, None, None, None, missing)
        n = len(pairs)
        before, after = (wilson(sum(s), n) for s in _scores(pairs))
        return Row(cohort, arm, tally(pairs), before, after, missing)


def compared(before: Transcript, after: Transcript, *, wanted: Slice = "gate") -> Comparison:
    """The two models case by case, on the slice `wanted`; canaries, which have no right answer, are
    left out. `Incomparable` when the suites differ or the scores mean different things.
    """
    refuse_incomparable(before, after)
    ours, theirs = _by_case(before, wanted), _by_case(after, wanted)
    pairs, missing = [], []
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        pair = _pair(one, other) if one and other else None
        if pair:
            pairs.append(pair)
        elif known := one or other:
            missing.append((known.cohort, known.arm, known.case))
    return Comparison(before.header.model, after.header.model, tuple(pairs), tuple(missing))


def refuse_incomparable(*transcripts: Transcript) -> None:
    """`Incomparable` unless all were made of one suite and are scored alike."""
    first = transcripts[0].header
    for header in (t.header for t in transcripts[1:]):
        if header.suite_hash != first.suite_hash:
            raise Incomparable(
                f"{first.model} was replayed on suite {first.suite} ({first.suite_hash[:12]}) and "
                f"{header.model} on {header.suite} ({header.suite_hash[:12]}); "
                "replay both on the same suite"
            )
        if header.scores_version != first.scores_version:
            raise Incomparable(
                f"{first.model} has scores of version {first.scores_version} and {header.model} of "
                f"version {header.scores_version}; score both again"
            )


def tally(pairs: Sequence[Pair]) -> Tally:
    """Shares, discordant pairs, bounds and exact tests of at least one pair.

    The bounds are Tango's, and for the lower one the clustered bootstrap's where that is lower. The
    tests count a case once, by what changed over its arms: two arms of one case are no two proofs.
    """
    before, after = _scores(pairs)
    n = len(pairs)
    cases = _by_sign(pairs)
    gained, lost = discordant(pairs)
    differences = [p.difference for p in pairs]
    clusters = [p.cluster for p in pairs]
    return Tally(
        n=n,
        before=fmean(before),
        after=fmean(after),
        gained=gained,
        lost=lost,
        clusters=len(set(clusters)),
        low=min(tango_lower(gained, lost, n), clustered_lower(differences, clusters)),
        high=tango_upper(gained, lost, n),
        p_better=p_better(*cases),
        p_worse=p_worse(*cases),
    )


def discordant(pairs: Sequence[Pair]) -> tuple[int, int]:
    """How many pairs only the later model has right, and how many only the earlier one."""
    return sum(p.difference > 0 for p in pairs), sum(p.difference < 0 for p in pairs)


def low_here(pairs: Sequence[Pair]) -> float:
    """The lower bound for these clusters, which are no sample of others: Tango's, and where a case
    is asked in two arms, the bootstrap's over cases if that is lower."""
    bound, cases = tango_lower(*discordant(pairs), len(pairs)), [p.case for p in pairs]
    if len(set(cases)) < len(cases):
        bound = min(bound, clustered_lower([p.difference for p in pairs], cases))
    return bound


@dataclass(frozen=True, slots=True)
class Cell:
    """The share right in one arm, with its two-sided 95 % interval."""

    share: float
    n: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class Arms:
    """One cohort, or all of them, in every arm; an arm without an answer is None.

    Four are models, with and without retrieval; `copied` is the nearest precedent's answer.
    """

    cohort: str
    base: Cell | None
    base_retrieval: Cell | None
    adapter: Cell | None
    adapter_retrieval: Cell | None
    copied: Cell | None = None


def arms_of(
    base: Transcript,
    adapter: Transcript,
    cohorts: Sequence[str],
    *,
    copied: Transcript | None = None,
    wanted: Slice = "gate",
) -> list[Arms]:
    """Each cohort in {base, adapter} × {closed book, retrieval} and beside what copying answers,
    then all cohorts together in "all"."""
    models = {"base": base, "adapter": adapter}
    refuse_incomparable(base, adapter, *([copied] if copied else []))
    rows = []
    for name, group in [*((cohort, [cohort]) for cohort in cohorts), ("all", list(cohorts))]:
        alone, beside = (
            {of: _cell(told, group, arm, wanted) for of, told in models.items()} for arm in ARMS
        )
        by_copying = _cell(copied, group, "retrieval", wanted) if copied else None
        rows.append(
            Arms(
                cohort=name,
                base=alone["base"],
                base_retrieval=beside["base"],
                adapter=alone["adapter"],
                adapter_retrieval=beside["adapter"],
                copied=by_copying,
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class SliceScore:
    """What one model reached on one slice: what the anchor of a later gate is made of."""

    model: str
    cohort: str
    arm: Arm
    share: float
    n: int


def slice_scores(transcript: Transcript, *, wanted: Slice = "gate") -> list[SliceScore]:
    """The share right of every cohort and arm, to be kept with a model that is promoted."""
    found: dict[tuple[str, Arm], list[float]] = defaultdict(list)
    for p in transcript.predictions:
        score = outcome(p) if p.slice == wanted else None
        if score is not None and isfinite(score):
            found[p.cohort, p.arm].append(score)
    name = transcript.header.model
    return [
        SliceScore(name, cohort, arm, fmean(scores), len(scores))
        for (cohort, arm), scores in sorted(found.items())
    ]


def _by_case(transcript: Transcript, wanted: Slice) -> dict[tuple[str, Arm], Prediction]:
    predictions = (p for p in transcript.predictions if p.slice == wanted and p.task != "canary")
    return {(p.case, p.arm): p for p in predictions}


def _pair(one: Prediction, other: Prediction) -> Pair | None:
    """The two side by side; None where one of them has no score that can be compared."""
    before, after = outcome(one), outcome(other)
    if before not in (0, 1) or after not in (0, 1):
        return None
    return Pair(one.case, one.arm, one.cohort, one.family, one.task, one.cluster, before, after)


def _cell(transcript: Transcript, cohorts: Sequence[str], arm: Arm, wanted: Slice) -> Cell | None:
    scores = [
        outcome(p)
        for p in transcript.predictions
        if p.cohort in cohorts and p.arm == arm and p.slice == wanted
    ]
    known = [score for score in scores if score is not None and isfinite(score)]
    if not known:
        return None
    return Cell(fmean(known), len(known), wilson(sum(known), len(known)))


def _by_sign(pairs: Sequence[Pair]) -> tuple[int, int]:
    """How many cases gained and how many lost, over all of their arms."""
    changed: dict[str, float] = defaultdict(float)
    for pair in pairs:
        changed[pair.case] += pair.difference
    return sum(c > 0 for c in changed.values()), sum(c < 0 for c in changed.values())


def _scores(pairs: Sequence[Pair]) -> tuple[list[float], list[float]]:
    return [p.before for p in pairs], [p.after for p in pairs]
