"""Pictures of one turn: how it trained, which share it took, what it reached, what became of each
era. They lie beside the figures, and MLflow shows them as artifacts."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.compare import SliceScore
from eval.examination import ARMS, Examined
from training.folders import in_our_words
from training.plots import (
    Bar,
    Share,
    draw_arms,
    draw_matrix,
    draw_retention,
    draw_sweep,
    draw_training,
)

_ARMS = ("base", "base_retrieval", "adapter", "adapter_retrieval", "copied")


def draw(run: Path, examined: Examined, history: Sequence[Sequence[SliceScore]]) -> None:
    """All pictures of a finished run and of its examination.

    `history` holds the slices of the base, of every model promoted since, and of this one last:
    the rows of the forgetting matrix, which is kept as `matrix.json` too.
    """
    with in_our_words(run):
        _of_run(run)
        draw_arms(_bars(examined.report), examined.folder / "arms.png")
        told = {arm: _matrix(history, arm) for arm in ARMS}
        (examined.folder / "matrix.json").write_text(json.dumps(told, indent=1) + "\n")
        for arm, matrix in told.items():
            title = f"What was known after each model, {arm.replace('_', ' ')}"
            eras, rows = matrix["eras"], matrix["rows"]
            place = examined.folder / f"matrix-{arm}.png"
            draw_matrix(eras, rows, place, title=title, models=matrix["models"])
            if 1 < len(eras) == len(rows):  # one model an era: then each has its own line
                draw_retention(eras, rows, examined.folder / f"retention-{arm}.png", title=title)


def _of_run(run: Path) -> None:
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    if curve:
        draw_training(curve, run / "training.png")
    sweep = json.loads((run / "sweep.json").read_text())
    if len(sweep) > 1:
        shares = [Share(s["alpha"], s["new"], s["kept"]) for s in sweep]
        draw_sweep(shares, run / "sweep.png", chosen=sweep[0]["alpha"])


def _bars(report: Mapping[str, Any]) -> list[Bar]:
    """The arms of each cohort that the report compares; none where it could not."""
    bars = []
    for row in report["arms"] or []:
        for arm in _ARMS:
            cell = row[arm]
            if cell:
                interval = cell["interval"]
                name = arm.replace("_", " + ")
                bars.append(
                    Bar(row["cohort"], name, cell["share"], interval["low"], interval["high"])
                )
    return bars


def _matrix(history: Sequence[Sequence[SliceScore]], arm: str) -> dict[str, Any]:
    """Rows are models in the order in which they were served, columns the eras of the suite."""
    known = [{s.cohort: s.share for s in slices if s.arm == arm} for slices in history]
    eras = sorted(
        {cohort for row in known for cohort in row if cohort.startswith("era ")},
        key=lambda cohort: int(cohort.removeprefix("era ")),
    )
    return {
        "models": [slices[0].model if slices else "-" for slices in history],
        "eras": eras,
        "rows": [[row.get(era) for era in eras] for row in known],
    }
