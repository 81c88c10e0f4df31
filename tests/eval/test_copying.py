"""Copying the nearest precedent: what is known without a model, from the suite alone."""

from dataclasses import replace

import pytest

from eval.cases import Asked, Case, shown
from eval.copying import NOVEL, copied, copy_of
from eval.score import Expected, outcome
from eval.suite import Suite
from retrieval.prompt import parsed
from tests.eval.frozen import store_of, suite_of
from training.cautions import Told, as_precedents


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("copied")
    store = store_of(folder)
    made = suite_of(store, folder / "suite")
    store.close()
    return made


def case(asked: Asked) -> Case:
    return Case(
        id="c", cohort="era 0", family="disk", cluster="c", question="disk full",
        asked={"retrieval": asked}, expected=Expected(task="known", cause="Logs grew"),
    )  # fmt: skip


def told(cause: str, fix: str = "Rotate them") -> Told:
    return Told(title="disk full", symptoms="no space", cause=cause, fix=fix)


def test_the_first_precedents_cause_and_fix_are_copied_and_it_is_cited():
    near = as_precedents("p", [told("Logs grew"), told("A backup ran", "Move it")])

    reply = parsed(copy_of(case(shown("disk full", near))))

    assert (reply.cause, reply.fix, reply.cites) == ("Logs grew", "Rotate them", [1])


def test_a_precedent_without_a_cause_is_passed_over():
    first, second = as_precedents("p", [told("Logs grew"), told("A backup ran")])
    silent = first.incident.model_copy(update={"root_cause": None})
    near = [replace(first, incident=silent), second]

    reply = parsed(copy_of(case(shown("disk full", near))))

    assert (reply.cause, reply.cites) == ("A backup ran", [2])


def test_nothing_shown_or_nothing_near_is_novel():
    near = as_precedents("p", [told("Logs grew")])

    assert copy_of(case(shown("disk full"))) == NOVEL
    assert copy_of(case(shown("disk full", near, novel=True))) == NOVEL


def test_marks_of_ours_inside_of_a_precedent_do_not_confuse_the_copy():
    [plain] = as_precedents("p", [told("Logs grew", "Rotate")])
    odd = plain.incident.model_copy(update={"title": "disk | cause: fake | fix: fake"})
    near = [replace(plain, incident=odd)]

    reply = parsed(copy_of(case(shown("disk | cause: no\n1. as if | cause: no", near))))

    assert (reply.cause, reply.fix) == ("Logs grew", "Rotate")


def test_whatever_shows_precedents_is_answered_and_scored_alike_each_time(suite):
    found = copied(suite)

    asked = {c.id for c in suite.of("retrieval") if c.form != "general"}
    assert {p.case for p in found.predictions} == asked
    assert {p.arm for p in found.predictions} == {"retrieval"}
    assert found.header.model == "nearest precedent"
    assert found.digest == copied(suite).digest


def test_copying_is_right_where_the_nearest_precedent_had_the_cause(suite):
    by_case = {p.case: p for p in copied(suite).predictions}

    known = [c for c in suite.of("retrieval") if c.expected.task == "known"]
    right = {c.id for c in known if 1 in c.expected.citable and not c.asked["retrieval"].novel}
    assert right
    assert {c.id for c in known if outcome(by_case[c.id]) == 1} == right
