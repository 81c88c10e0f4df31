import math
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from eval.statistics import (
    clustered_lower,
    p_better,
    p_worse,
    rejected,
    rule_of_three,
    tango_lower,
    tango_upper,
    wilson,
)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (7, 3), (3, 7), (60, 10)])
def test_mcnemars_test_is_the_one_sided_binomial_test_in_both_directions(gained, lost):
    n = gained + lost

    expected = binomtest(gained, n, alternative="greater").pvalue if n else 1.0

    assert p_better(gained, lost) == pytest.approx(expected)
    assert p_worse(lost, gained) == pytest.approx(expected)


def test_mcnemars_test_stays_exact_where_a_float_would_underflow():
    assert p_better(2_000, 0) == 0.5**1_000 * 0.5**1_000
    assert p_better(0, 2_000) == 1.0


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 2635-2650: the score interval of his example.
        (12, 2, 50, 0.0611, 0.3447),
        # Bentur 2009 in Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33, 2850-2875.
        (1, 7, 21, -0.517, -0.026),
    ],
)
def test_tangos_bounds_are_those_of_published_examples(gained, lost, n, low, high):
    digits = 5e-4 if n == 21 else 5e-5

    assert tango_lower(gained, lost, n, alpha=0.025) == pytest.approx(low, abs=digits)
    assert tango_upper(gained, lost, n, alpha=0.025) == pytest.approx(high, abs=digits)


@pytest.mark.parametrize(("gained", "lost", "n"), [(7, 3, 60), (3, 4, 96), (0, 5, 50), (5, 0, 50)])
def test_at_tangos_bound_the_score_statistic_is_the_normal_quantile(gained, lost, n):
    d = tango_lower(gained, lost, n)

    # The restricted maximum found by search, not by the root of the quadratic.
    def unlikely(q: float) -> float:
        cells = [(gained, q + d), (lost, q), (n - gained - lost, 1 - 2 * q - d)]
        return -sum(count * math.log(max(rate, 1e-12)) for count, rate in cells if count)

    low, high = max(0.0, -d), (1 - d) / 2
    q = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-10}).x
    statistic = (gained - lost - n * d) / math.sqrt(n * (2 * q + d * (1 - d)))

    assert statistic == pytest.approx(norm.ppf(0.95), abs=1e-3)


def test_tangos_bound_stands_without_a_discordant_pair_and_at_the_edges():
    z2 = norm.ppf(0.95) ** 2

    assert tango_lower(0, 0, 100) == pytest.approx(-z2 / (100 + z2))
    assert tango_lower(0, 40, 40) == -1.0
    assert tango_upper(40, 0, 40) == 1.0


@pytest.mark.parametrize("n", [40, 100])
def test_an_equal_drop_passes_tangos_bound_about_once_in_twenty(n):
    # Exactly, over all tables of a model that is 5 points worse with 15 % of pairs discordant.
    gain, loss, margin = 0.05, 0.10, -0.05

    passed = sum(
        _multinomial(n, g, loss_count, gain, loss)
        for g, loss_count in product(range(n // 2), repeat=2)
        if g + loss_count <= n and tango_lower(g, loss_count, n) > margin
    )

    assert 0.02 < passed < 0.065


def test_the_bootstrap_by_cluster_is_wider_where_families_fall_together():
    rng = np.random.default_rng(7)
    by_family = np.repeat(rng.choice([-1.0, 0.0], 20, p=[0.1, 0.9]), 10)
    families = np.repeat(np.arange(20), 10).tolist()

    together = clustered_lower(by_family.tolist(), families)
    apart = clustered_lower(by_family.tolist(), list(range(200)))

    assert together < apart < by_family.mean()


def test_the_bootstrap_is_the_same_for_the_same_arguments_and_near_the_normal_bound():
    rng = np.random.default_rng(3)
    differences = rng.choice([-1.0, 0.0, 1.0], 400, p=[0.06, 0.86, 0.08]).tolist()
    one_each = list(range(400))
    normal = np.mean(differences) - norm.ppf(0.95) * np.std(differences) / 20

    first = clustered_lower(differences, one_each)

    assert first == clustered_lower(differences, one_each)
    assert first == pytest.approx(normal, abs=0.004)


def test_the_bootstrap_refuses_what_is_not_a_number():
    with pytest.raises(ValueError, match="not finite"):
        clustered_lower([0.0, math.nan], ["a", "b"])
    with pytest.raises(ValueError, match="one each"):
        clustered_lower([], [])


def test_holm_stops_at_the_first_that_stands():
    p_values = {"a": 0.012, "b": 0.04, "c": 0.013, "d": 0.2}

    assert rejected(p_values) == {"a", "c"}
    assert rejected({"a": math.nan, "b": 0.5}) == set()
    assert rejected({}) == set()


def test_wilsons_interval_and_the_rule_of_three_are_those_of_the_books():
    # Newcombe 1998, Statistics in Medicine 17, 857-872: 81 of 263 and 0 of 20.
    assert wilson(81, 263).low == pytest.approx(0.2553, abs=5e-5)
    assert wilson(81, 263).high == pytest.approx(0.3662, abs=5e-5)
    assert wilson(0, 20).low == pytest.approx(0.0, abs=1e-12)
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=5e-5)
    assert rule_of_three(60) == 0.05
    assert rule_of_three(2) == 1.0


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: p_better(-1, 0),
        lambda: tango_lower(0, 0, 0),
        lambda: tango_lower(3, 3, 5),
        lambda: wilson(0, 0),
        lambda: rule_of_three(0),
    ],
)
def test_counts_that_cannot_be_are_refused_rather_than_bounded(impossible):
    with pytest.raises(ValueError, match=r"\d"):
        impossible()


def _multinomial(n: int, gained: int, lost: int, gain: float, loss: float) -> float:
    rest = n - gained - lost
    ways = math.comb(n, gained) * math.comb(n - gained, lost)
    return ways * gain**gained * loss**lost * (1 - gain - loss) ** rest
