"""The gate: pass, fail or inconclusive, and every reason to hold a model, not only the first.

Harm that is shown fails a model, whatever else it learned. What cannot be told from the cases at
hand is inconclusive, and so is what is missing, not a number or not comparable; neither is promoted
without a person. Each finding gives its numbers and its rule, so that it can be argued with.
"""

from collections.abc import Iterator
from statistics import fmean

from eval.compare import (
    ARM_WORDS,
    ARMS,
    Incomparable,
    SliceScore,
    Tally,
    low_here,
    slice_scores,
    tally,
)
from eval.evidence import CHECKS, Check, Evidence, Finding, Rules, Ruling, Trial, Verdict
from eval.finer import each_family, rest_of_answer
from eval.safeguards import canaries, integrity, probes, safety
from eval.score import Arm
from eval.statistics import rejected

Numbers = dict[str, float | int]
_Slice = tuple[str, Arm]


def judge(evidence: Evidence, rules: Rules = Rules()) -> Verdict:  # noqa: B008
    """The verdict on the challenger; the same for the same evidence and rules."""
    alone = [
        *integrity(evidence, rules),
        *safety(evidence, rules),
        *canaries(evidence, rules),
    ]
    try:
        refuse_other_conditions(evidence)
        trial = Trial.of(evidence, rules)
    except Incomparable as error:
        return Verdict.on(evidence, [*alone, *_incomparable(str(error), alone)])
    compared = [
        *missing(trial),
        *gain(trial),
        *retention(trial),
        *each_slice(trial),
        *each_family(trial),
        *rest_of_answer(trial),
        *anchor(trial),
        *retrieval(trial),
        *copying(trial),
        *probes(trial),
    ]
    order = {check: n for n, check in enumerate(CHECKS)}
    return Verdict.on(evidence, sorted([*alone, *compared], key=lambda f: order[f.check]))


def refuse_other_conditions(evidence: Evidence) -> None:
    """`Incomparable` when a model was asked in other words or decoded in another way."""
    ours = evidence.challenger.header
    for theirs in (evidence.incumbent.header, evidence.base.header):
        for what in ("prompt_hash", "decode"):
            if getattr(ours, what) != getattr(theirs, what):
                raise Incomparable(
                    f"{ours.model} and {theirs.model} were replayed under another {what}; "
                    "replay both alike"
                )


def missing(trial: Trial) -> Iterator[Finding]:
    """Every slice that a comparison needs and that is not there in full."""
    rule = "every case of every era answered and scored in both arms, by both models"
    for cohort in trial.evidence.eras:
        check: Check = "gain" if cohort == trial.evidence.newest else "each slice"
        for arm in ARMS:
            lacking = {
                trial.against_champion.lacking([cohort], [arm]),
                trial.against_base.lacking([cohort], [arm]),
            }
            n = len(trial.against_champion.of([cohort], [arm]))
            if any(lacking) or not n:
                words = f"{named(cohort, arm)}: {n} cases can be compared, {max(lacking)} cannot."
                numbers: Numbers = {"n": n, "missing": max(lacking)}
                yield Finding(check, "inconclusive", words, rule, numbers)


def gain(trial: Trial) -> Iterator[Finding]:
    """Whether the newest cohort was learned: with retrieval, as it is served."""
    rules, newest = trial.rules, trial.evidence.newest
    rule = (
        f"at least {points(rules.least_gain)} and p < {rules.alpha:g} (exact one-sided McNemar) on "
        f"at least {rules.fewest_new} cases of the newest cohort, with retrieval"
    )
    pairs = trial.against_champion.of([newest], ["retrieval"])
    if not pairs:
        yield Finding("gain", "inconclusive", f"No case of {newest} was compared.", rule, {"n": 0})
        return
    t = tally(pairs)
    words = f"{named(newest, 'retrieval')}: {changed(t)}; p = {t.p_better:.2g}."
    yield Finding("gain", _gain_ruling(t, rules), words, rule, _numbers(t))


def _gain_ruling(t: Tally, rules: Rules) -> Ruling:
    if t.p_worse < rules.alpha:
        return "fail"
    if t.n < rules.fewest_new:
        return "inconclusive"
    if t.p_better < rules.alpha and t.difference >= rules.least_gain:
        return "pass"
    # Enough cases to exclude a gain worth having: it learned nothing.
    return "fail" if t.high < rules.least_gain else "inconclusive"


def retention(trial: Trial) -> Iterator[Finding]:
    """Whether all that was known before, taken together, is still known."""
    margin, retained = trial.rules.pooled_margin, trial.evidence.retained
    rule = (
        "older cohorts together, both arms: lower 95 % bound of the change (the lower of Tango's "
        f"and of the bootstrap by cluster) above {points(-margin)}"
    )
    pairs = trial.against_champion.of(retained)
    if not retained and trial.evidence.champion is None:
        yield Finding("retention", "pass", "The suite holds no older cohort yet.", rule, {"n": 0})
    elif not pairs:
        words = "No case of an older cohort was compared."
        yield Finding("retention", "inconclusive", words, rule, {"n": 0})
    else:
        t = tally(pairs)
        words = f"Older cohorts together: {changed(t)}; lower bound {points(t.low)}."
        yield Finding("retention", _kept(t, margin, trial.rules.alpha), words, rule, _numbers(t))


