import math
from dataclasses import replace

import pytest

from eval.compare import Incomparable, arms_of, compared, slice_scores, tally
from eval.transcript import Transcript
from tests.eval.answers import ERAS, both_arms, changed, copying, prediction, transcript, without


def under(told: Transcript, **fields: object) -> Transcript:
    return replace(told, header=told.header.model_copy(update=fields))


def test_two_models_are_compared_case_by_case():
    before = transcript("diag-v1", {("era 0", "retrieval"): {1, 2, 3}})
    after = transcript("diag-v2", {("era 0", "retrieval"): {3, 40}})

    found = compared(before, after)
    row = found.row("era 0", "retrieval")

    assert [p.case for p in found.gained] == ["era 0-1", "era 0-2"]
    assert [(p.case, p.family) for p in found.lost] == [("era 0-40", "era 0 family 4")]
    assert row.tally
    assert (row.tally.n, row.tally.gained, row.tally.lost, row.tally.clusters) == (120, 2, 1, 12)
    assert row.tally.difference == pytest.approx(1 / 120)
    assert row.tally.low < row.tally.difference < row.tally.high
    assert row.before
    assert row.before.low < 117 / 120 < row.before.high
    assert found.missing == ()


def test_every_cohort_and_arm_has_a_row_and_a_canary_has_none():
    rows = compared(transcript("diag-v1"), transcript("diag-v2")).rows()

    assert [(r.cohort, r.arm) for r in rows if r.cohort in ERAS] == [
        (era, arm) for era in ERAS for arm in ("closed_book", "retrieval")
    ]
    assert "canary" not in {r.cohort for r in rows}


def test_what_one_model_did_not_answer_is_missing_and_not_wrong():
    before = transcript("diag-v1")
    after = without(transcript("diag-v2"), "era 1", "retrieval")

    row = compared(before, after).row("era 1", "retrieval")

    assert (row.tally, row.before, row.after, row.missing) == (None, None, None, 120)


@pytest.mark.parametrize("score", [None, math.nan, 0.5])
def test_what_has_no_main_score_is_missing_and_not_wrong(score):
    after = changed(transcript("diag-v2"), "era 1", "retrieval", scores={"cause": score})

    found = compared(transcript("diag-v1"), after)

    assert found.row("era 1", "retrieval").tally is None
    assert found.lacking(["era 1"]) == 120


def test_losses_of_one_family_bound_less_than_losses_all_over():
    before = transcript("diag-v1")
    family = compared(before, transcript("a", both_arms("era 0", range(10))))
    all_over = compared(before, transcript("b", both_arms("era 0", set(range(0, 120, 12)))))

    together, apart = (c.row("era 0", "retrieval").tally for c in (family, all_over))

    assert together
    assert apart
    assert together.difference == apart.difference
    assert together.low < apart.low


def test_transcripts_of_two_suites_or_two_kinds_of_scores_are_refused():
    before, after = transcript("diag-v1"), transcript("diag-v2")

    with pytest.raises(Incomparable, match="replay both on the same suite"):
        compared(before, under(after, suite_hash="6" * 64))
    with pytest.raises(Incomparable, match="score both again"):
        compared(before, under(after, scores_version=99))


def test_the_dev_slice_is_compared_only_when_asked_for():
    dev = prediction("era 0", "retrieval", 500, slice="dev")
    before, after = (
        replace(t, predictions=(*t.predictions, dev))
        for t in (transcript("diag-v1"), transcript("diag-v2"))
    )

    assert "era 0-500" not in {p.case for p in compared(before, after).pairs}
    assert {p.case for p in compared(before, after, wanted="dev").pairs} == {"era 0-500"}


def test_the_arms_stand_side_by_side_and_an_absent_one_is_absent():
    base = transcript("base", {("era 2", "closed_book"): range(120)})
    adapter = without(transcript("diag-v2"), "era 2", "retrieval")

    era_2, all_eras = arms_of(base, adapter, ["era 2"], copied=copying(base))

    assert era_2.base
    assert era_2.base_retrieval
    assert era_2.adapter
    assert (era_2.base.share, era_2.base_retrieval.share, era_2.adapter.share) == (0, 1, 1)
    assert era_2.adapter_retrieval is None
    assert era_2.copied
    assert (era_2.copied.share, era_2.copied.n) == (0.5, 120)
    assert (all_eras.cohort, all_eras.base) == ("all", era_2.base)


def test_the_scores_kept_for_later_gates_are_those_of_every_slice():
    told = transcript("diag-v1", {("era 1", "retrieval"): range(30)})

    found = {(s.cohort, s.arm): s for s in slice_scores(told)}

    assert found["era 1", "retrieval"].share == 0.75
    assert found["era 1", "retrieval"].n == 120
    assert found["general", "closed_book"].model == "diag-v1"
    assert ("canary", "closed_book") not in found


def test_a_case_lost_in_both_arms_is_one_proof_and_not_two():
    before = transcript("diag-v1")
    after = transcript("diag-v2", both_arms("era 0", {1, 31, 61}))

    both = tally(compared(before, after).of(["era 0"]))

    assert both.lost == 6
    assert both.p_worse == 0.5**3
