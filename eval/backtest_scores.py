"""The figures of a replayed history; what nobody can judge is counted apart and never as wrong."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from eval.backtest import ARMS, DEPTH, Arm, Case, Said
from eval.precedents import Rule
from eval.statistics import clustered_lower, wilson

DEPTHS = (1, 3, 5, 10)
NEAR = 5  # the depth that is quoted where one has to do: what a diagnosis reads
MOST_WRONG = 50  # confidently wrong answers that are listed
MOST_GROUPS = 15  # services or families that are listed
RULES: tuple[Rule, ...] = ("family", "recurrence")
_DRAWS = 2_000  # of the bootstrap: the third digit of an interval is not read


@dataclass(frozen=True, slots=True)
class Share:
    """A mean from 0 to 1 (a difference: from -1), of `n` cases, with its 95 % interval."""

    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Recall:
    """How often one way to rank has a true precedent among its first so many, and 1 / place.

    `beyond_words` is the same less that of a plain word search, on the same incidents.
    """

    rule: Rule
    arm: Arm
    n: int
    at: dict[int, Share]
    mrr: Share
    places: dict[int, int]  # how many have it at this place
    beyond_words: dict[int, Share]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What was answered to some incidents; each is counted once.

    `right` and `wrong` named a cause, as `unjudged` did, of which nobody can say; `withheld` found
    similar incidents and named none; `new` said that it had not been seen before.
    """

    n: int
    right: int
    wrong: int
    unjudged: int
    withheld: int
    new: int

    @property
    def named(self) -> int:
        return self.right + self.wrong + self.unjudged


@dataclass(frozen=True, slots=True)
class Answers:
    """What one arm answered: to incidents with a true precedent, to those without, to the rest.

    `accuracy` is the share of the seen ones whose cause is named rightly, `trust` of the causes
    named that are right, `abstained` of the novel ones for which no cause is claimed, `missed` of
    the seen ones called new, `coverage` of all incidents for which a cause is named. None where
    there is nothing to count.
    """

    n: int
    seen: Outcomes
    novel: Outcomes
    recurring: Outcomes
    unscored: Outcomes
    accuracy: Share | None
    trust: Share | None
    abstained: Share | None
    missed: Share | None
    coverage: Share | None
    hypotheses: int
    hypotheses_right: Share | None


