"""The table of the streams: matrices, what they sum up to, and how sure that is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.results import table
from benchmarks.stream_cases import Stream
from eval.matrix import Matrix
from eval.statistics import p_better, p_worse

COPY = "nearest: the product's ranking"  # what is served without a model
# What everybody is held to: what others measured, what is served, and the same without clocks.
RIVALS = ("nearest: BM25 (bm25s)", COPY, "nearest, plain lines: the product's ranking")
DRAWS = 4_000
SEED = 20261127

Right = npt.NDArray[np.float64]  # (eras, cases): how often that case was right after that era


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm said in every seed, (seeds, eras, cases), and what that cost on average.

    `served(of, by)` is what the first seed's model of era `of` answers beside the neighbours that
    are stored by era `by`; None for what is no model.
    """

    said: list[list[list[str | None]]]
    served: Callable[[int, int], list[str | None]] | None = None
    cpu_s: float | None = None
    mb: float | None = None
    seen: int | None = None


def right(stream: Stream, said: Sequence[Sequence[str | None]]) -> Right:
    return np.array([[a == c.answer for a, c in zip(row, stream.test, strict=True)]
                     for row in said], float)  # fmt: skip


def matrix(stream: Stream, was_right: Right) -> Matrix:
    """The forgetting matrix; nothing is known of a base, which has no head and no answers."""
    era = np.array([case.era for case in stream.test])
    size = len(stream.eras) + 1
    rows: list[tuple[float | None, ...]] = [(None,) * size]
    rows += [(None, *(float(row[era == j].mean()) for j in range(1, size))) for row in was_right]
    return Matrix(("base", *(f"era {n}" for n in range(1, size))), tuple(rows))


def ends_at(stream: Stream, was_right: Right) -> float:
    """ACC after the last era."""
    found = matrix(stream, was_right).acc()
    assert found is not None
    return found


def redrawn(stream: Stream) -> npt.NDArray[np.float64]:
    """(draws, cases): what each case weighs in ACC when cases are drawn anew within their eras."""
    era = np.array([case.era for case in stream.test])
    rng = np.random.default_rng(SEED)
    weights = np.zeros((DRAWS, len(era)))
    for n in range(1, len(stream.eras) + 1):
        [at] = np.nonzero(era == n)
        drawn = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), DRAWS)
        weights[:, at] = drawn / len(at) / len(stream.eras)
    return weights


def against(
    stream: Stream, weights: npt.NDArray[np.float64], ours: Right, theirs: Right
) -> dict[str, float]:
    """ACC at the end less another arm's: paired bootstrap, and McNemar's exact tests.

    Over several seeds `ours` and `theirs` are means; McNemar then takes what most seeds say.
    """
    gaps = weights @ (ours[-1] - theirs[-1])
    change = (ours[-1] > 0.5).astype(int) - (theirs[-1] > 0.5).astype(int)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    return {
        "gap": ends_at(stream, ours) - ends_at(stream, theirs),
        "low": float(np.quantile(gaps, 0.025)), "high": float(np.quantile(gaps, 0.975)),
        "gained": gained, "lost": lost,
        "p_better": p_better(gained, lost), "p_worse": p_worse(gained, lost),
    }  # fmt: skip


def figures(stream: Stream, arms: Mapping[str, Arm]) -> list[dict[str, Any]]:
    """One line for each arm: its matrix (the mean over seeds), metrics, intervals, cost."""
    means = {name: np.mean([right(stream, s) for s in arm.said], 0) for name, arm in arms.items()}
    weights = redrawn(stream)
    lines = []
    for name, arm in arms.items():
        told = matrix(stream, means[name])
        once = name.split(" + ")[0] == "joint"
        metrics = {m.name: m.value for m in told.metrics() if not once or m.name == "ACC"}
        ends = weights @ means[name][-1]
        lines.append({
            "arm": name, "seeds": len(arm.said), **metrics,
            "low": float(np.quantile(ends, 0.025)), "high": float(np.quantile(ends, 0.975)),
            "by_seed": [ends_at(stream, right(stream, said)) for said in arm.said],
            "against": {r: against(stream, weights, means[name], means[r]) for r in RIVALS},
            "cpu_s": arm.cpu_s, "mb": arm.mb, "cases_shown": arm.seen,
            "rows": [list(row) for row in told.rows],
        })  # fmt: skip
    return lines


def shown(lines: Sequence[Mapping[str, Any]]) -> str:
    columns = ("arm", "ACC [95 %]", *(f"− {r} [95 %], p better / worse" for r in RIVALS),
               "BWT", "LA", "AIA", "forgetting", "CPU-s", "MB", "gate")  # fmt: skip
    return table(columns, [
        (
            line["arm"], f"{line['ACC']:.3f} [{line['low']:.2f}, {line['high']:.2f}]",
            *(_gap(line["against"][r]) if r != line["arm"] else "-" for r in RIVALS),
            *(_number(line.get(n)) for n in ("BWT", "LA", "AIA", "forgetting")),
            *("-" if line[n] is None else f"{line[n]:.0f}" for n in ("cpu_s", "mb")),
            line.get("gate", "-"),
        )
        for line in lines
    ])  # fmt: skip


def _gap(found: Mapping[str, float]) -> str:
    return (
        f"{found['gap']:+.3f} [{found['low']:+.2f}, {found['high']:+.2f}], "
        f"{found['p_better']:.2g} / {found['p_worse']:.2g}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
