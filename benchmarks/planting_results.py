"""The results of the gate drill, as a table and as a plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.results import table

Layer = Literal["admission", "seal", "gate", "none"]


@dataclass(frozen=True, slots=True)
class Result:
    """How one candidate fared; `good` is what should have come of it."""

    name: str
    what: str
    regression: bool
    verdict: str
    layer: Layer
    good: bool
    new: float | None  # change of the newest cohort, with retrieval
    kept: float | None  # change of the older ones, both arms
    reasons: list[str]
    cpu_s: float


def shown(found: Sequence[Result]) -> str:
    columns = ("candidate", "what", "new", "older", "verdict", "held by", "", "first reason",
               "CPU-s")  # fmt: skip
    rows = [
        (r.name, r.what, points(r.new), points(r.kept), r.verdict, r.layer, mark(r),
         (r.reasons or [""])[0].replace("|", "/")[:150], f"{r.cpu_s:.0f}")
        for r in found
    ]  # fmt: skip
    return table(columns, rows)


def mark(r: Result) -> str:
    if r.regression:
        return "caught" if r.good else "MISSED"
    return "passed" if r.good else "WRONGLY HELD"


def points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}"


def draw(found: Sequence[Result], path: Path) -> None:
    """Every judged model by what it gained and what it lost."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.4), dpi=110)
    looks = {
        (False, True): ("o", "#2a7", "improvement, passed"),
        (False, False): ("o", "#e90", "improvement, held"),
        (True, True): ("x", "#36c", "regression, held"),
        (True, False): ("x", "#c22", "regression, passed"),
    }
    for (regression, good), (marker, colour, label) in looks.items():
        some = [r for r in found if r.regression == regression and r.good == good
                and r.new is not None and r.kept is not None]  # fmt: skip
        if some:
            axes.scatter([100 * (r.kept or 0) for r in some], [100 * (r.new or 0) for r in some],
                         marker=marker, color=colour, label=label)  # fmt: skip
    axes.axvline(-5, color="#999", linewidth=0.8, linestyle=":")
    axes.set_xlabel("older cohorts, change in points")
    axes.set_ylabel("newest cohort with retrieval, change in points")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
