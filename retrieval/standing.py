"""What people's verdicts do to a ranking: a little everywhere, much where the same was asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ingest.feedback import Feedback
from retrieval.words import STOP_WORDS, words

# A judged question is the same question when most of its words are.
SAME_QUESTION = 0.6

# By how much a verdict multiplies the score: (on the question that was judged, on any other).
# Chosen, not fitted: on the judged question one verdict outweighs any gap between neighbours,
# elsewhere several are needed, and what did not hold sinks without vanishing.
_WEIGHT = {
    "same": (1.5, 1.03),
    "fixed_it": (1.5, 1.06),
    "related": (1.0, 1.0),
    "wrong": (0.25, 0.97),
    "stale": (0.5, 0.85),
    "did_not_fix": (0.5, 0.92),
}
_LEAST, _MOST = 0.1, 2.0


@dataclass(frozen=True, slots=True)
class Judged:
    """One verdict that stands, and the words of the question it was given on."""

    verdict: str
    version: int
    when: datetime
    asked: frozenset[str] | None

    @classmethod
    def of(cls, feedback: Feedback, question: str | None) -> "Judged":
        assert feedback.version
        assert feedback.when
        asked = question_words(question) if question else None
        return cls(feedback.verdict, feedback.version, feedback.when, asked)


def question_words(text: str) -> frozenset[str]:
    """The words by which two questions are told to be the same."""
    return frozenset(words(text)) - STOP_WORDS


def standing(
    judged: Sequence[Judged], version: int, asked: frozenset[str], as_of: datetime | None
) -> float:
    """The factor, 0.1 to 2, that this version's verdicts give its score on this question.

    A verdict belongs to the version that it judged: an edit starts afresh.
    """
    factor = 1.0
    for verdict in judged:
        if verdict.version != version or (as_of and verdict.when >= as_of):
            continue
        here, elsewhere = _WEIGHT[verdict.verdict]
        factor *= here if _same(verdict.asked, asked) else elsewhere
    return min(_MOST, max(_LEAST, factor))


def _same(one: frozenset[str] | None, other: frozenset[str]) -> bool:
    if not one or not other:
        return False
    return len(one & other) / len(one | other) >= SAME_QUESTION
