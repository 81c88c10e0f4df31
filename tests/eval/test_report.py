import json

from eval.evidence import Rules
from eval.gate import judge
from eval.report import as_dict, in_one_sentence, markdown
from tests.eval.answers import HEADER, both_arms, evidence, transcript

GOOD = transcript("diag-v2", both_arms("era 2", range(8)))
NAIVE = transcript("diag-v2", both_arms("era 0", range(110)))


def test_the_report_of_a_pass_says_so_first_and_shows_the_arms():
    told = evidence(GOOD)

    lines = markdown(judge(told), told).splitlines()

    assert lines[0] == "# PASS: diag-v2 against diag-v1"
    assert lines[2].startswith("diag-v2 may replace diag-v1")
    assert (
        "| cohort | base | base + retrieval | adapter | adapter + retrieval | nearest precedent |"
        in lines
    )
    assert (
        "| era 2 | 0.0% (0 to 3, n = 120) | 50.0% (41 to 59, n = 120) | 93.3% (87 to 97, n = 120) "
        "| 93.3% (87 to 97, n = 120) | 50.0% (41 to 59, n = 120) |"
    ) in lines
    assert "| era 0, closed book | 120 | 100.0% | 100.0% | +0.0 | -2.2 | 0 | 0 | 0 |" in lines


def test_the_report_of_a_fail_lists_every_reason_with_its_rule_and_the_families_lost():
    told = evidence(NAIVE)
    verdict = judge(told)

    text = markdown(verdict, told)

    assert text.startswith("# FAIL: diag-v2 against diag-v1")
    assert f"## What holds it ({len(verdict.reasons)})" in text
    for reason in verdict.reasons:
        assert reason.words in text
        assert reason.rule in text
    assert "| era 0 | known | 120 → 10 of 120 | 120 → 10 of 120 | 220 | 0 |" in text
    first = "| era 0 family 0 | era 0 | known | 10 → 0 of 10 | 10 → 0 of 10 | 20 | 0 |"
    assert text.index(first) < text.index("| era 0 family 1 |")
    assert "families nothing was lost." in text
    assert told.challenger.digest in text


def test_an_inconclusive_verdict_says_that_a_person_may_decide():
    told = evidence(GOOD)

    sentence = in_one_sentence(judge(told, Rules(fewest_red_team=100)))

    assert "nothing is shown to be wrong with it, but 1 thing could not be shown" in sentence
    assert "a person may decide" in sentence


def test_a_verdict_without_a_comparison_has_no_tables_and_says_so():
    other = HEADER.model_copy(update={"suite_hash": "9" * 64})
    told = evidence(GOOD, base=type(GOOD)(other, ()), champion=None)
    verdict = judge(told)

    assert "cannot be compared, so there are no tables" in markdown(verdict, told)
    assert as_dict(verdict, told, Rules())["slices"] is None


def test_the_dictionary_holds_all_of_it_and_is_json():
    told = evidence(NAIVE)
    verdict = judge(told)

    found = json.loads(json.dumps(as_dict(verdict, told, Rules()), allow_nan=False))

    assert found["outcome"] == "fail"
    assert found["in_one_sentence"] == in_one_sentence(verdict)
    assert [r["words"] for r in found["reasons"]] == [f.words for f in verdict.reasons]
    assert found["rules"]["pooled_margin"] == 0.05
    assert len(found["lost"]) == 220
    assert [row["cohort"] for row in found["arms"]] == ["era 0", "era 1", "era 2", "all"]
    assert found["slices"][0]["tally"]["n"] == 120
    assert found["families"][0]["lost"] == 20
    assert found["meanings"] == {}
