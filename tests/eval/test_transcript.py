import math
from dataclasses import replace

import pytest

from eval.transcript import Transcript, read_transcript
from ingest.errors import Refused, Unavailable, Unreadable
from tests.eval.answers import HEADER, prediction, transcript

SMALL = {"era 0": 3}


def test_a_transcript_is_read_back_as_it_was_written(tmp_path):
    odd = prediction("era 0", "retrieval", 9, text="a\u2028b\nc\x00 ‽", scores={"nll": math.inf})
    told = transcript("diag-v1", sizes=SMALL)
    told = replace(told, predictions=(*told.predictions, odd))

    told.write(tmp_path / "evals" / "retrieval.jsonl")
    found = read_transcript(tmp_path / "evals" / "retrieval.jsonl")

    assert found.header == told.header
    assert set(map(str, found.predictions)) == set(map(str, told.predictions))
    assert found.digest == told.digest
    assert [p.name for p in (tmp_path / "evals").iterdir()] == ["retrieval.jsonl"]


def test_a_score_that_is_no_number_is_not_read_back_as_unscored(tmp_path):
    told = Transcript(HEADER, (prediction("era 0", "retrieval", 0, scores={"nll": math.nan}),))

    told.write(tmp_path / "a.jsonl")
    [found] = read_transcript(tmp_path / "a.jsonl").predictions

    assert found.scores["nll"] is not None
    assert math.isnan(found.scores["nll"])


def test_the_digest_is_of_what_was_answered_and_not_of_the_order():
    told = transcript("diag-v1", sizes=SMALL)
    turned = replace(told, predictions=told.predictions[::-1])
    other = replace(told, predictions=told.predictions[:-1])

    assert turned.digest == told.digest
    assert other.digest != told.digest
    assert transcript("diag-v2", sizes=SMALL).digest != told.digest


@pytest.mark.parametrize("keep", [0, 1, 40, 900, -2, -200])
def test_a_file_that_was_cut_off_is_refused_whole(tmp_path, keep):
    path = tmp_path / "a.jsonl"
    transcript("diag-v1", sizes=SMALL).write(path)
    path.write_text(path.read_text()[:keep])

    with pytest.raises(Unreadable, match=r"a\.jsonl .*replay it"):
        read_transcript(path)


def test_a_file_in_which_an_answer_was_changed_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    transcript("diag-v1", sizes=SMALL).write(path)
    path.write_text(path.read_text().replace('"cause":1.0', '"cause":0.0', 1))

    with pytest.raises(Unreadable, match="not what was written there"):
        read_transcript(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Unreadable, match=r"none\.jsonl"):
        read_transcript(tmp_path / "none.jsonl")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "evals").write_text("a file")

    with pytest.raises(Unavailable, match="evals"):
        transcript("diag-v1", sizes=SMALL).write(tmp_path / "evals" / "a.jsonl")


def test_a_case_is_answered_once_in_an_arm_and_belongs_to_the_suite():
    one = prediction("era 0", "retrieval", 0)

    with pytest.raises(Refused, match="twice"):
        Transcript(HEADER, (one, one))
    with pytest.raises(Refused, match="suite v2"):
        Transcript(HEADER, (prediction("era 0", "retrieval", 0, suite="v2"),))


def test_arms_of_one_model_are_joined_and_those_of_two_are_not():
    told = transcript("diag-v1", sizes=SMALL)
    arms = [
        replace(told, predictions=tuple(p for p in told.predictions if p.arm == arm))
        for arm in ("closed_book", "retrieval")
    ]

    assert arms[0].joined(arms[1]).digest == told.digest
    with pytest.raises(Refused, match="different headers"):
        arms[0].joined(transcript("diag-v2", sizes=SMALL))
