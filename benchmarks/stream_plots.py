"""Pictures of the streams: what was known after each era, and every arm's end with its interval."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.results import FOLDER
from benchmarks.stream_table import COPY
from training.plots import draw_matrix

DRAWN = ("naive", "balanced 12", "balanced 12 + neighbours", COPY)


def draw(stream: str, eras: Sequence[str], lines: Sequence[Mapping[str, Any]]) -> None:
    """The heat maps of a few arms, and the ends of all of them."""
    for line in lines:
        if line["arm"] in DRAWN:
            name = "-".join("".join(c if c.isalnum() else " " for c in line["arm"]).split())
            draw_matrix(
                [f"era {n}" for n in range(1, len(eras) + 1)],
                [row[1:] for row in line["rows"][1:]],
                FOLDER / f"streams-{stream}-{name}.png",
                title=f"{stream}: {line['arm']}",
            )
    _ends(stream, lines)


def _ends(stream: str, lines: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.28 * len(lines)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ordered = sorted(lines, key=lambda line: line["ACC"])
    for y, line in enumerate(ordered):
        learned = line["cpu_s"] is not None
        colour, mark = ("#0072B2", "o") if learned else ("#D55E00", "s")
        axes.plot([line["low"], line["high"]], [y, y], color=colour, linewidth=2)
        axes.plot(line["ACC"], y, mark, color=colour, markersize=7)
        axes.text(line["high"] + 0.012, y, f"{line['ACC']:.2f}", va="center", fontsize=9)
    served = next(line for line in lines if line["arm"] == COPY)
    axes.axvline(served["ACC"], color="#5f6368", linestyle=":", linewidth=1.5)
    axes.set_yticks(range(len(ordered)), [line["arm"] for line in ordered], fontsize=9)
    axes.set_xlim(0, 1.08)
    axes.set_xlabel("share right after the last era, 95 %; dotted: copying")
    axes.set_title(f"{stream}: adapters (●) and what needs none (■)", loc="left", fontsize=12)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FOLDER / f"streams-{stream}.png", format="png")
