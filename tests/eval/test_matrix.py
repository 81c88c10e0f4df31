import pytest

from eval.matrix import Matrix, measured
from ingest.errors import Refused
from tests.eval.answers import ERAS, changed, prediction, transcript

# By hand: era 0 is the base, eras 1 to 3 were learned one after another.
ROWS = (
    (0.9, 0.1, 0.0, 0.2),
    (0.8, 0.7, 0.3, 0.0),
    (0.6, 0.8, 0.9, 0.1),
    (0.7, 0.5, 0.6, 1.0),
)
WORKED = {
    "ACC": (0.5 + 0.6 + 1.0) / 3,
    "ACC with base": (0.7 + 0.5 + 0.6 + 1.0) / 4,
    "AIA": (0.7 + (0.8 + 0.9) / 2 + (0.5 + 0.6 + 1.0) / 3) / 3,
    "LA": (0.7 + 0.9 + 1.0) / 3,
    "BWT": ((0.5 - 0.7) + (0.6 - 0.9)) / 2,
    "BWT with base": ((0.7 - 0.9) + (0.5 - 0.7) + (0.6 - 0.9)) / 3,
    # Era 1 was best after era 2 (0.8), not when it was learned (0.7).
    "forgetting": ((0.8 - 0.5) + (0.9 - 0.6)) / 2,
    "base kept": 0.7,
}


def matrix(rows=ROWS) -> Matrix:
    return Matrix(("era 0", "era 1", "era 2", "era 3"), rows)


def test_every_named_metric_is_what_the_hand_computes():
    found = {m.name: m.value for m in matrix().metrics()}

    assert found.pop("FWT") is None
    assert found == pytest.approx(WORKED)


def test_forward_transfer_is_undefined_where_the_causes_are_unseen_and_not_zero():
    unseen, seen = (matrix().metrics(labels_seen=seen)[-1] for seen in (False, True))

    assert unseen.value is None
    assert "undefined" in unseen.words
    assert seen.value == pytest.approx(((0.3 - 0.0) + (0.1 - 0.2)) / 2)


def test_naive_tuning_reads_as_the_figures_measured_beforehand():
    rows = ((0.992, 0, 0, 0, 0), (0, 0.958, 0, 0, 0), (0, 0, 0.990, 0, 0), (0, 0, 0, 0.927, 0))
    naive = Matrix(("b", "1", "2", "3", "4"), (*rows, (0, 0, 0, 0, 0.917)))

    assert naive.acc() == pytest.approx(0.229, abs=5e-4)
    assert naive.bwt() == pytest.approx(-0.958, abs=5e-4)
    assert naive.bwt(first=0) == pytest.approx(-0.967, abs=5e-4)
    assert naive.la() == pytest.approx(0.948, abs=5e-4)


def test_what_was_not_measured_makes_a_metric_absent_and_never_zero():
    rows = (*ROWS[:3], (0.7, None, 0.6, 1.0))

    found = {m.name: m for m in matrix(rows).metrics()}

    assert found["LA"].value == pytest.approx(WORKED["LA"])
    for name in ("ACC", "ACC with base", "AIA", "BWT", "BWT with base", "forgetting"):
        assert found[name].value is None
        assert "not measured" in found[name].words


def test_one_era_has_nothing_to_have_forgotten():
    alone = Matrix(("era 0", "era 1"), ((0.9, 0.0), (0.8, 1.0)))

    assert alone.acc() == 1.0
    assert alone.bwt() is None
    assert alone.bwt(first=0) == pytest.approx(-0.1)
    assert alone.forgetting() is None


@pytest.mark.parametrize("rows", [(), ((1.0,), (1.0, 1.0)), ((float("nan"), 0.0), (1.0, 1.0))])
def test_a_matrix_with_holes_or_without_numbers_is_refused(rows):
    with pytest.raises(Refused):
        Matrix(("era 0", "era 1"), rows)


def test_a_matrix_is_measured_from_kept_transcripts():
    base = transcript("base", {("era 1", "retrieval"): range(120)})
    later = changed(transcript("diag-v1"), "era 2", "retrieval", scores={"cause": None})
    unreplayed = transcript("diag-v2", sizes={"era 0": 10})

    found = measured([base, later, unreplayed], ERAS, arm="retrieval")

    assert found.rows == ((1.0, 0.0, 1.0), (1.0, 1.0, None), (1.0, None, None))


def test_a_matrix_looks_at_one_slice_of_the_suite_only():
    told = transcript("base", sizes={"era 0": 2})
    dev = prediction("era 0", "retrieval", 7, slice="dev", scores={"cause": 0.0})
    told = type(told)(told.header, (*told.predictions, dev))

    assert measured([told], ["era 0"], arm="retrieval").rows == ((1.0,),)
    assert measured([told], ["era 0"], arm="retrieval", wanted="dev").rows == ((0.0,),)
