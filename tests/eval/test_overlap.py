"""What was taught, held against the suite: a case or a near-copy is found, all else is not."""

from dataclasses import replace

import pytest

from eval.overlap import overlap
from eval.suite import Suite
from retrieval.prompt import Reply, prompt, written
from tests.eval.frozen import index_of, store_of, suite_of
from training.dataset import export
from training.rows import Row

WORDS = "pods of the checkout service restart since the certificate of the issuer ran out at noon "


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, list[Row]]:
    """A suite, and the rows that an honest export teaches beside it."""
    folder = tmp_path_factory.mktemp("overlap")
    store = store_of(folder)
    suite = suite_of(store, folder / "suite")
    rows = export(store, index_of(store), folder / "ds", actor="test", base_taught=[]).rows()
    store.close()
    return suite, list(rows)


def known(suite: Suite, question: str | None = None) -> Suite:
    """The suite with one case, which asks this."""
    case = next(c for c in suite.cases if c.expected.task == "known")
    if question:
        case = case.model_copy(update={"question": question, "asked": {}})
    return replace(suite, cases=(case,))


def row(like: Row, alert: str, suite: Suite) -> Row:
    """A row of another incident that teaches the case's answer to this alert."""
    expected = suite.cases[0].expected
    answer = Reply(status="known", cause=expected.cause, fix=expected.fix)
    return replace(like, user=prompt(alert).user, answer=written(answer))


def test_an_honest_export_teaches_no_case(taught):
    assert overlap(*taught) == 0


def test_a_row_of_a_cases_own_incident_is_found(taught):
    suite, rows = taught
    case = next(c for c in suite.cases if c.incident)

    assert overlap(suite, [*rows, replace(rows[0], incident_id=case.incident[0])]) == 1


def test_a_row_that_asks_a_cases_question_is_found_whatever_its_case_and_marks(taught):
    suite, rows = taught
    case = known(suite).cases[0]
    loud = case.question.upper().replace(" ", ", ")

    told = [row(rows[0], loud, known(suite)), replace(rows[1], user=case.asked["retrieval"].user)]

    assert overlap(suite, [*rows, *told]) == 2


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({}, 1),
        ({"noon": "midnight"}, 1),
        ({"noon": "midnight", "pods": "containers"}, 1),
        ({"checkout": "basket", "certificate": "key", "ran out": "was gone"}, 0),
    ],
)
def test_a_case_retold_in_nearly_the_same_words_is_found(taught, changed, found):
    alert = " ".join(WORDS.replace("service", f"service {n}") for n in range(3))
    suite, retold = known(taught[0], alert), alert
    for one, other in changed.items():
        retold = retold.replace(one, other, 1) if found else retold.replace(one, other)

    assert overlap(suite, [row(taught[1][0], retold, suite)]) == found
