"""The resident columns: exact, masked, and true to time."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.columns import LATER_CHUNK, Facets, Vectors

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def stored(id="inc-1", version=1, known=0, **more):
    incident = Incident(
        source="s", source_id=id, title="t", id=id, version=version,
        known_at=DAY + timedelta(days=known), **more,
    )  # fmt: skip
    return Stored(incident, version, "hash", {}, None, [])


def test_at_every_moment_one_version_of_an_incident_is_seen_at_most():
    facets = Facets()
    for version, known in [(1, 1), (2, 5), (3, 9)]:
        facets.add(stored(version=version, known=known))

    seen = [facets.seen(DAY + timedelta(days=d)).tolist() for d in (1, 2, 5, 6, 10)]

    assert seen == [
        [False, False, False],
        [True, False, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    assert facets.seen().tolist() == [False, False, True]


def test_a_version_released_late_takes_its_place_in_time():
    facets = Facets()
    facets.add(stored(version=3, known=9))
    facets.add(stored(version=1, known=1))

    assert facets.seen(DAY + timedelta(days=4)).tolist() == [False, True]
    assert facets.seen().tolist() == [True, False]


def test_what_is_dropped_is_seen_at_no_time():
    facets = Facets()
    facets.add(stored("a"))
    facets.add(stored("b"))

    facets.drop("a")

    assert facets.seen().tolist() == [False, True]
    assert facets.seen(DAY + timedelta(days=1)).tolist() == [False, True]
    assert facets.count() == 1


def test_filters_are_met_all_at_once_and_case_says_nothing():
    facets = Facets()
    facets.add(stored("a", services=["Orders-DB", "cart"], severity="High"))
    facets.add(stored("b", services=["cart"], started_at=DAY))

    def chosen(**filters):
        return facets.chosen(2, **filters).tolist()

    assert facets.chosen(2) is None
    assert chosen(services=["orders-db"]) == [True, False]
    assert chosen(services=["cart"], severity="HIGH") == [True, False]
    assert chosen(since=DAY - timedelta(days=1)) == [False, True]
    assert chosen(source="S") == [True, True]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_the_masked_scan_equals_the_plain_dot_product(share):
    rng = np.random.default_rng(4)
    vectors, rows = Vectors(8), 3000
    texts = [rng.standard_normal((rng.integers(1, 4), 8)).astype(np.float32) for _ in range(rows)]
    order = rng.permutation(rows)
    for row in order:
        vectors.add(int(row), texts[row], np.zeros((0, 8), np.int8))
    mask, query = rng.random(rows) < share, rng.standard_normal(8).astype(np.float32)

    found = vectors.cosines(query, mask)

    less = [np.r_[0, np.full(len(t) - 1, LATER_CHUNK)] for t in texts]
    plain = np.array([(t @ query - cut).max() for t, cut in zip(texts, less, strict=True)])
    np.testing.assert_allclose(found[mask], plain[mask], atol=1e-5)
    assert np.isnan(found[~mask]).all()


def test_a_row_without_vectors_has_no_cosine_rather_than_zero():
    vectors = Vectors(2)
    vectors.add(1, np.array([[1.0, 0.0]], np.float32), np.zeros((0, 2), np.int8))

    found = vectors.cosines(np.array([1.0, 0.0], np.float32), np.ones(3, bool))

    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == 1.0
