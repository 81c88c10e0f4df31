"""What verdicts do to a score."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from retrieval.standing import Judged, question_words, standing

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ASKED = question_words("disk full on db-3")


def judged(verdict, *, version=1, asked=ASKED, when=NOW):
    return Judged(verdict, version, when, asked)


def test_wrong_on_the_same_question_weighs_far_more_than_elsewhere():
    here = standing([judged("wrong")], 1, ASKED, None)
    elsewhere = standing([judged("wrong")], 1, question_words("tls handshake fails"), None)

    assert (here, elsewhere) == (0.25, 0.97)


def test_a_verdict_on_another_version_counts_nothing():
    assert standing([judged("stale", version=1)], 2, ASKED, None) == 1.0


def test_a_later_verdict_is_invisible_as_of_then():
    assert standing([judged("fixed_it")], 1, ASKED, NOW) == 1.0


def test_a_verdict_without_a_question_is_about_the_incident_at_large():
    assert standing([judged("did_not_fix", asked=None)], 1, ASKED, None) == 0.92


@given(st.lists(st.sampled_from(["same", "related", "wrong", "stale", "fixed_it", "did_not_fix"])))
def test_however_many_verdicts_none_makes_a_precedent_vanish_or_drown_the_rest(verdicts):
    factor = standing([judged(v) for v in verdicts], 1, ASKED, None)

    assert 0.1 <= factor <= 2.0
