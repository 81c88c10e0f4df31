"""Every benchmark, one after another: `python -m benchmarks [STEP ...]`, or `make bench`.

Cut off, the next call goes on with the step that was not finished; `--again` starts at the first.
Each step shows its own progress and keeps its figures as JSON in benchmarks/results; the tables
that it printed, its plots and what it cost are put together in benchmarks/results/README.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, page

STEPS = {
    "quality": "Does search find the right precedent?",
    "speed": "How fast, and in how much memory?",
    "redaction": "Are secrets found, and is nothing else touched?",
    "embedding": "Is the fast embedder the same embedder?",
    "backtest": "What would it have said, on each past incident?",
    "loop": "Does it learn, and does it forget?",
    "gate": "Does the gate tell?",
    "power": "What do its bounds on one cohort let pass?",
    "streams": "And on real incidents?",
    "throughput": "What does training cost beside a bare loop?",
    "footprint": "How much memory and time does a large model take?",
    "swap": "Are models swapped without a failed answer?",
    "kills": "Is a killed turn finished, once?",
    "outages": "And one that loses its database, its disk or its clock?",
}
STATE = Path(__file__).parent / ".cache" / "bench.json"


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    words.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    words.add_argument("--again", action="store_true", help="forget what was finished")
    asked = words.parse_args()
    if unknown := set(asked.steps) - set(STEPS):
        words.error(f"there is no {', '.join(sorted(unknown))}; the steps are {', '.join(STEPS)}")
    told: dict[str, Any] = {} if asked.again or not STATE.exists() else _read(STATE)
    wanted = [step for step in STEPS if step in asked.steps or not asked.steps]
    if not asked.steps and all(_is_finished(told, step) for step in wanted):
        told = {}
    for n, step in enumerate(wanted, 1):
        print(f"\n== {n} of {len(wanted)}: {step}. {STEPS[step]}", flush=True)
        if not asked.steps and _is_finished(told, step):
            print("finished already; --again to measure it anew")
            continue
        told[step] = ran(step)
        STATE.parent.mkdir(exist_ok=True)
        STATE.write_text(json.dumps(told, indent=1), encoding="utf-8")
        page(STEPS, told)
    short = [step for step in wanted if told[step]["code"]]
    print("\n" + (f"fell short or failed: {', '.join(short)}" if short else "all held"))
    print(f"tables and plots: {FOLDER / 'README.md'}")
    sys.exit(bool(short))


def ran(step: str) -> dict[str, Any]:
    """The step's exit code, the tables that it printed, and what it cost; all output is shown."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = []
    command = [sys.executable, "-u", "-m", f"benchmarks.{step}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout
        for line in running.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "code": running.returncode,
        "tables": tables(lines),
        "wall_s": round(time.monotonic() - began),
        "cpu_s": round(spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime),
    }


def tables(lines: Sequence[str]) -> list[str]:
    """The Markdown tables among these lines, each under the line before it, if there is one."""
    found: list[list[str]] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("|"):
            continue
        if not before.startswith("|"):
            found.append([before, ""] if before.strip() else [])
        found[-1].append(line)
    return ["\n".join(held) for held in found]


def _is_finished(told: dict[str, Any], step: str) -> bool:
    # Below 0 and from 128 on: ended by a signal, itself or what it ran.
    return step in told and 0 <= told[step]["code"] < 128


def _read(path: Path) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


if __name__ == "__main__":
    main()