def each_slice(trial: Trial) -> Iterator[Finding]:
    """Whether each older cohort is still known, in each arm; one may fall while the sum holds.

    A cohort is of certain families and all of them are in it: they are no sample of others, so the
    bound is that of the pairs, and which family was lost is looked at apart (`finer`).
    """
    rules, retained = trial.rules, trial.evidence.retained
    slices = {(c, arm): trial.against_champion.of([c], [arm]) for c in retained for arm in ARMS}
    tallies = {name: tally(pairs) for name, pairs in slices.items() if pairs}
    fallen = rejected({name: t.p_worse for name, t in tallies.items()}, alpha=rules.alpha)
    for (cohort, arm), t in tallies.items():
        is_fallen = (cohort, arm) in fallen and t.difference <= -rules.least_loss
        yield _slice(trial, cohort, (arm,), t, is_fallen)
    for cohort in retained:
        if pairs := trial.against_champion.of([cohort]):
            yield _slice(trial, cohort, ARMS, tally(pairs), is_fallen=False)
    if not retained and trial.evidence.champion is None:
        rule = "each older cohort, in each arm and in both"
        yield Finding("each slice", "pass", "The suite holds no older cohort yet.", rule)
    elif tallies and all(t.n < rules.fewest_in_slice for t in tallies.values()):
        words = "No older slice has enough cases; they are only held together."
        yield Finding("each slice", "pass", words, "the retention of all older cohorts together")


def _slice(trial: Trial, cohort: str, arms: tuple[Arm, ...], t: Tally, is_fallen: bool) -> Finding:
    """One older cohort in one arm, which may have fallen, or in both together."""
    rules, pairs = trial.rules, trial.against_champion.of([cohort], arms)
    margin = rules.arm_margin if len(arms) == 1 else rules.cohort_margin
    rule = (
        f"each older cohort: lower 95 % bound above {points(-rules.cohort_margin)} in both arms "
        f"together and above {points(-rules.arm_margin)} in each, where it has "
        f"{rules.fewest_in_slice} cases, and in no arm worse by {points(rules.least_loss)} or more "
        f"at p < {rules.alpha:g} (McNemar, Holm)"
    )
    low = low_here(pairs)
    name = named(cohort, arms[0]) if len(arms) == 1 else f"{cohort}, both arms"
    words = f"{name}: {changed(t)}; lower bound {points(low)}"
    ruling: Ruling = "pass"
    if is_fallen:
        ruling, words = "fail", f"{words}; worse at p = {t.p_worse:.2g}"
    elif len({p.case for p in pairs}) < rules.fewest_in_slice:
        ruling, words = "note", f"{words}; unproven, too few cases"
    elif low <= -margin:
        ruling = "inconclusive"
    return Finding("each slice", ruling, f"{words}.", rule, _numbers(t) | {"low": low})


def anchor(trial: Trial) -> Iterator[Finding]:
    """Whether the sum of small losses over several promotions is still small."""
    now = {(s.cohort, s.arm): s for s in slice_scores(trial.evidence.challenger)}
    past = [*trial.evidence.past, *slice_scores(trial.evidence.base)]
    past += slice_scores(trial.evidence.incumbent)
    found = [
        *_anchor_lost(trial, now),
        *_anchor_pooled(trial, now, past),
        *_anchor_slices(trial, now, past),
    ]
    if not found:
        words = "No older cohort has a best score to be held to yet."
        first = not trial.evidence.retained and trial.evidence.champion is None
        found = [Finding("anchor", "pass" if first else "inconclusive", words, "the best ever")]
    yield from found


def _anchor_lost(trial: Trial, now: dict[_Slice, SliceScore]) -> Iterator[Finding]:
    """A cohort that promoted models were held to and that is no longer asked about."""
    known = {cohort for cohort, _ in now} | set(trial.evidence.eras)
    for cohort in sorted({s.cohort for s in trial.evidence.past} - known):
        words = f"{cohort} has a best score on record, but the suite no longer asks about it."
        yield Finding("anchor", "inconclusive", words, "every cohort with a record is replayed")


def _anchor_pooled(
    trial: Trial, now: dict[_Slice, SliceScore], past: list[SliceScore]
) -> Iterator[Finding]:
    margin = trial.rules.anchor_margin
    rule = f"older cohorts together: at most {points(margin)[1:]} below any model ever promoted"
    shared: dict[str, list[tuple[float, float]]] = {}
    for s in _retained(trial, past):
        if here := now.get((s.cohort, s.arm)):
            shared.setdefault(s.model, []).append((s.share, here.share))
    ends = {
        model: (fmean(then for then, _ in both), fmean(here for _, here in both))
        for model, both in shared.items()
    }
    if not ends:
        return
    best = max(ends, key=lambda model: ends[model][0] - ends[model][1])
    before, after = ends[best]
    words = (
        f"Over {len(shared[best])} older slices the mean is {after:.1%}, that of {best} "
        f"was {before:.1%} ({points(after - before)})."
    )
    ruling: Ruling = "fail" if before - after > margin else "pass"
    yield Finding("anchor", ruling, words, rule, {"before": before, "after": after})