@dataclass(frozen=True, slots=True)
class Saved:
    """Time, in seconds, over `n` incidents whose cause was named rightly and that say how long
    they took: what they would have been shorter by at the pace of their precedents.

    `most_s` at the pace of the fastest, none below 0. `typical_s` at the median's, and here what
    took less than that counts against it, so that mere chance adds up to nothing.
    """

    n: int
    took_s: float
    typical_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Group:
    """The incidents of a month, a service or a family; (cases that count, cases of them)."""

    name: str
    n: int
    memory: int
    found: tuple[int, int]  # precedent among the first five, by family
    recurred: tuple[int, int]  # the same of recurrences
    right: tuple[int, int]  # cause named rightly, of the seen ones that can be judged
    abstained: tuple[int, int]  # no cause claimed, of the novel ones
    named: int
    new: int
    taken_for: str | None  # the family that its causes were most often mistaken for


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the page shows, but for the words around it."""

    n: int
    first: datetime
    last: datetime
    rules: dict[str, int]  # family, recurrence, unscored: incidents
    seen: int
    novel: int
    degraded: int
    recall: list[Recall]
    answers: Answers
    model: Answers | None
    beside_model: Answers | None  # the extractive answers to what the model was asked
    suite_cases: int
    wrong: list[Case]
    wrong_in_all: int
    saved: Saved
    periods: list[Group]
    services: list[Group]
    families: list[Group]


def figures(cases: Sequence[Case]) -> Figures:
    """The figures of these cases, at least one, in order of their start."""
    wrong = [case for case in cases if case.said.right is False]
    spoken = [case for case in cases if case.model]
    return Figures(
        n=len(cases),
        first=cases[0].asked_as_of,
        last=cases[-1].asked_as_of,
        rules=dict(Counter(case.rule or "unscored" for case in cases)),
        seen=sum(case.seen is True for case in cases),
        novel=sum(case.seen is False for case in cases),
        degraded=sum(case.degraded is not None for case in cases),
        recall=[found for rule in RULES for arm in ARMS if (found := recall(cases, rule, arm))],
        answers=answers(cases, _extracted),
        model=answers(spoken, _modelled) if spoken else None,
        beside_model=answers(spoken, _extracted) if spoken else None,
        suite_cases=sum(case.was_suite_case for case in cases),
        wrong=wrong[-MOST_WRONG:][::-1],
        wrong_in_all=len(wrong),
        saved=saved(cases),
        periods=_periods(cases),
        services=_largest(cases, lambda case: case.services),
        families=_largest(cases, lambda case: case.families),
    )


def recall(cases: Sequence[Case], rule: Rule, arm: Arm) -> Recall | None:
    """Of the incidents that had a precedent by this rule; None where there is none of them."""
    held = [case for case in cases if case.rule == rule and arm in case.places]
    if not held:
        return None
    places, by_words = [case.places[arm] for case in held], [case.places["words"] for case in held]
    clusters = [case.cluster for case in held]
    hits = {k: [_within(place, k) for place in places] for k in DEPTHS}
    gains = {
        k: [hit - _within(other, k) for hit, other in zip(hits[k], by_words, strict=True)]
        for k in DEPTHS
    }
    return Recall(
        rule=rule,
        arm=arm,
        n=len(held),
        at={k: _share(hits[k], clusters) for k in DEPTHS},
        mrr=_mean([1 / place if place else 0.0 for place in places], clusters),
        places={k: places.count(k) for k in range(1, DEPTH + 1)},
        beyond_words={k: _mean(gains[k], clusters) for k in DEPTHS},
    )


def answers(cases: Sequence[Case], of: Callable[[Case], Said]) -> Answers:
    """What was answered to these cases, by what `of` takes from each."""
    judged = [case for case in cases if case.rule == "family"]
    seen = [case for case in judged if case.seen]
    novel = [case for case in judged if not case.seen]
    recurring = [case for case in cases if case.rule == "recurrence"]
    named = [case for case in judged if of(case).right is not None]
    can_be = [case for case in seen if of(case).status != "known" or of(case).right is not None]
    guesses = [case for case in cases if of(case).hypothesis_right is not None]
    return Answers(
        n=len(cases),
        seen=_outcomes(map(of, seen)),
        novel=_outcomes(map(of, novel)),
        recurring=_outcomes(map(of, recurring)),
        unscored=_outcomes(of(case) for case in cases if case.rule is None),
        accuracy=_counted(can_be, lambda case: of(case).right is True),
        trust=_counted(named, lambda case: of(case).right is True),
        abstained=_counted(novel, lambda case: of(case).status != "known"),
        missed=_counted(seen, lambda case: of(case).status == "novel"),
        coverage=_counted(cases, lambda case: of(case).status == "known"),
        hypotheses=sum(of(case).hypothesis is not None for case in cases),
        hypotheses_right=_counted(guesses, lambda case: of(case).hypothesis_right is True),
    )


def saved(cases: Iterable[Case]) -> Saved:
    """What the incidents whose cause was named rightly could have been shorter by."""
    took = typical = most = 0.0
    n = 0
    for case in cases:
        own, fastest, median = case.duration_s, case.shortest_before_s, case.median_before_s
        if case.said.right and case.seen and own and fastest is not None and median is not None:
            n, took = n + 1, took + own
            typical, most = typical + own - median, most + max(0.0, own - fastest)
    return Saved(n, took, typical, most)


def _extracted(case: Case) -> Said:
    return case.said


def _modelled(case: Case) -> Said:
    return case.model or case.said


def _outcomes(said: Iterable[Said]) -> Outcomes:
    kinds = Counter(_outcome(one) for one in said)
    told = {name: kinds[name] for name in ("right", "wrong", "unjudged", "withheld", "new")}
    return Outcomes(n=kinds.total(), **told)


def _outcome(said: Said) -> str:
    if said.status == "novel":
        return "new"
    if said.status == "inconclusive":
        return "withheld"
    return {True: "right", False: "wrong", None: "unjudged"}[said.right]


def _within(place: int | None, depth: int) -> float:
    return float(place is not None and place <= depth)


def _counted(cases: Sequence[Case], holds: Callable[[Case], bool]) -> Share | None:
    if not cases:
        return None
    return _share([float(holds(case)) for case in cases], [case.cluster for case in cases])


def _share(values: Sequence[float], clusters: Sequence[Hashable]) -> Share:
    """With the wider of two intervals: over families, and Wilson's, which knows small numbers."""
    drawn, exact = _mean(values, clusters), wilson(sum(values), len(values))
    return Share(drawn.n, drawn.mean, min(drawn.low, exact.low), max(drawn.high, exact.high))


