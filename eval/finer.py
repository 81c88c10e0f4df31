"""What a share of right causes hides: one family forgotten among many, a wrong fix or witness.

A cohort of forty families may lose one of them whole and still be well within its margin; and an
answer may name the right cause, propose another failure's fix and cite what says something else.
"""

from collections import defaultdict
from collections.abc import Iterator
from math import comb
from typing import NamedTuple

from eval.compare import ARM_WORDS, Pair
from eval.evidence import Check, Finding, Trial
from eval.safeguards import MOST_NAMED
from eval.score import Arm, Prediction
from eval.statistics import p_worse, rejected
from eval.transcript import Transcript
from ingest.errors import Unreadable
from retrieval.prompt import parsed

_CHECK: Check = "each slice"


def each_family(trial: Trial) -> Iterator[Finding]:
    """Whether a family that was known is gone, in either arm; only what is gone is told.

    That a model still knows three quarters of a family is refuted where that few answers are as
    improbable as Holm's correction over all families asks: of six cases, all have to be lost.
    """
    rules = trial.rules
    rule = (
        f"each older family and arm: not more than {rules.most_of_family:.0%} of what was right is "
        f"lost, refuted at p < {rules.alpha:g} (exact binomial, Holm over all families)"
    )
    known: dict[tuple[str, str, Arm], list[Pair]] = defaultdict(list)
    for pair in trial.against_champion.of(trial.evidence.retained):
        if pair.before == 1:
            known[pair.cohort, pair.family, pair.arm].append(pair)
    lost = {
        name: (sum(pair.after == 0 for pair in pairs), len(pairs))
        for name, pairs in known.items()
        if len(pairs) >= rules.fewest_in_family
    }
    surprise = {name: _at_least(*counts, rules.most_of_family) for name, counts in lost.items()}
    gone = sorted(rejected(surprise, alpha=rules.alpha))
    if not gone:
        return
    first = "; ".join(
        f"{family} of {cohort} {ARM_WORDS[arm]}, {lost[cohort, family, arm][0]} lost of "
        f"{lost[cohort, family, arm][1]} that were right"
        for cohort, family, arm in gone[:MOST_NAMED]
    )
    more = f"; and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
    yield Finding(_CHECK, "fail", f"Families forgotten: {first}{more}.", rule, {"n": len(gone)})


def rest_of_answer(trial: Trial) -> Iterator[Finding]:
    """Whether fixes and citations are as right as before, where both models have the cause."""
    rules, before, after = trial.rules, trial.evidence.incumbent, trial.evidence.challenger
    parts = {
        "the fix on record": _part(before, after, "fix", ("closed_book", "retrieval")),
        "no precedent cited that had another": _part(before, after, "citation", ("retrieval",)),
    }
    fallen = rejected({n: p.p_worse for n, p in parts.items() if p}, alpha=rules.alpha)
    for name, part in parts.items():
        if part is None:
            continue
        rule = (
            f"where both name the right cause, {name}: not worse by {100 * rules.least_loss:g} "
            f"points or more at p < {rules.alpha:g} (exact McNemar, Holm over fixes and citations)"
        )
        words = (
            f"Right causes with {name}: {part.after:.1%}, before {part.before:.1%}, on {part.n} "
            f"answers; p = {part.p_worse:.2g}."
        )
        fell = name in fallen and part.after - part.before <= -rules.least_loss
        yield Finding(_CHECK, "fail" if fell else "pass", words, rule, part._asdict())


class _Part(NamedTuple):
    n: int
    before: float
    after: float
    p_worse: float


def _part(before: Transcript, after: Transcript, score: str, arms: tuple[Arm, ...]) -> _Part | None:
    """How often this part of the answer is right, where both models have the cause."""
    was, now = _scores(before, score, arms), _scores(after, score, arms)
    both = sorted(was.keys() & now.keys())
    if not both:
        return None
    changed: dict[str, int] = defaultdict(int)
    for key in both:
        changed[key[0]] += now[key] - was[key]
    gained, lost = (sum(sign * c > 0 for c in changed.values()) for sign in (1, -1))
    share, later = (sum(held[key] for key in both) / len(both) for held in (was, now))
    return _Part(len(both), share, later, p_worse(gained, lost))


def _scores(told: Transcript, score: str, arms: tuple[Arm, ...]) -> dict[tuple[str, Arm], int]:
    """Whether this part of the answer is wholly right, of each case with the right cause."""
    asked = (p for p in told.of("gate").predictions if p.arm in arms and _is_known(p))
    return {
        (p.case, p.arm): int(v == 1 or (score == "citation" and _cites_nothing(p)))
        for p in asked
        if (v := p.scores.get(score)) is not None
    }


def _cites_nothing(p: Prediction) -> bool:
    """Silence about its evidence is no false witness."""
    try:
        return not parsed(p.text).cites
    except Unreadable:
        return False


def _is_known(p: Prediction) -> bool:
    return p.task == "known" and p.scores.get("cause") == 1


def _at_least(lost: int, n: int, share: float) -> float:
    """How probable at least so many losses are when each case is lost with this probability."""
    return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(lost, n + 1))
