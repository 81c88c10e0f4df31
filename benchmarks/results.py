"""Results kept as JSON, and printed as the tables that the README quotes."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def keep(name: str, command: str, figures: Mapping[str, Any]) -> Path:
    """Write the figures with the command and the machine that made them."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    document = {
        "command": command,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cores": os.cpu_count(),
            "arch": platform.machine(),
            "python": platform.python_version(),
        },
        **figures,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def page(titles: Mapping[str, str], told: Mapping[str, Mapping[str, Any]]) -> Path:
    """One page of every step that was run: its command, its tables, its plots, what it cost."""
    lines = [
        "# What was measured",
        "",
        "Made by `python -m benchmarks`; the figures are beside it.",
    ]
    for step in (s for s in titles if s in told):
        found = told[step]
        kept = FOLDER / f"{step}.json"
        made = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        by = f"`{made['command']}`, {made['at'][:10]}: " if made else ""
        verdict = "all held" if not found["code"] else "fell short"
        lines += ["", f"## {titles[step]}", ""]
        lines += [f"{by}{verdict}; {found['wall_s']} s, {found['cpu_s']} CPU-s.", ""]
        lines += [line for table in found["tables"] for line in (table, "")]
        plots = sorted(FOLDER.glob(f"{step}*.png"))
        lines += [f"![{plot.stem.replace('-', ' ')}]({plot.name})" for plot in plots]
    path = FOLDER / "README.md"
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return path