def _mean(values: Sequence[float], clusters: Sequence[Hashable]) -> Share:
    """With the interval of the bootstrap over whole families: incidents of one are alike."""
    low = clustered_lower(values, clusters, alpha=0.025, draws=_DRAWS)
    high = -clustered_lower([-v for v in values], clusters, alpha=0.025, draws=_DRAWS)
    return Share(len(values), sum(values) / len(values), low, high)


def _periods(cases: Sequence[Case]) -> list[Group]:
    """Months up to two years and a half, quarters up to ten years, else years; none left out."""
    first, last = cases[0].asked_as_of, cases[-1].asked_as_of
    days = (last - first).days
    form = "year" if days > 3653 else "quarter" if days > 913 else "month"
    every = [_period(first + timedelta(days=n), form) for n in range(0, days + 1, 20)]
    named = dict.fromkeys([*every, _period(last, form)])
    held = {g.name: g for g in _grouped(cases, lambda case: [_period(case.asked_as_of, form)])}
    periods: list[Group] = []
    for name in named:
        memory = periods[-1].memory if periods else 0
        periods.append(held.get(name) or replace(_group(name, []), memory=memory))
    return periods


def _period(at: datetime, form: str) -> str:
    if form == "year":
        return f"{at:%Y}"
    return f"{at:%Y} Q{(at.month + 2) // 3}" if form == "quarter" else f"{at:%Y-%m}"


def _largest(cases: Sequence[Case], names: Callable[[Case], Sequence[str]]) -> list[Group]:
    found = sorted(_grouped(cases, names), key=lambda group: -group.n)
    return found[:MOST_GROUPS]


def _grouped(cases: Sequence[Case], names: Callable[[Case], Sequence[str]]) -> list[Group]:
    held: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        for name in names(case):
            held[name].append(case)
    return [_group(name, some) for name, some in held.items()]


def _group(name: str, cases: Sequence[Case]) -> Group:
    seen = [case for case in cases if case.seen]
    near = [case for case in seen if _within(case.places.get("scarwise"), NEAR)]
    judged = [
        case
        for case in seen
        if case.rule == "family" and (case.said.status != "known" or case.said.right is not None)
    ]
    novel = [case for case in cases if case.seen is False]
    mistaken = Counter(f for c in cases if c.said.right is False for f in c.said.cited_families)
    return Group(
        name=name,
        n=len(cases),
        memory=max((case.memory for case in cases), default=0),
        found=_of_rule(near, seen, "family"),
        recurred=_of_rule(near, seen, "recurrence"),
        right=(sum(case.said.right is True for case in judged), len(judged)),
        abstained=(sum(case.said.status != "known" for case in novel), len(novel)),
        named=sum(case.said.status == "known" for case in cases),
        new=sum(case.said.status == "novel" for case in cases),
        taken_for=mistaken.most_common(1)[0][0] if mistaken else None,
    )


def _of_rule(some: Sequence[Case], of: Sequence[Case], rule: Rule) -> tuple[int, int]:
    return sum(case.rule == rule for case in some), sum(case.rule == rule for case in of)
