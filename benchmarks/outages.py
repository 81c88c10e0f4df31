"""Does a turn survive what it stands on: stopped, without its database, without room, the clock set
back?

    python -m benchmarks.outages [--home DIR]

A small world is learned once; then the same turn is taken again in data folders of their own, and
at each of its points something fails: SIGTERM; PostgreSQL killed and started again; a disk (a real
one, of some MB, which takes root) that fills; a clock that goes back three days. Each time the
turn must end with one sentence that says so, and the next one goes on; in the end what a turn does
must be in the audit trail exactly once. Fails when anything is not.
"""

import argparse
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from benchmarks import results
from ingest.errors import StoreFull, StoreUnreachable, Unavailable
from ingest.store import utcnow
from serving.outcome import TERMINATED
from serving.settings import Settings
from serving.turn import Telling
from tests import killed, learned, postgres
from training import base

STEPS = ("frozen", "exported", "trained", "registered", "judged", "promoted")
ROOM_KB = 64  # what is free at first, and what is freed after each time that it was full
DISK = "size=256m"
_PLACE = re.compile(r"\S*(?:/|%2F)\S*")  # this machine's folders are nobody's business
PROMOTE = {"TRAINING_AUTO_PROMOTE": "true"}


def stopped(home: Path, bases: Path, first: Settings) -> dict[str, Any]:
    """SIGTERM at every point, one after the other, each in a process of its own."""
    found, whole = learned.home(home, bases, **PROMOTE), True
    codes = []
    for point in killed.POINTS:
        codes.append(killed.run(found, bases, point, signal.SIGTERM))
        whole &= killed.standing(found).is_whole
    right = set(codes) == {TERMINATED} and killed.run(found, bases) == 0
    return _row("SIGTERM", len(codes), whole and right, found, [f"exit code {codes[0]}"])


def unconnected(home: Path, bases: Path, first: Settings) -> dict[str, Any]:
    """PostgreSQL killed after every step, and started again."""
    with postgres.running() as server:
        url = server.url.render_as_string(hide_password=False)
        found = _anew(home, bases, first, STORE_URL=url)
        said, whole = [], True
        for step in STEPS:
            telling = Telling(done=_once(step, server.stop))
            said.append(_failed(found, telling, StoreUnreachable))
            server.start()
            whole &= killed.standing(found).is_whole
        ended = learned.turn(found, rules=learned.EASY)
        whole &= None not in said and ended.outcome == "promoted"
        return _row("PostgreSQL killed", len(said), whole, found, said)


def full(home: Path, bases: Path, first: Settings) -> dict[str, Any]:
    """A disk that is full, again and again, with a little more room each time."""
    with _small_disk(home) as disk:
        found = _anew(disk / "home", bases, first)
        for answered in found.evals.glob("diag-*/*.jsonl"):
            answered.unlink()  # so that it asks, and has something to write
        room, said, whole = shutil.disk_usage(disk).used // 1024 + ROOM_KB, list[str | None](), True
        while killed.standing(found).outcomes != ("promoted",):
            _resize(disk, f"size={room}k")
            said.append(_failed(found, Telling(), StoreFull))
            _resize(disk, DISK)
            whole &= killed.standing(found).is_whole
            room += ROOM_KB
        whole &= said[-1] is None and None not in said[:-1]
        return _row("no room left", len(said) - 1, whole, found, said)


def turned_back(home: Path, bases: Path, first: Settings) -> dict[str, Any]:
    """A clock that goes back three days at every step."""
    found, now = _anew(home, bases, first), [utcnow()]

    def back(step: str) -> None:
        now[0] -= timedelta(days=3)

    ended = learned.turn(
        found, rules=learned.EASY, telling=Telling(done=back), clock=lambda: now[0]
    )
    return _row("clock set back", len(STEPS), ended.outcome == "promoted", found, [])


DRILLS = (stopped, unconnected, full, turned_back)


def _anew(home: Path, bases: Path, first: Settings, **instead: str) -> Settings:
    """A data folder before its turn, in which what costs minutes lies done already."""
    found = learned.home(home, bases, **PROMOTE, **instead)
    for folder in ("runs", "evals"):
        shutil.copytree(first.home / folder, found.home / folder)
    return found


def _failed(found: Settings, telling: Telling, kind: type[Unavailable]) -> str | None:
    """What a turn that fails so says; None when it ended well."""
    try:
        learned.turn(found, rules=learned.EASY, telling=telling)
    except kind as error:
        return _PLACE.sub("...", str(error))
    return None


def _once(step: str, act: Callable[[], None]) -> Callable[[str], None]:
    return lambda done: act() if done == step else None


def _row(
    what: str, times: int, held: bool, found: Settings, said: list[str | None]
) -> dict[str, Any]:
    after = killed.standing(found)
    return {
        "what": what,
        "times": times,
        "said": next((words for words in said if words), ""),
        "champion": after.champion,
        "acts": {act: after.acts.get(act, 0) for act in killed.ACTS},
        "held": held and after.is_whole and after.is_done_once,
    }


@contextmanager
def _small_disk(place: Path) -> Iterator[Path]:
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _resize(disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{size}", str(disk)], check=True)


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        try:
            with _small_disk(Path(place) / "disk"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def _missing(drill: Callable[..., dict[str, Any]]) -> str | None:
    """What this machine lacks for this drill."""
    if drill is unconnected and postgres.programs() is None:
        return "PostgreSQL is not installed"
    return "mounting takes root" if drill is full and not _can_mount() else None


def _shown(found: list[dict[str, Any]]) -> str:
    columns = ("what failed", "times", "what it said", "champion", "rows of each act", "held")
    rows = [
        (f["what"], f["times"], f["said"][:90], f["champion"],
         " ".join(map(str, f["acts"].values())), "yes" if f["held"] else "NO")
        for f in found
    ]  # fmt: skip
    return results.table(columns, rows)


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    words.add_argument("--home", type=Path, help="else a temporary folder; what was learned stays")
    asked = words.parse_args()
    place = asked.home or Path(tempfile.mkdtemp(prefix="scarwise-outages-"))
    bases, found = place / "bases", []
    try:
        if not base.named(bases).exists():
            learned.made(bases)
        if not (place / "first").exists():
            learned.turn(learned.home(place / "first", bases), rules=learned.EASY)
        first = learned.settings(place / "first", bases)
        for drill in DRILLS:
            if lacks := _missing(drill):
                print(f"{drill.__name__}: skipped, {lacks}", flush=True)
                continue
            home = place / drill.__name__
            shutil.rmtree(home, ignore_errors=True)
            found.append(drill(home, bases, first))
            print(f"{drill.__name__}: {'held' if found[-1]['held'] else found[-1]}", flush=True)
    finally:
        if asked.home is None:
            shutil.rmtree(place)
    results.keep("outages", "python -m benchmarks.outages", {"drills": found})
    print(_shown(found))
    if not all(f["held"] for f in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
