"""One ranking from three: what each part decides when the others cannot."""

import numpy as np
import pytest

from retrieval.rank import Pieces, fuse, head, is_known, kin, late, rank, settle

NO_SERVICE = frozenset()


def floats(*values):
    return np.array(values, np.float32)


def unit_tokens(seed, count, dim=8):
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return np.rint(127 * rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.int8)


def ranked(words, cosines=None, allowed=None, services=lambda row: NO_SERVICE, compare=None):
    allowed = np.ones(len(words), bool) if allowed is None else np.array(allowed)
    return rank(words, cosines, allowed, compare=compare, services=services)


def test_words_decide_where_meanings_lie_close_together():
    ranking = ranked(floats(2, 9, 4), floats(0.91, 0.90, 0.92))

    assert ranking.rows.tolist() == [1, 2, 0]


def test_meaning_decides_where_no_word_is_shared():
    ranking = ranked(floats(0, 0, 0), floats(0.2, 0.7, 0.4))

    assert ranking.rows.tolist() == [1, 2, 0]


def test_without_meaning_the_words_rank_alone():
    ranking = ranked(floats(1, 4, 2))

    assert ranking.rows.tolist() == [1, 2, 0]
    assert ranking.scores.tolist() == [1.0, 0.5, 0.25]


def test_a_row_that_is_not_allowed_neither_ranks_nor_sets_the_scale():
    ranking = ranked(floats(100, 4, 2), floats(0.9, 0.5, 0.5), allowed=[False, True, True])

    assert ranking.rows.tolist() == [1, 2]
    assert ranking.scores[0] == fuse(floats(4), floats(0.5), np.array([True]))[0]


def test_a_row_without_a_vector_yet_ranks_by_its_words_among_the_others():
    ranking = ranked(floats(8, 8, 1), floats(0.6, np.nan, 0.5))

    assert ranking.rows.tolist() == [0, 1, 2]


def test_nothing_allowed_ranks_nothing():
    ranking = ranked(floats(1, 2), floats(0.1, 0.2), allowed=[False, False])

    assert ranking.rows.tolist() == []


def test_the_head_is_the_best_rows_in_order():
    assert head(floats(0.1, 0.9, -np.inf, 0.5, 0.9), 3).tolist() == [1, 4, 3]
    assert head(floats(0.1, -np.inf), 5).tolist() == [0]
    assert head(floats()).tolist() == []


def test_late_interaction_is_the_weighted_mean_of_each_tokens_best_cosine():
    question, documents = unit_tokens(1, 5), [unit_tokens(2, 9), None, unit_tokens(3, 1)]
    weights = floats(0, 1, 2, 3, 4)

    scores = late(question, weights, documents)

    def naive(document):
        cosines = (question / 127.0) @ (document / 127.0).T
        return float(cosines.max(axis=1) @ weights / weights.sum())

    assert scores[[0, 2]] == pytest.approx([naive(documents[0]), naive(documents[2])], abs=1e-5)
    assert np.isnan(scores[1])


def test_late_interaction_says_nothing_where_no_token_tells():
    assert np.isnan(late(unit_tokens(1, 2), floats(0, 0), [unit_tokens(2, 3)])).all()
    assert np.isnan(late(unit_tokens(1, 2), floats(1, 1), [None, unit_tokens(2, 0)])).all()


def test_the_late_score_outweighs_the_first_one():
    ranking = ranked(
        floats(5, 5, 4), floats(0.5, 0.5, 0.5), compare=lambda rows: floats(0.2, 0.3, 0.9)[rows]
    )

    assert ranking.rows.tolist() == [2, 1, 0]


def test_a_row_without_a_late_score_is_taken_for_an_average_one():
    settled = settle(floats(0.5, 0.5, 0.5), floats(0.4, np.nan, 0.6))

    assert settled[0] < settled[1] < settled[2]
    assert settle(floats(0.5, 0.4), floats(np.nan, np.nan)).tolist() == floats(0.5, 0.4).tolist()


def test_of_equals_the_one_of_the_service_that_the_best_have_comes_first():
    services = [{"checkout"}, {"billing"}, {"checkout", "cart"}, set()]

    scores = kin(floats(0.9, 0.5, 0.5, 0.5), [frozenset(s) for s in services], best=1)

    assert scores[2] > scores[3] > scores[1]


def test_a_service_that_all_have_changes_no_order():
    scores = kin(floats(0.9, 0.6, 0.5), [frozenset({"prod"})] * 3)

    assert np.diff(scores) == pytest.approx([-0.3, -0.1])


def test_a_piece_weighs_by_how_few_of_the_seen_rows_hold_it():
    pieces = Pieces()
    pieces.add([0, 1], [np.array([7, 8, 8], np.int32), np.array([7], np.int32)])
    pieces.add([2], [np.array([7, 9], np.int32)])
    asked = np.array([7, 8, 9, 10], np.int32)

    everywhere, rare, also_rare, unheard = pieces.weights(asked, np.ones(3, bool))
    before = pieces.weights(asked, np.array([True, True, False]))
    pieces.remove(2)
    after = pieces.weights(asked, np.array([True, True, False]))

    assert everywhere < rare == also_rare < unheard
    assert before[2] == before[3]
    assert after.tolist() == before.tolist()


@pytest.mark.parametrize(
    ("coverage", "cosine", "background", "known"),
    [
        (0.6, 0.7, 0.2, True),
        (0.1, 0.25, 0.2, False),
        (0.1, 0.85, 0.8, False),  # near by number, but so is every row of that store
        (0.0, 0.7, 0.2, True),  # the same in other words
        (0.4, None, None, True),
        (0.1, None, None, False),
    ],
)
def test_known_is_what_is_nearer_than_the_stores_own_background(
    coverage, cosine, background, known
):
    assert is_known(coverage, cosine, background) is known
