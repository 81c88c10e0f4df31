"""The pure parts of the streams' benchmark, on a stream of nine cases."""

import numpy as np
import pytest

from benchmarks import stream_gate, stream_table
from benchmarks.stream_cases import Case, Stream
from benchmarks.stream_models import Learner, Lines, Tuning, plain, whole
from benchmarks.stream_neighbours import by_tfidf, copied, votes
from benchmarks.stream_table import Arm
from benchmarks.streams import STRATEGIES, Strategy, lesson

ALERT = (
    "deployment cartservice ready 0/1\n"
    "event Failed pod/cartservice: cannot pull cartservice:v3 from 10.1.2.3\n"
    "log cartservice: 2025-11-28T08:04:00.192Z gone at 08:04:01.382\n"
    "event Failed pod/cartservice: cannot pull cartservice:v3 from 10.9.9.9"
)


def case(name: str, era: int, text: str, answer: str) -> Case:
    return Case(name, era, text, plain(text), answer, ())


TRAIN = (
    case("a", 1, "disk full on the volume", "disk"),
    case("b", 1, "no space left on the volume", "disk"),
    case("c", 1, "certificate has expired", "certificate"),
    case("d", 2, "quota exceeded for pods", "quota"),
    case("e", 2, "quota exceeded for memory", "quota"),
)
TEST = (
    case("f", 1, "volume is full, no space", "disk"),
    case("g", 1, "expired certificate at the door", "certificate"),
    case("h", 2, "quota exceeded for services", "quota"),
    case("i", 2, "memory quota exceeded", "quota"),
)
STREAM = Stream("nine", ("storage", "limits"), TRAIN, TEST)


@pytest.fixture(scope="module")
def lines() -> Lines:
    return Lines([c.plain for c in (*TRAIN, *TEST)])


def test_a_case_loses_its_dates_addresses_and_names_and_says_nothing_twice() -> None:
    assert plain(ALERT) == (
        "deployment workload ready 0/1\n"
        "event Failed pod/workload: cannot pull workload:v3 from <ip>\n"
        "log workload: gone at"
    )


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_learned_is_of_the_training_cases_so_far(name: str) -> None:
    for era in (1, 2):
        shown = lesson(STREAM, era, STRATEGIES[name], seed=0)

        assert {c.id for c in shown} <= {c.id for c in STREAM.upto(era)}
        assert {c.id for c in TRAIN if c.era == era} <= {c.id for c in shown}


def test_rehearsal_by_answer_shows_so_many_of_each() -> None:
    shown = lesson(STREAM, 2, Strategy(each=1), seed=0)

    assert sorted(c.answer for c in shown if c.era == 1) == ["certificate", "disk"]


def test_the_matrix_is_made_of_what_was_right() -> None:
    said: list[list[str | None]] = [
        ["disk", "disk", None, None],
        ["disk", "quota", "quota", "disk"],
    ]

    found = stream_table.matrix(STREAM, stream_table.right(STREAM, said))

    assert found.rows == ((None,) * 3, (None, 0.5, 0.0), (None, 0.5, 0.5))
    assert (found.acc(), found.bwt(), found.base_kept()) == (0.5, 0.0, None)


def test_the_nearest_case_is_copied_of_those_that_may_be_chosen() -> None:
    scores = by_tfidf([c.plain for c in TRAIN], [c.plain for c in TEST])
    answers = [c.answer for c in TRAIN]

    assert copied(scores, answers, [()] * 4) == ["disk", "certificate", "quota", "quota"]
    assert copied(scores, answers, [("certificate",)] * 4) == ["certificate"] * 4
    assert votes(scores, answers, STREAM.answers).sum(1) == pytest.approx(1.0)


def test_the_lines_that_were_kept_mean_what_the_whole_model_means(lines: Lines) -> None:
    learner = Learner(lines, Tuning(epochs=0, settling=1), seed=0)
    learner.learn([c.plain for c in TRAIN], [c.answer for c in TRAIN], [c.plain for c in TRAIN])

    kept = learner.embedded([TRAIN[3].plain], [TRAIN[3].plain])[0]

    undone = kept * learner.spread.numpy() + learner.centre.numpy()
    assert undone == pytest.approx(whole(lines, TRAIN[3].plain), abs=1e-4)


def test_each_era_is_learned_and_the_head_grows_with_its_answers(lines: Lines) -> None:
    learner = Learner(lines, Tuning(epochs=4), seed=0)
    asked, sure = [c.plain for c in TEST], []
    for era in (1, 2):
        shown, store = lesson(STREAM, era, Strategy(), 0), [c.plain for c in STREAM.upto(era)]
        learner.learn([c.plain for c in shown], [c.answer for c in shown], store)
        sure.append(learner.sure(asked, store))

    assert learner.answers == ["certificate", "disk", "quota"]
    assert sure[0].shape == (4, 2)
    assert sure[0][:2].argmax(1).tolist() == [1, 0]
    assert sure[1][2:].argmax(1).tolist() == [2, 2]


def test_the_gate_holds_an_adapter_that_answers_worse_than_copying() -> None:
    many = Stream("many", ("one",), (), tuple(
        case(str(n), 1, f"case {n}", f"answer {n % 5}") for n in range(40)
    ))  # fmt: skip
    right: list[str | None] = [c.answer for c in many.test]
    wrong: list[str | None] = ["another"] * 40
    worse = Arm([[wrong]], served=lambda of, by: wrong)

    told = stream_gate.judged(
        many, {"x": worse, "x + neighbours": worse, "copy": Arm([[right]])}, "copy"
    )

    verdicts, reasons = told["x"]
    assert verdicts == "1 fail"
    assert any("Copying the nearest precedent is better" in reason for reason in reasons)


def test_intervals_of_equal_arms_are_nothing() -> None:
    was = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]])

    found = stream_table.against(STREAM, stream_table.redrawn(STREAM), was, was)

    assert (found["low"], found["high"], found["p_better"]) == (0.0, 0.0, 1.0)
