"""The statistics that a verdict rests on: exact or checked by simulation, none of them hidden.

`gained` and `lost` count discordant pairs: cases that only the later model, or only the earlier
one, had right. Bounds are one-sided; differences are later minus earlier, from -1 to 1.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import comb, isfinite, sqrt
from statistics import NormalDist
from typing import TypeVar

import numpy as np

DRAWS = 10_000
SEED = 20261127  # any number, the same for everybody: a verdict can be computed again
_CHUNK = 500  # draws held at once: 500 × 10,000 clusters take 40 MB
_STEPS = 60  # halvings of an interval of at most 2: far below the last printed digit

_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Interval:
    """From `low` to `high`, both included."""

    low: float
    high: float


def p_better(gained: int, lost: int) -> float:
    """How probable at least so many gains are when neither model is better.

    The exact one-sided test of McNemar, P(Bin(gained + lost, 1/2) >= gained): Q. McNemar,
    Psychometrika 12 (1947) 153-157, in the binomial form. 1.0 without a discordant pair.
    """
    _refuse_negative(gained, lost)
    n = gained + lost
    # Whole numbers until the last step: exact also where a float would underflow.
    ways: int = sum(comb(n, k) for k in range(gained, n + 1))
    return ways / (1 << n)


def p_worse(gained: int, lost: int) -> float:
    """How probable at least so many losses are when neither model is worse; see `p_better`."""
    return p_better(lost, gained)


def tango_lower(gained: int, lost: int, n: int, *, alpha: float = 0.05) -> float:
    """The lower 1 - `alpha` bound of the paired difference (gained - lost) / n.

    The score interval of T. Tango, Statistics in Medicine 17 (1998) 891-908: the D at which the
    score statistic T(D) equals z. Stands also where no pair is discordant. It takes the `n` pairs
    for independent; for cases that come in groups see `clustered_lower`.
    """
    _refuse_negative(gained, lost)
    if n < 1 or gained + lost > n:
        raise ValueError(f"{gained} gained and {lost} lost do not fit into {n} pairs")
    z = NormalDist().inv_cdf(1 - alpha)
    observed = (gained - lost) / n
    return _falling_root(lambda d: _tango(gained, lost, n, d) - z, -1.0, observed)


def tango_upper(gained: int, lost: int, n: int, *, alpha: float = 0.05) -> float:
    """The upper 1 - `alpha` bound of the same difference: the lower one of its mirror image."""
    return -tango_lower(lost, gained, n, alpha=alpha)


def clustered_lower(
    differences: Sequence[float],
    clusters: Sequence[Hashable],
    *,
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = SEED,
) -> float:
    """The lower 1 - `alpha` bound of the mean difference when cases come in clusters.

    The percentile bootstrap over whole clusters: A. Davison and D. Hinkley, Bootstrap Methods and
    their Application (1997), 3.8. The same for the same arguments. Below some 20 clusters it is
    too bold (simulated: 0.07 to 0.09 in place of 0.05), so a verdict takes the lower of this and
    `tango_lower`.
    """
    if not differences or len(differences) != len(clusters):
        raise ValueError(f"{len(differences)} differences and {len(clusters)} clusters; one each")
    if not all(isfinite(d) for d in differences):
        raise ValueError("a difference is not finite; leave out what was not measured, and say so")
    place = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
    member = [place[name] for name in clusters]
    sums = np.bincount(member, weights=differences)
    sizes = np.bincount(member).astype(float)
    means = _redrawn(sums, sizes, draws, np.random.default_rng(seed))
    return float(np.quantile(means, alpha, method="lower"))


def rejected(p_values: dict[_Name, float], *, alpha: float = 0.05) -> set[_Name]:
    """The names whose hypothesis falls when all are tested at once, at `alpha` in all.

    S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70: the smallest p against alpha / K,
    the next against alpha / (K - 1), and so on until the first that stands.
    """
    fallen: set[_Name] = set()
    for left, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if not p <= alpha / (len(p_values) - left):
            break
        fallen.add(name)
    return fallen


def wilson(right: float, n: int, *, alpha: float = 0.05) -> Interval:
    """The two-sided 1 - `alpha` interval of a share: E. B. Wilson, JASA 22 (1927) 209-212."""
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} is no share")
    z = NormalDist().inv_cdf(1 - alpha / 2)
    share = right / n
    centre = share + z * z / (2 * n)
    reach = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(max(0.0, (centre - reach) / scale), min(1.0, (centre + reach) / scale))


def rule_of_three(n: int) -> float:
    """The highest rate, with 95 % confidence, of what was never seen in `n` trials: 3 / n.

    J. Hanley and A. Lippman-Hand, JAMA 249 (1983) 1743-1745; at most 1.
    """
    if n < 1:
        raise ValueError(f"nothing is known from {n} trials")
    return min(1.0, 3 / n)


def _tango(gained: int, lost: int, n: int, d: float) -> float:
    """Tango's T(D) for the hypothesis that the difference is `d`."""
    distance = gained - lost - n * d
    variance = n * (2 * _lost_rate(gained, lost, n, d) + d * (1 - d))
    if distance == 0:
        return 0.0
    return distance / sqrt(variance) if variance > 0 else float("inf")


def _lost_rate(gained: int, lost: int, n: int, d: float) -> float:
    """The most likely rate of losses when the difference is `d`; gains then have this plus `d`."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * d
    c = -lost * d * (1 - d)
    return max(0.0, -d, (sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a))


def _falling_root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where this falling function crosses zero, by bisection; the cautious end of what is left."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if f(middle) > 0:
            low = middle
        else:
            high = middle
    return low


def _redrawn(
    sums: np.ndarray, sizes: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """[draws] means, each over as many clusters as there are, drawn with replacement."""
    count = len(sums)
    means = []
    for begun in range(0, draws, _CHUNK):
        times = rng.multinomial(count, np.full(count, 1 / count), min(_CHUNK, draws - begun))
        means.append((times @ sums) / (times @ sizes))
    return np.concatenate(means)


def _refuse_negative(gained: int, lost: int) -> None:
    if gained < 0 or lost < 0:
        raise ValueError(f"{gained} gained, {lost} lost: counts are not negative")
