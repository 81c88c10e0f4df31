"""What became of every era, strategy by strategy: figures over several worlds, tables and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.results import FOLDER, table
from eval.examination import ARMS, cohorts_of
from eval.matrix import Matrix, measured
from eval.score import Arm, outcome
from eval.suite import Suite
from eval.transcript import Transcript

METRICS = ("ACC", "BWT", "base kept", "LA")
DRAWS = 2_000
# What the rehearsed adapter has to reach closed book, what it knows itself and not what it is
# shown, as the mean over the worlds; what a world may cost, and hold in memory at the most.
AIMS = {"ACC": 0.90, "BWT": -0.10, "base kept": 0.93, "LA": 0.93}
MOST_CPU_S, MOST_MB = 350, 1_000


@dataclass(frozen=True, slots=True)
class Learned:
    """One strategy through all eras of one world: the answers after each era, the base's first.

    Joint training has one set of answers beside the base's: there all eras are learned at once.
    """

    strategy: str
    seed: int
    cohorts: tuple[str, ...]
    said: tuple[Transcript, ...]
    cost: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, strategy: str, seed: int, suite: Suite, said: Sequence[Transcript], **cost: Any
    ) -> "Learned":
        return cls(strategy, seed, tuple(cohorts_of(suite)), tuple(said), cost)

    @property
    def in_order(self) -> tuple[Transcript, ...]:
        """One for each row of the matrix."""
        joint = self.strategy == "joint"
        return self.said if not joint else (self.said[-1],) * len(self.cohorts)

    def matrix(self, arm: Arm) -> Matrix:
        return measured(self.in_order, self.cohorts, arm=arm)

    def figures(self, arm: Arm) -> dict[str, Any]:
        """The matrix and its metrics; of joint training only those of the end."""
        matrix = self.matrix(arm)
        if self.strategy == "joint":
            ends = {"ACC": matrix.acc(), "base kept": matrix.base_kept()}
            return {"rows": [list(matrix.rows[-1])], **ends}
        named = {m.name: m.value if m.value is not None else m.words for m in matrix.metrics()}
        return {"rows": [list(row) for row in matrix.rows], **named}

    def as_dict(self) -> dict[str, Any]:
        told = {"strategy": self.strategy, "seed": self.seed, **self.cost}
        return told | {arm: self.figures(arm) for arm in ARMS}


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean over the worlds, and 95 % of the bootstrap by failure family within each world."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Reached = dict[str, dict[str, Estimate]]  # by strategy, by metric


def estimates(runs: Sequence[Learned], arm: Arm) -> dict[str, Estimate]:
    """Each metric over these runs, which are of one strategy in several worlds."""
    rng = np.random.default_rng(0)
    drawn = [_drawn(_counts(run, arm), rng) for run in runs]
    found = {}
    for name in METRICS:
        values = [run.figures(arm).get(name) for run in runs]
        numbers = [v for v in values if isinstance(v, float)]
        if len(numbers) == len(runs):
            low, high = np.quantile(np.mean([d[name] for d in drawn], axis=0), [0.025, 0.975])
            found[name] = Estimate(fmean(numbers), float(low), float(high))
    return found


def _counts(run: Learned, arm: Arm) -> list[np.ndarray]:
    """For each era [families, rows, 2]: how many right, and of how many, after each era."""
    rows = run.in_order
    families: list[dict[str, int]] = [{} for _ in run.cohorts]
    cells: list[list[list[list[float]]]] = [[] for _ in run.cohorts]
    place = {cohort: j for j, cohort in enumerate(run.cohorts)}
    for i, transcript in enumerate(rows):
        for p in transcript.predictions:
            right = outcome(p)
            if p.arm != arm or p.slice != "gate" or p.cohort not in place or right is None:
                continue
            j = place[p.cohort]
            n = families[j].setdefault(p.cluster, len(families[j]))
            if n == len(cells[j]):
                cells[j].append([[0.0, 0.0] for _ in rows])
            cells[j][n][i][0] += right
            cells[j][n][i][1] += 1
    return [np.array(of_era) for of_era in cells]


def _drawn(counts: Sequence[np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """[draws] of each metric, the families of every era drawn anew with replacement."""
    size = len(counts)
    r = np.empty((DRAWS, size, size))
    for j, era in enumerate(counts):
        weights = rng.multinomial(len(era), np.full(len(era), 1 / len(era)), size=DRAWS)
        sums = np.einsum("df,fik->dik", weights, era)
        r[:, :, j] = sums[..., 0] / sums[..., 1]
    last, learned = r[:, -1, :], np.diagonal(r, axis1=1, axis2=2)
    return {
        "ACC": last[:, 1:].mean(axis=1),
        "BWT": (last[:, 1:-1] - learned[:, 1:-1]).mean(axis=1),
        "base kept": last[:, 0],
        "LA": learned[:, 1:].mean(axis=1),
    }


def by_strategy(runs: Sequence[Learned]) -> dict[str, list[Learned]]:
    found: dict[str, list[Learned]] = {}
    for run in runs:
        found.setdefault(run.strategy, []).append(run)
    return found


def reached_in(runs: Sequence[Learned], arm: Arm) -> Reached:
    """The estimates of every strategy among these runs."""
    return {strategy: estimates(held, arm) for strategy, held in by_strategy(runs).items()}


def shown(runs: Sequence[Learned], reached: Reached) -> str:
    """A line for each strategy, and below them one for each of its worlds."""
    columns = ("strategy", "worlds", *METRICS, "CPU-s of LoRA a world", "most MB")
    lines: list[tuple[object, ...]] = []
    for strategy, held in by_strategy(runs).items():
        found = reached[strategy]
        lines.append((
            strategy, len(held), *(found.get(name, "-") for name in METRICS),
            round(fmean(run.cost["cpu_s"] for run in held)),
            max(run.cost["peak_rss_mb"] for run in held),
        ))  # fmt: skip
    return table(columns, lines)


def shown_apart(runs: Sequence[Learned], arm: Arm) -> str:
    columns = ("strategy", "seed", *METRICS, "CPU-s", "shares of ΔW")
    lines = [
        (
            run.strategy, run.seed, *(_number(run.figures(arm).get(name)) for name in METRICS),
            run.cost["cpu_s"], " ".join(f"{a:g}" for a in run.cost["shares"]),
        )
        for run in runs
    ]  # fmt: skip
    return table(columns, lines)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"


def falls_short(runs: Sequence[Learned], reached: Reached) -> list[str]:
    """Where an aim was missed, or naive tuning did not forget: then nothing is shown."""
    short: list[str] = []
    held = by_strategy(runs)
    if rehearsed := held.get("balanced"):
        found = reached["balanced"]
        short += [
            f"{name} {found[name].value:.3f} < {aim}"
            for name, aim in AIMS.items()
            if found[name].value < aim
        ]
        for run in rehearsed:
            for name, unit, most in (
                ("cpu_s", "CPU-s", MOST_CPU_S),
                ("peak_rss_mb", "MB", MOST_MB),
            ):
                if run.cost[name] > most:
                    short.append(f"seed {run.seed}: {run.cost[name]} {unit} > {most}")
    if "naive" in held:
        bwt = reached["naive"]["BWT"].value
        if bwt > -0.5:
            short.append(f"naive tuning forgot too little: BWT {bwt:.3f}")
    return short


def draw(runs: Sequence[Learned], reached: Mapping[Arm, Reached], folder: Path = FOLDER) -> None:
    """Heat maps of naive and rehearsed, the mean of all worlds, and all strategies in one."""
    from training.plots import draw_matrix

    held = by_strategy(runs)
    for strategy in ("naive", "balanced"):
        for arm in ARMS if strategy in held else ():
            rows = np.array([run.matrix(arm).rows for run in held[strategy]], float).mean(axis=0)
            eras = held[strategy][0].cohorts
            draw_matrix(eras, rows.tolist(), folder / f"loop-{strategy}-{arm}.png")
    _draw_strategies(reached, folder / "loop-strategies.png")


def _draw_strategies(reached: Mapping[Arm, Reached], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(reached["closed_book"])[::-1]
    figure = Figure(figsize=(10, 1.4 + 0.34 * len(names)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    drawn: tuple[tuple[Arm, str, float], ...] = (
        ("closed_book", "#1b5e8c", 0.12),
        ("retrieval", "#c8761d", -0.12),
    )
    for axes, metric in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        for y, strategy in enumerate(names):
            for arm, colour, shift in drawn:
                if found := reached[arm][strategy].get(metric):
                    axes.plot([found.low, found.high], [y + shift] * 2, color=colour, lw=1.6)
                    axes.plot(found.value, y + shift, "o", color=colour, ms=5)
        axes.axvline(AIMS[metric], color="#777777", lw=0.8, ls=":")
        axes.set_title(metric, fontsize=10)
        axes.set_xlim(-1.02 if metric == "BWT" else -0.02, 0.05 if metric == "BWT" else 1.02)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#e6e6e6")
    figure.suptitle(
        "blue: closed book; orange: with retrieval; dotted: aim, closed book", fontsize=9
    )
    figure.savefig(path, format="png")
