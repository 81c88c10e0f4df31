"""Which family was forgotten: a comparison by cohort, cause family and kind of question."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from eval.compare import ARMS, Comparison, Pair
from eval.score import Arm, CaseTask


@dataclass(frozen=True, slots=True)
class Count:
    """Of `n` cases asked in one arm, how many were right before and how many are now."""

    n: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Group:
    """The cases of one cohort and task, of one family or of all (None); `lost` counts the answers
    that only the earlier model had right, over both arms."""

    cohort: str
    task: CaseTask
    family: str | None
    arms: dict[Arm, Count]
    gained: int
    lost: int


def by_task(comparison: Comparison) -> list[Group]:
    """Each cohort by kind of question, by name."""
    found = _groups(comparison.pairs, lambda p: (p.cohort, p.task, None))
    return sorted(found, key=lambda g: (g.cohort, g.task))


def by_family(comparison: Comparison) -> list[Group]:
    """Each family of each cohort by kind of question, what lost most answers first."""
    found = _groups(comparison.pairs, lambda p: (p.cohort, p.task, p.family))
    return sorted(found, key=lambda g: (g.gained - g.lost, -g.lost, g.cohort, g.family, g.task))


def _groups(
    pairs: Iterable[Pair], name: Callable[[Pair], tuple[str, CaseTask, str | None]]
) -> list[Group]:
    held: defaultdict[tuple[str, CaseTask, str | None], list[Pair]] = defaultdict(list)
    for pair in pairs:
        held[name(pair)].append(pair)
    return [
        Group(
            *key,
            arms={arm: _count(some) for arm in ARMS if (some := [p for p in of if p.arm == arm])},
            gained=sum(p.difference > 0 for p in of),
            lost=sum(p.difference < 0 for p in of),
        )
        for key, of in held.items()
    ]


def _count(pairs: list[Pair]) -> Count:
    return Count(
        len(pairs), round(sum(p.before for p in pairs)), round(sum(p.after for p in pairs))
    )
