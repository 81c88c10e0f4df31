"""What a share of right causes hides."""

import pytest

from eval.evidence import Evidence, Finding
from eval.gate import judge
from retrieval.prompt import Reply, written
from tests.eval import answers

ERA = "era 0"


def said(words: str, evidence: Evidence) -> list[Finding]:
    return [f for f in judge(evidence).findings if f.check == "each slice" and words in f.words]


@pytest.mark.parametrize(("lost", "held"), [(range(6), True), (range(3), False)])
def test_a_family_that_is_gone_fails_however_small_its_part_of_the_cohort_is(lost, held):
    # Forty families of six cases, one of which is lost: 2.5 points of the cohort, 1.2 of all.
    told = [answers.transcript(name) for name in ("new", "diag-v1")]
    challenger, champion = (spread(t, wrong=set(lost) if n == 0 else set()) for n, t in
                            enumerate(told))  # fmt: skip
    found = said("Families forgotten: family 0", answers.evidence(challenger, champion=champion))
    assert [f.ruling for f in found] == (["fail"] if held else [])


def spread(told, wrong):
    """Era 0 as families of six cases, of which the first lost those that are `wrong`."""
    seen = {arm: iter(range(240)) for arm in answers.ARMS}

    def again(p):
        if p.cohort != ERA:
            return p
        n = next(seen[p.arm])
        scores = {**p.scores, "cause": float(n not in wrong)}
        return p.model_copy(update={"family": f"family {n // 6}", "scores": scores})

    return told.__class__(told.header, tuple(map(again, told.predictions)))


@pytest.mark.parametrize("part", ["fix", "citation"])
def test_right_causes_with_another_failures_fix_or_witness_fail(part):
    champion = scored(answers.transcript("diag-v1"), part, wrong=set())
    challenger = scored(answers.transcript("new"), part, wrong=set(range(0, 120, 8)))
    [found] = said("Right causes with", answers.evidence(challenger, champion=champion))
    assert found.ruling == "fail"
    assert found.numbers["before"] == 1


@pytest.mark.parametrize("part", ["fix", "citation"])
def test_two_other_fixes_or_witnesses_among_hundreds_are_no_harm(part):
    champion = scored(answers.transcript("diag-v1"), part, wrong=set())
    challenger = scored(answers.transcript("new"), part, wrong={1, 2})
    [found] = said("Right causes with", answers.evidence(challenger, champion=champion))
    assert found.ruling == "pass"


def test_a_wrong_fix_for_a_wrong_cause_counts_once_and_not_here():
    champion = scored(answers.transcript("diag-v1"), "fix", wrong=set())
    # The causes of the same cases are wrong too: that is for the slices to say.
    lost = {(ERA, arm): range(30) for arm in answers.ARMS}
    challenger = scored(answers.transcript("new", lost), "fix", wrong=set(range(30)))
    [found] = said("Right causes with", answers.evidence(challenger, champion=champion))
    assert found.ruling == "pass"


def scored(told, part, wrong):
    """Every known case with this score too; of era 0 those that are `wrong` have 0."""

    def again(p):
        if p.task != "known":
            return p
        bad = p.cohort == ERA and int(p.case.rsplit("-", 1)[1]) in wrong
        return p.model_copy(update={"scores": {**p.scores, part: 0.0 if bad else 1.0}})

    return told.__class__(told.header, tuple(map(again, told.predictions)))


def test_a_model_that_cites_nothing_bears_no_false_witness():
    champion = scored(answers.transcript("diag-v1"), "citation", wrong=set())
    silent = written(Reply(status="known", cause="c"))
    challenger = scored(answers.transcript("new"), "citation", wrong=set(range(120)))
    challenger = answers.changed(challenger, ERA, "retrieval", text=silent)
    [found] = said("Right causes with", answers.evidence(challenger, champion=champion))
    assert found.ruling == "pass"
