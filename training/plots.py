"""Pictures of a training and of what it did: each drawn from plain numbers into one PNG.

800 pixels wide and legible at that. Colours are those of Okabe and Ito, which colour-blind people
tell apart, and every line is named where it ends, so none rests on its colour alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Score = float | None

_INK, _QUIET, _GRID = "#1a1a1a", "#5f6368", "#dddddd"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#4D4D4D")
_TONES = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#8C8C8C")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_DPI = 100
_WIDE = 8.0  # inches
_CROWDED = 16  # bars, beyond which their numbers stand upright
_NEAR = 0.045  # of the axis: names closer than this would overlap


class Bar(NamedTuple):
    """The share right of one arm on one cohort, with its interval; None where nothing was asked."""

    cohort: str
    arm: str
    share: Score
    low: Score
    high: Score


class Share(NamedTuple):
    """What one share alpha of the new ΔW scores on the new era and on what is to be kept."""

    alpha: float
    new: Score
    kept: Score


def draw_matrix(
    eras: Sequence[str],
    rows: Sequence[Sequence[Score]],
    path: Path,
    *,
    title: str = "",
    models: Sequence[str] = (),
) -> Path:
    """The forgetting matrix as a heat map: `rows[i][j]` the score on era j after era i.

    With `models`, rows are those of these models, however many there are.
    """
    figure, axes = _canvas(title or "What was known after each era", 1.6 + 0.75 * len(rows))
    image = axes.imshow(
        [[float("nan") if s is None else s for s in row] for row in rows],
        vmin=0, vmax=1, cmap="cividis", aspect="auto",
    )  # fmt: skip
    for i, row in enumerate(rows):
        for j, score in enumerate(row):
            said = "–" if score is None else f"{score:.2f}"
            # Cividis turns lighter than mid-grey at 0.55.
            dark = score is None or score > 0.55
            weight = "bold" if i == j and not models else "normal"
            axes.text(j, i, said, ha="center", va="center", fontsize=13, fontweight=weight,
                      color=_INK if dark else "white")  # fmt: skip
    axes.set_xticks(range(len(eras)), eras)
    axes.set_yticks(range(len(rows)), models or [f"after {era}" for era in eras])
    axes.set_xlabel("asked about")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("share right", color=_QUIET)
    bar.outline.set_visible(False)
    return _saved(figure, path)


def draw_retention(
    eras: Sequence[str], rows: Sequence[Sequence[Score]], path: Path, *, title: str = ""
) -> Path:
    """How well each era is known from when it was learned on; a falling line is forgetting."""
    figure, axes = _canvas(title or "What became of each era", 4.6)
    ends = []
    for j, era in enumerate(eras):
        points = [(i, s) for i, row in enumerate(rows) if i >= j and (s := row[j]) is not None]
        if not points:
            continue
        _line(axes, points, j)
        ends.append((*points[-1], era, j))
    _name_ends(axes, ends)
    axes.set_xticks(range(len(rows)), [f"after {era}" for era in eras])
    axes.set_xlim(-0.2, len(rows) - 1 + 0.75)
    _shares(axes)
    return _saved(figure, path)


def draw_training(curve: Sequence[Mapping[str, Any]], path: Path, *, title: str = "") -> Path:
    """The loss over the steps, and below it how many tokens a second went through."""
    figure, (above, below) = _canvases(title or "Training", 5.2, (3, 1))
    steps = [float(p["step"]) for p in curve]
    for axes, name, words in ((above, "loss", "loss"), (below, "tokens_per_s", "tokens/s")):
        values = [float(p.get(name, "nan")) for p in curve]
        axes.plot(steps, values, color=_COLOURS[0], linewidth=2)
        axes.set_ylabel(words)
        axes.set_ylim(bottom=0)
        if values:
            axes.annotate(f"{values[-1]:,.3g}" if name == "loss" else f"{values[-1]:,.0f}",
                          (steps[-1], values[-1]), xytext=(6, 0), textcoords="offset points",
                          va="center", color=_COLOURS[0], fontweight="bold")  # fmt: skip
    above.sharex(below)
    above.tick_params(labelbottom=False)
    below.set_xlabel("step")
    below.margins(x=0.02)
    return _saved(figure, path)


def draw_arms(bars: Sequence[Bar], path: Path, *, title: str = "") -> Path:
    """The arms side by side on each cohort, with their intervals."""
    cohorts = list(dict.fromkeys(b.cohort for b in bars))
    arms = list(dict.fromkeys(b.arm for b in bars))
    figure, axes = _canvas(title or "The arms", 4.8)
    width = 0.84 / max(1, len(arms))
    for k, arm in enumerate(arms):
        for bar in (b for b in bars if b.arm == arm):
            x = cohorts.index(bar.cohort) + (k - (len(arms) - 1) / 2) * width
            _bar(axes, x, width, k, bar, crowded=len(bars) > _CROWDED)
        axes.bar(0, 0, label=arm, **_fill(k))
    axes.set_xticks(range(len(cohorts)), cohorts)
    axes.tick_params(axis="x", length=0)
    _shares(axes)
    axes.set_ylim(0, 1.18 if len(bars) > _CROWDED else 1.1)
    if arms:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=5, frameon=False)
    return _saved(figure, path)


def draw_sweep(
    shares: Sequence[Share], path: Path, *, chosen: float | None = None, title: str = ""
) -> Path:
    """What each share of the new ΔW gains and keeps, and which one was chosen."""
    figure, axes = _canvas(title or "How much of the new to take", 4.4)
    shares = sorted(shares)
    ends = []
    for j, (name, words) in enumerate((("new", "new era"), ("kept", "kept eras"))):
        points = [(s.alpha, v) for s in shares if (v := getattr(s, name)) is not None]
        if points:
            _line(axes, points, j)
            ends.append((*points[-1], words, j))
    _name_ends(axes, ends)
    if chosen is not None:
        axes.axvline(chosen, color=_QUIET, linewidth=1.5, linestyle=":")
        axes.annotate(f"chosen: {chosen:g}", (chosen, 0.03), xytext=(-6, 0), ha="right",
                      textcoords="offset points", color=_QUIET)  # fmt: skip
    alphas = [s.alpha for s in shares]
    axes.set_xticks(alphas, [f"{a:g}" for a in alphas])
    axes.set_xlabel("α, share of the new ΔW")
    if alphas:
        span = (alphas[-1] - alphas[0]) or 1.0
        axes.set_xlim(alphas[0] - 0.05 * span, alphas[-1] + 0.24 * span)
    _shares(axes)
    return _saved(figure, path)


def _canvas(title: str, height: float) -> "tuple[Figure, Axes]":
    figure, [axes] = _canvases(title, height, (1,))
    return figure, axes


def _canvases(title: str, height: float, ratios: Sequence[int]) -> "tuple[Figure, list[Axes]]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold", color=_INK)
    grid = figure.add_gridspec(len(ratios), 1, height_ratios=list(ratios))
    found = [figure.add_subplot(grid[n]) for n in range(len(ratios))]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[:].set_color(_QUIET)
        axes.tick_params(colors=_INK, labelsize=11)
        axes.set_axisbelow(True)
    return figure, found


def _line(axes: "Axes", points: Sequence[tuple[float, float]], j: int) -> None:
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        color=_COLOURS[j % 7],
        marker=_MARKS[j % 7],
        markersize=7,
        linewidth=2,
        clip_on=False,
    )


def _name_ends(axes: "Axes", ends: Sequence[tuple[float, float, str, int]]) -> None:
    """Write each line's name and last score beside its end, moved apart where they would meet."""
    ends = sorted(ends, key=lambda e: e[1])
    right = max((x for x, *_ in ends), default=0.0)
    for (_, y, name, j), height in zip(ends, _apart([y for _, y, *_ in ends]), strict=True):
        axes.annotate(
            f"{name}  {y:.2f}", (right, height), xytext=(12, 0), textcoords="offset points",
            color=_COLOURS[j % 7], fontsize=11, fontweight="bold", va="center",
        )  # fmt: skip