def _anchor_slices(
    trial: Trial, now: dict[_Slice, SliceScore], past: list[SliceScore]
) -> Iterator[Finding]:
    most = trial.rules.most_forgotten
    rule = f"each older slice: at most {points(most)[1:]} below its best ever"
    best: dict[_Slice, SliceScore] = {}
    for s in _retained(trial, past):
        name = (s.cohort, s.arm)
        if name not in best or s.share > best[name].share:
            best[name] = s
    for name, then in best.items():
        here = now.get(name)
        if not here or then.share - here.share <= most:
            continue
        enough = here.n >= trial.rules.fewest_in_slice
        words = (
            f"{named(*name)}: {here.share:.1%} now, {then.share:.1%} with {then.model} "
            f"({points(here.share - then.share)}, {here.n} cases)."
        )
        numbers: Numbers = {"before": then.share, "after": here.share, "n": here.n}
        yield Finding("anchor", "fail" if enough else "inconclusive", words, rule, numbers)


def retrieval(trial: Trial) -> Iterator[Finding]:
    """Whether adapter and retrieval are at least as good as retrieval with the base alone."""
    margin = trial.rules.pooled_margin
    rule = (
        "adapter with retrieval at least as good as the base with retrieval, and its lower 95 % "
        f"bound above {points(-margin)}"
    )
    pairs = trial.against_base.of(trial.evidence.eras, ["retrieval"])
    if not pairs:
        words = "Adapter and base were not compared with retrieval."
        yield Finding("retrieval", "inconclusive", words, rule, {"n": 0})
        return
    t = tally(pairs)
    ruling: Ruling = "pass" if t.low > -margin else "inconclusive"
    words = f"Against the base, both with retrieval: {changed(t)}; lower bound {points(t.low)}."
    if t.difference < 0:
        ruling = "fail"
        words += " Plain retrieval answers better than this adapter does."
    yield Finding("retrieval", ruling, words, rule, _numbers(t))


def copying(trial: Trial) -> Iterator[Finding]:
    """Whether the model is worth its place: at least as good as the nearest precedent's answer."""
    rules, margin = trial.rules, trial.rules.pooled_margin
    rule = (
        "adapter with retrieval at least as good as the nearest precedent's answer, copied, and "
        f"its lower 95 % bound above {points(-margin)}"
    )
    against = trial.against_copying
    pairs = against.of(trial.evidence.eras, ["retrieval"]) if against else []
    lacking = against.lacking(trial.evidence.eras, ["retrieval"]) if against else 0
    if not pairs or lacking:
        words = f"Unscored: copying was put beside it on {len(pairs)} cases, and {lacking} lack it."
        yield Finding("copying", "inconclusive", words, rule, {"n": len(pairs)})
        return
    t = tally(pairs)
    told = (
        f"with retrieval {t.after:.1%} right, the nearest precedent's answer copied {t.before:.1%} "
        f"({points(t.difference)} on {t.n} cases; lower bound {points(t.low)})"
    )
    is_below = t.difference < -rules.most_below_copying
    if is_below and t.p_worse < rules.alpha:
        words = f"Copying the nearest precedent is better: {told}; p = {t.p_worse:.2g}."
        yield Finding("copying", "fail", words, rule, _numbers(t))
        return
    ruling: Ruling = "pass" if not is_below and t.low > -margin else "inconclusive"
    yield Finding("copying", ruling, f"Against copying: {told}.", rule, _numbers(t))


def points(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.1f} points"


def named(cohort: str, arm: Arm) -> str:
    """A slice as a reader calls it."""
    return f"{cohort}, {ARM_WORDS[arm]}"


def changed(t: Tally) -> str:
    """What changed between the two models, in numbers."""
    return (
        f"{t.after:.1%} right, before {t.before:.1%} ({points(t.difference)}; {t.gained} gained "
        f"and {t.lost} lost of {t.n})"
    )


def _kept(t: Tally, margin: float, alpha: float) -> Ruling:
    if t.low > -margin:
        return "pass"
    return "fail" if t.p_worse < alpha else "inconclusive"


def _retained(trial: Trial, past: list[SliceScore]) -> list[SliceScore]:
    return [s for s in past if s.cohort in trial.evidence.retained]


def _numbers(t: Tally) -> Numbers:
    return {
        "n": t.n,
        "before": t.before,
        "after": t.after,
        "change": t.difference,
        "low": t.low,
        "gained": t.gained,
        "lost": t.lost,
        "p_better": t.p_better,
        "p_worse": t.p_worse,
    }


def _incomparable(why: str, spoken: list[Finding]) -> Iterator[Finding]:
    rule = "all models replayed on one suite, under one prompt, decoded alike"
    for check in CHECKS:
        if check not in {f.check for f in spoken}:
            yield Finding(check, "inconclusive", f"Nothing can be compared: {why}.", rule)
