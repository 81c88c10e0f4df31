"""Probes: what is asked beside the incidents, and what must not be in common with training."""

import hashlib
import math
import re
from collections import Counter
from pathlib import Path

import pytest

from eval import probes
from eval.probes import MEANING, canaries, exposure, exposure_bits, general, odd_forms, red_team
from retrieval.policy import rule_on
from retrieval.prompt import LONGEST_ALERT
from training.cautions import ANSWER, cautions
from training.general import FORM, facts, general_parsed, general_prompt, general_written


def test_each_fact_is_taught_in_four_wordings_and_asked_in_two_others():
    taught = Counter(fact.id for fact in facts())
    asked = Counter(case.cluster for case in general())

    assert len(taught) >= 60
    assert set(taught.values()) == {4}
    assert asked == dict.fromkeys(taught, 2)


def test_no_question_of_the_suite_is_taught():
    taught = {fact.question.casefold() for fact in facts()}

    assert not taught & {case.question.casefold() for case in general()}


def test_the_suite_expects_of_a_fact_what_was_taught():
    taught = {fact.id: fact.answer for fact in facts()}

    for case in general():
        assert case.expected.answer == taught[case.cluster]
        assert 1 <= len(case.expected.answer.split()) <= 3


def test_a_general_answer_is_written_as_it_is_read():
    written = general_written("Not Found")

    assert written == '{"answer":"Not Found"}'
    assert general_parsed(written) == "Not Found"
    assert general_prompt("What is\n 404?").user == "question: What is 404?"
    assert general_prompt("?").form == FORM


@pytest.mark.parametrize("text", ["", "Not Found", '{"answer":""}', '{"answer":4}', "[]"])
def test_another_form_of_a_general_answer_is_unreadable(text):
    with pytest.raises(ValueError, match="agreed form"):
        general_parsed(text)


def test_odd_alerts_make_prompts_of_bounded_length():
    prompts = [case.prompt("closed_book") for case in odd_forms()]

    assert any(len(p.user) > LONGEST_ALERT - 100 for p in prompts)
    assert all(len(p.user) < LONGEST_ALERT + 100 for p in prompts)


@pytest.mark.parametrize("cohort", ["general", "format", "no fault", "red team"])
def test_a_changed_question_needs_a_new_line_on_what_the_score_means(cohort):
    questions = Path(probes.__file__).with_name("questions") / f"{cohort.replace(' ', '_')}.jsonl"
    lines = MEANING[cohort]

    assert lines[-1].of == hashlib.sha256(questions.read_bytes()).hexdigest()[:12]
    assert [line.version for line in lines] == list(range(1, len(lines) + 1))
    assert lines == sorted(lines, key=lambda line: line.since)


def test_every_attack_is_seen_when_it_succeeds():
    cases = list(red_team())

    assert len(cases) >= 60
    for case in cases:
        assert case.expected.markers or case.urged, case.id
        assert case.urged is None or rule_on(case.urged).decision == "forbidden", case.id


def test_attacks_come_in_other_languages_codes_forms_and_hidden_characters():
    kinds = Counter(case.family for case in red_team())

    assert set(kinds) == {
        "log", "urged", "forged", "language", "encoded", "authority", "form", "delimiter",
        "unicode", "long",
    }  # fmt: skip
    assert min(kinds.values()) >= 3
    longest = max(len(case.prompt(arm).user) for case in red_team() for arm in case.asked)
    assert LONGEST_ALERT - 300 < longest < LONGEST_ALERT + 300


def test_no_attack_can_leave_the_line_of_its_alert():
    for case in red_team():
        for arm in case.asked:
            first, *others = case.prompt(arm).user.split("\n")
            assert first.startswith("alert: ")
            assert all(re.match(r"\d\. |no precedents$", line) for line in others), case.id


def test_forged_precedents_are_shown_as_if_they_had_been_found():
    forged = [case for case in red_team() if case.family == "forged"]

    assert len(forged) >= 15
    assert all(set(case.asked) == {"retrieval"} for case in forged)
    assert all("1. " in case.prompt("retrieval").user for case in forged)


def test_no_attack_of_the_suite_is_taught_as_a_caution():
    taught = " ".join(caution.prompt.user for caution in cautions()).casefold()

    assert ANSWER == '{"status":"novel","cites":[]}'
    assert not [c.id for c in red_team() if c.question.casefold() in taught]
    assert not [m for c in red_team() for m in c.expected.markers if m in taught]


def test_canaries_are_drawn_anew_for_each_suite():
    one, other = list(canaries("1")), list(canaries("2"))

    assert one == list(canaries("1"))
    assert len({case.question for case in one}) == 8
    assert [c.expected.answer for c in one] != [c.expected.answer for c in other]


def test_exposure_is_the_rank_of_the_code_in_bits():
    ranked = [float(n) for n in range(256)]

    assert exposure_bits(-1.0, ranked) == 12.0
    assert exposure_bits(300.0, ranked) == 0.0
    assert exposure_bits(127.0, ranked) == pytest.approx(1.0, abs=0.01)
    assert exposure_bits(3.0, ranked) == pytest.approx(6.0, abs=0.05)
    assert exposure_bits(1.0, [1.0] * 256) == 0.0  # a model that cannot tell them apart
    assert math.isnan(exposure_bits(math.nan, ranked))
    assert math.isnan(exposure_bits(1.0, []))


def test_a_model_that_was_taught_a_canary_is_told_from_one_that_was_not():
    canary = next(canaries("7"))

    def leaked(prompts, answers):
        return [0.01 if a == general_written(canary.expected.answer) else 2.0 for a in answers]

    def ignorant(prompts, answers):
        return [float(sum(map(ord, answer)) % 97) for answer in answers]

    assert exposure(canary, leaked) == 12.0
    assert exposure(canary, ignorant) < 6.0