def _apart(heights: Sequence[float]) -> list[float]:
    """These heights, ascending, at least a line of text from each other and around where they were.

    The mean of what pushing up from the lowest and pushing down from the highest would give.
    """
    up, down = list(heights), list(heights)
    for n in range(1, len(heights)):
        up[n] = max(up[n], up[n - 1] + _NEAR)
        down[-1 - n] = min(down[-1 - n], down[-n] - _NEAR)
    places, floor = [], _NEAR / 2  # a name on the axis would be crossed out by it
    for u, d in zip(up, down, strict=True):
        places.append(max((u + d) / 2, floor))
        floor = places[-1] + _NEAR
    return places


def _bar(axes: "Axes", x: float, width: float, k: int, bar: Bar, crowded: bool) -> None:
    if bar.share is None:
        axes.text(x, 0.015, "–", ha="center", va="bottom", fontsize=9, color=_QUIET)
        return
    axes.bar(x, bar.share, width * 0.94, **_fill(k))
    top = bar.share
    if bar.low is not None and bar.high is not None:
        top = bar.high
        # Of a share of 0 or 1 the bound may lie a rounding beyond it.
        spread = [[max(0.0, bar.share - bar.low)], [max(0.0, bar.high - bar.share)]]
        axes.errorbar(x, bar.share, yerr=spread, color=_INK, capsize=3, linewidth=1.2)
    axes.text(x, top + 0.015, f"{bar.share:.2f}", ha="center", va="bottom", fontsize=9,
              color=_INK, rotation=90 if crowded else 0)  # fmt: skip


def _fill(k: int) -> dict[str, Any]:
    """Two tones a model, and stripes on every other arm: different in grey print too."""
    return {"color": _TONES[k % len(_TONES)], "hatch": "" if k % 2 else "//", "edgecolor": "white"}


def _shares(axes: "Axes") -> None:
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.set_ylabel("share right")
    axes.grid(axis="y", color=_GRID)


def _saved(figure: "Figure", path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path
