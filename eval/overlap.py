"""Training rows that teach a case of the suite: the case itself, its question, or a near-copy.

The export leaves all of them out; that it did is checked on what was really taught, without store
or index. A row is a near-copy of a case when its alert has the same words, or when nearly all runs
of five words of its alert and answer are those of the case: near enough for the export too
(`training.retold`). Who rewords every fifth word is not found out by that.
"""

from collections.abc import Iterable, Iterator, Sequence

from eval.cases import Case
from eval.suite import Suite
from ingest.errors import Unreadable
from retrieval.copies import Sketch
from retrieval.prompt import parsed
from training.admission import in_any_order
from training.retold import Bands, lesson_sketch, nearly_all
from training.rows import Row

_Lesson = tuple[str, str | None, str | None]  # alert, cause and fix


def overlap(suite: Suite, rows: Sequence[Row]) -> int:
    """How many rows teach a case of the suite. Takes about 0.1 ms a row or case."""
    incidents = {case.incident[0] for case in suite.cases if case.incident}
    questions = {asked.user for case in suite.cases for asked in case.asked.values()}
    alerts = {in_any_order(case.question) for case in suite.cases if case.incident}
    near = _Near(suite.cases)
    told: dict[_Lesson, bool] = {}  # a row's alert and answer: the rows of one incident share them

    def is_case(row: Row) -> bool:
        if row.incident_id in incidents or row.user in questions:
            return True
        alert = _alert(row.user)
        if in_any_order(alert) in alerts:
            return True
        lesson = (alert, *_answer(row))
        if lesson not in told:
            told[lesson] = near.holds(lesson_sketch(*lesson))
        return told[lesson]

    return sum(map(is_case, rows))


class _Near:
    """The cases with a true answer, to be asked whether a text is a near-copy of one."""

    def __init__(self, cases: Iterable[Case]) -> None:
        self._sketches = [lesson_sketch(*lesson) for lesson in dict.fromkeys(_lessons(cases))]
        self._bands = Bands()
        for n, of in enumerate(self._sketches):
            self._bands.add(n, of)

    def holds(self, of: Sketch) -> bool:
        return any(nearly_all(of, self._sketches[n]) for n in self._bands.near(of))


def _lessons(cases: Iterable[Case]) -> Iterator[_Lesson]:
    for case in cases:
        if case.incident and case.form == "diagnosis":
            yield case.question, case.expected.cause, case.expected.fix


def _alert(user: str) -> str:
    return user.partition("\n")[0].removeprefix("alert: ")


def _answer(row: Row) -> tuple[str | None, str | None]:
    try:
        reply = parsed(row.answer)
    except Unreadable:  # a choice: its alert stands in the incident's other rows too
        return None, None
    return reply.cause, reply.fix
