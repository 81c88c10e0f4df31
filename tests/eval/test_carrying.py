"""A case that stayed from one version of the suite to the next is asked once."""

from dataclasses import replace

import pytest

from eval.carrying import carried, is_same, kept_on, known_answers
from eval.cases import Case
from eval.compare import compared
from eval.replay import folder_of, header_of, replay
from eval.suite import Suite
from tests.eval.frozen import SIZE, store_of, suite_of
from tests.eval.test_replay import NOVEL, by_length, oracle, parrot
from training.world import incidents


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Suite]:
    """Two versions of a suite, the second with one era more."""
    folder = tmp_path_factory.mktemp("carried")
    store = store_of(folder)
    first = suite_of(store, folder / "suite")
    store.put(list(incidents(7, 1, SIZE)), actor="test")
    second = suite_of(store, folder / "suite", era=1, version=2)
    store.close()
    return first, second


def header(suite: Suite, model: str = "diag-v1", adapter: str | None = "aa", **decode: int):
    told = {"max_new_tokens": 96, **decode}
    return header_of(suite, model=model, base_hash="bb", adapter_sha256=adapter, decode=told)


def asked(suite: Suite, header, evals, answer=parrot):
    """A replay, and how many questions it put to the model."""
    questions = []

    def counting(prompts):
        questions.extend(prompts)
        return answer(prompts)

    told = replay(
        suite, header=header, answer=counting, nll=by_length,
        out=folder_of(evals, header.model, suite.name),
        taken=lambda: known_answers(suite, header, evals),
    )  # fmt: skip
    return told, len(questions)


def stayed(one: Suite, other: Suite) -> int:
    old = {c.id: c for c in one.cases}
    return sum(c.id in old and is_same(c, old[c.id], arm) for c in other.cases for arm in c.asked)


def test_what_was_answered_to_the_same_case_is_not_asked_again(suites, tmp_path):
    first, second = suites
    whole, _ = asked(second, header(second), tmp_path / "anew")
    asked(first, header(first), tmp_path)

    told, questions = asked(second, header(second), tmp_path)

    total = sum(len(c.asked) for c in second.cases)
    assert questions == total - stayed(first, second)
    assert questions < total / 2
    assert told == whole


@pytest.mark.parametrize("other", [{"adapter": "cc"}, {"max_new_tokens": 200}])
def test_answers_of_another_model_or_way_to_answer_are_not_taken_over(suites, tmp_path, other):
    first, second = suites
    asked(first, header(first, **other), tmp_path)

    _, questions = asked(second, header(second), tmp_path)

    assert questions == sum(len(c.asked) for c in second.cases)


def test_a_case_of_which_something_else_is_expected_is_another(suites):
    case = next(c for c in suites[0].cases if c.expected.task == "known")

    def like(**update) -> Case:
        return case.model_copy(update={"expected": case.expected.model_copy(update=update)})

    assert is_same(case, like(), "retrieval")
    assert not is_same(case, like(cause="another"), "retrieval")
    assert not is_same(case, like(task="unseen"), "closed_book")
    assert not is_same(case, case.model_copy(update={"asked": {}}), "closed_book")


def test_two_models_that_were_asked_different_suites_are_compared_on_what_both_were(
    suites, tmp_path
):
    first, second = suites
    asked(first, header(first), tmp_path)
    asked(second, header(second, "diag-v2", "cc"), tmp_path, oracle(second))

    one, other = (kept_on(second, name, tmp_path) for name in ("diag-v1", "diag-v2"))
    comparison = compared(one.told, other.told)

    assert (one.asked, other.asked) == (1, 2)
    assert 0 < len(comparison.pairs) <= stayed(first, second)
    assert {p.cohort for p in comparison.pairs} >= {"era 0", "general", "red team"}
    assert "era 1" in {cohort for cohort, _, _ in comparison.missing}
    assert kept_on(second, "diag-v3", tmp_path) is None


def test_what_is_carried_is_scored_by_what_the_suite_expects_now(suites, tmp_path):
    first, second = suites
    told, _ = asked(first, header(first), tmp_path, lambda prompts: [NOVEL] * len(prompts))
    stale = tuple(p.model_copy(update={"scores": {"cause": 1.0}}) for p in told.predictions)

    found = carried(replace(told, predictions=stale), first, second)

    known = [p for p in found.predictions if p.task == "known"]
    assert {p.scores["cause"] for p in known} == {0.0}
    assert {p.suite for p in found.predictions} == {"v2"}
