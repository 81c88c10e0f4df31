"""Is a killed turn finished by the next one, once: a turn killed at each of its points.

    python -m benchmarks.kills [--home DIR]

A small world is learned in a process that kills itself (SIGKILL) at one point; then the next turn
runs to its end. Each point begins with a data folder of its own. What a turn does must be in the
audit trail exactly once, and the champion whole at every moment. Fails when anything is not.
"""

import argparse
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import results
from tests import killed, learned


def drilled(home: Path, bases: Path, point: str) -> dict[str, Any]:
    """What was found after the kill at this point, and after the next turn."""
    found = learned.home(home, bases)
    died = killed.run(found, bases, point) == -signal.SIGKILL
    between = killed.standing(found)
    began = time.monotonic()
    finished = killed.run(found, bases) == 0
    after = killed.standing(found)
    return {
        "point": point,
        "killed": died,
        "left after": between.step,
        "champion then": between.champion,
        "finished": finished,
        "finished_in_s": round(time.monotonic() - began, 1),
        "models": after.models,
        "champion": after.champion,
        "acts": {act: after.acts.get(act, 0) for act in killed.ACTS},
        "held": died and finished and between.is_whole and after.is_whole and after.is_done_once,
    }


def in_a_row(home: Path, bases: Path) -> dict[str, Any]:
    """One turn that is killed at every point, one after the other, before it may end."""
    found = learned.home(home, bases)
    died, whole = True, True
    for point in killed.POINTS:
        died &= killed.run(found, bases, point) == -signal.SIGKILL
        whole &= killed.standing(found).is_whole
    between = killed.standing(found)
    began = time.monotonic()
    finished = killed.run(found, bases) == 0
    after = killed.standing(found)
    return {
        "point": "all, in a row",
        "killed": died,
        "left after": between.step,
        "champion then": "whole each time" if whole else "broken",
        "finished": finished,
        "finished_in_s": round(time.monotonic() - began, 1),
        "models": after.models,
        "champion": after.champion,
        "acts": {act: after.acts.get(act, 0) for act in killed.ACTS},
        "held": died and whole and finished and after.is_whole and after.is_done_once,
    }


def shown(found: list[dict[str, Any]]) -> str:
    columns = ("killed at", "journal said", "champion then", "next turn", "models", "champion",
               "rows of each act")  # fmt: skip
    rows = [
        (
            f["point"], f["left after"], f["champion then"],
            f"finished in {f['finished_in_s']:.0f} s" if f["finished"] else "did not finish",
            f["models"], f["champion"], " ".join(map(str, f["acts"].values())),
        )
        for f in found
    ]  # fmt: skip
    return results.table(columns, rows)


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--home", type=Path, help="else a temporary folder")
    asked = words.parse_args()
    place = asked.home or Path(tempfile.mkdtemp(prefix="scarwise-kills-"))
    bases, found = place / "bases", []
    try:
        learned.made(bases)
        for point in killed.POINTS:
            found.append(drilled(place / point, bases, point))
            print(f"{point}: {'held' if found[-1]['held'] else found[-1]}", flush=True)
        found.append(in_a_row(place / "all", bases))
    finally:
        if asked.home is None:
            shutil.rmtree(place)
    results.keep("kills", "python -m benchmarks.kills", {"points": found})
    print(shown(found))
    if not all(f["held"] for f in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
