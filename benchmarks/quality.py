"""Retrieval quality through the HTTP API on public tasks, beside BM25, MiniLM and their fusion.

    python -m benchmarks.quality

Runs `../shared/bench/retrieval.py`, which starts the service, fills it and asks it from outside,
and computes the three baselines in the same run. Without `../shared` it says so and does nothing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import results

SHARED = Path(__file__).parents[2] / "shared"
SCRIPT = SHARED / "bench" / "retrieval.py"
TASKS = SHARED / "data" / "dev" / "tasks"
ARMS = ("served", "bm25", "minilm", "rrf")


def main() -> int:
    """The exit code of the measuring script: 1 when a task falls short of its best baseline."""
    if not SCRIPT.exists():
        print(f"skipped: {SCRIPT} is not there, so there are no tasks to measure on")
        return 0
    out = results.FOLDER / "quality-raw.json"
    results.FOLDER.mkdir(exist_ok=True)
    command = Path(sys.executable).parent / "scarwise"
    environment = {
        **os.environ,
        "SCARWISE_RETRIEVAL_MODELS": str(Path(__file__).parent / ".cache" / "models"),
        "SCARWISE_SERVE_LOG": "warning",
    }
    done = subprocess.run(
        [sys.executable, SCRIPT, "--tasks", TASKS, "--command", str(command), "--json", out],
        env=environment, check=False,
    )  # fmt: skip
    tasks = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    results.keep("quality", "python -m benchmarks.quality", {"tasks": tasks})
    print("\n" + results.table(("task", *ARMS, "served - best", "holds"), [_row(t) for t in tasks]))
    return done.returncode


def _row(task: dict[str, Any]) -> list[str]:
    gain, low, high = task["served_minus_best_ndcg@10"]
    means = [f"{task['scores'][arm]['ndcg@10'][0]:.3f}" for arm in ARMS]
    against = f"{gain:+.3f} [{low:+.3f}, {high:+.3f}] vs {task['best_baseline']}"
    return [task["task"], *means, against, "yes" if task["holds"] else "NO"]


if __name__ == "__main__":
    sys.exit(main())
