"""A replayed history of thousands of public incidents: what it takes, and what it says.

    python -m benchmarks.backtest [--label issre:layer-3] [--since 2015-01-01] [--limit N]

Takes `../shared/data/dev/incidents.jsonl` in, runs `scarwise backtest` on it without a model, and
opens the page in a browser without a network. The store is kept in `benchmarks/.cache`: filled
once, gone on with when cut off. What filling it took is measured then, over all sittings, and told
with its date ever after; of a store that was not filled here it is not told. Figures go to
benchmarks/results/backtest.json, the page's picture beside it; with `--limit`, which takes the
first incidents only, nowhere. Without `../shared` it says so and does nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks import corpus, results
from ingest.importer import Found, read
from ingest.incident import Incident
from serving.service import Progress, Service
from serving.settings import load
from tests import chromium

CACHE = Path(__file__).parent / ".cache"
SCARWISE = Path(sys.executable).parent / "scarwise"
MOST_MINUTES = 15  # for 3,000 incidents on two cores
MOST_MB = 5  # the page
AT_ONCE = 200  # incidents in one transaction


@dataclass(frozen=True, slots=True)
class Filled:
    """A store with so many public incidents in it, embedded; what that took, None where it was not
    measured."""

    incidents: int
    cpu_s: float | None = None
    wall_s: int | None = None
    sittings: int | None = None
    at: str | None = None


class Spent:
    """What is spent from now on, added to what earlier sittings noted; killed, what came after the
    last note is not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = {"stored": 0, "cpu_s": 0.0, "wall_s": 0.0, "sittings": 0}
        if path.exists():
            self._before |= json.loads(path.read_text())
        self.stored = int(self._before["stored"])
        self._began, self._cpu = time.monotonic(), time.process_time()

    @property
    def told(self) -> dict[str, Any]:
        return {
            "stored": self.stored,
            "cpu_s": round(self._before["cpu_s"] + time.process_time() - self._cpu, 1),
            "wall_s": round(self._before["wall_s"] + time.monotonic() - self._began),
            "sittings": int(self._before["sittings"]) + 1,
        }

    def note(self) -> None:
        self._path.write_text(json.dumps(self.told))


def home_of(limit: int | None) -> Path:
    return CACHE / (f"backtest-{limit}" if limit else "backtest")


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SCARWISE_HOME": str(home),
        "SCARWISE_RETRIEVAL_MODELS": str(CACHE / "models"),
        "SCARWISE_SERVE_LOG": "warning",
        "OMP_NUM_THREADS": "1",
    }


def filled(home: Path, limit: int | None) -> Filled:
    """The data folder with the public incidents in it, embedded: made, or gone on with, or kept."""
    done, going = home / "complete.json", home / "filling.json"
    if done.exists():
        kept = json.loads(done.read_text())
        # What has no date was not measured by this.
        return Filled(**kept) if "at" in kept else Filled(kept["incidents"])
    home.mkdir(parents=True, exist_ok=True)
    is_ours = going.exists() or not (home / "scarwise.db").exists()
    spent = Spent(going)
    batch = list(islice(_incidents(), limit))
    _fill(home, batch, spent)
    told = Filled(len(batch))
    if is_ours:
        cost = {name: value for name, value in spent.told.items() if name != "stored"}
        told = Filled(len(batch), **cost, at=datetime.now(UTC).isoformat(timespec="seconds"))
    done.write_text(json.dumps(asdict(told)))
    return told


def _incidents() -> Iterator[Incident]:
    place = corpus.REAL
    found = read(Found(place, "archive", place.stat().st_size, place.name))
    return (record for record in found if isinstance(record, Incident))


def _fill(home: Path, batch: list[Incident], spent: Spent) -> None:
    spent.note()
    service = Service.open(load(environment(home)))

    def shown(progress: Progress) -> None:
        if progress.done % 128 == 0:
            spent.note()
            words = f"{progress.step} {progress.done} of {progress.total}"
            print(words, file=sys.stderr, flush=True)

    try:
        for at in range(spent.stored, len(batch), AT_ONCE):
            service.store.put(batch[at : at + AT_ONCE], actor="benchmark")
            spent.stored = min(at + AT_ONCE, len(batch))
            spent.note()
        service.warm()
        service.embed_all(shown)
    finally:
        service.close()


def replayed(
    home: Path, label: str, since: str, page: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the command says as JSON, and what it took."""
    command = [str(SCARWISE), "backtest", "--since", since, "--family-label", label]
    command += ["--out", str(page), "--json"]
    began = time.monotonic()
    with subprocess.Popen(command, env=environment(home), stdout=subprocess.PIPE, text=True) as ran:
        assert ran.stdout
        said = ran.stdout.read()
        _, status, spent = os.wait4(ran.pid, 0)
        ran.returncode = os.waitstatus_to_exitcode(status)
    if ran.returncode:
        sys.exit(f"scarwise backtest ended with {ran.returncode}")
    cost = {
        "cpu_s": round(spent.ru_utime + spent.ru_stime, 1),
        "wall_s": round(time.monotonic() - began),
        "peak_rss_mb": spent.ru_maxrss // 1024,
        "page_kb": page.stat().st_size // 1024,
    }
    return json.loads(said), cost


def key_figures(told: Mapping[str, Any]) -> dict[str, Any]:
    """Without the incidents' texts, which are not ours to keep."""
    recall = {
        f"{r['rule']}, {r['arm']}": {"n": r["n"], "at": _rounded(r["at"]), "mrr": _cut(r["mrr"])}
        for r in told["recall"]
    }
    names = ("accuracy", "trust", "abstained", "missed", "coverage")
    answers = {name: _cut(told["answers"][name]) for name in names}
    outcomes = {k: told["answers"][k] for k in ("seen", "novel", "recurring", "unscored")}
    kept = {k: told[k] for k in ("n", "first", "last", "rules", "seen", "novel", "saved")}
    kept["confidently_wrong"] = told["wrong_in_all"]
    return {**kept, "recall": recall, "answers": answers, "outcomes": outcomes}


def opened(page: Path, picture: Path) -> dict[str, Any] | None:
    """What a browser without a network makes of the page; None where there is no browser."""
    from PIL import Image

    if chromium.PROGRAM is None:
        return None
    # The incidents that are quoted below are not ours to keep.
    seen = chromium.visit(page, wide=1000, upto="wrong")
    # 128 colours: a third of the size, and nobody sees it.
    Image.open(BytesIO(seen.png)).quantize(128).save(picture, optimize=True)
    asked = [address for address in seen.asked if address != page.as_uri()]
    return {"asked_for": asked, "complaints": seen.complaints, "overflow_px": seen.overflow}


def _rounded(shares: Mapping[str, Any]) -> dict[str, Any]:
    return {depth: _cut(share) for depth, share in shares.items()}


def _cut(share: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: round(value, 4) for name, value in share.items()} if share else None


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "unscored"
    return f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--label", default="issre:layer-3", help="the label that names causes")
    parser.add_argument("--since", default="2015-01-01", help="the first day that is replayed")
    parser.add_argument("--limit", type=int, help="the first incidents only; keeps no figures")
    asked = parser.parse_args()
    label, since, home = asked.label, asked.since, home_of(asked.limit)
    if not corpus.REAL.exists():
        print(f"skipped: {corpus.REAL} is not there, so there is no history to replay")
        return 0
    taken_in, page = filled(home, asked.limit), home / "page.html"
    told, cost = replayed(home, label, since, page)
    picture = home / "page.png" if asked.limit else results.FOLDER / "backtest.png"
    figures = {
        "label": label,
        "since": since,
        "ingest": asdict(taken_in),
        "replay": cost,
        "cpu_minutes_for_3000": {
            "replay": _for_3000(cost["cpu_s"], told["n"]),
            "ingest": _for_3000(taken_in.cpu_s, taken_in.incidents),
        },
        "browser": opened(page, picture),
        **key_figures(told),
    }
    if not asked.limit:
        command = f"python -m benchmarks.backtest --label {label} --since {since}"
        results.keep("backtest", command, figures)
    return _said(figures)


def _for_3000(cpu_s: float | None, count: int) -> float | None:
    """CPU-minutes for 3,000 incidents, at this price."""
    return None if cpu_s is None else round(cpu_s / count * 3000 / 60, 2)


def _said(figures: Mapping[str, Any]) -> int:
    """The tables; 1 where something falls short."""
    rows = [
        (name, r["n"], *(_share(r["at"][k]) for k in ("1", "3", "5", "10")), _share(r["mrr"]))
        for name, r in figures["recall"].items()
    ]
    print("\nprecedents found")
    print(results.table(("judged by, ranked by", "n", "@1", "@3", "@5", "@10", "MRR"), rows))
    rows = [(name, _share(share)) for name, share in figures["answers"].items()]
    print("\nanswers, quoted from precedents")
    print(results.table(("share", "mean [95 % interval]"), rows))
    spent, browser, cost = figures["cpu_minutes_for_3000"], figures["browser"], figures["replay"]
    ingest, when = spent["ingest"], (figures["ingest"]["at"] or "")[:10]
    both = spent["replay"] + (ingest or 0)
    filling = f"{both:.2f}, filled on {when}" if ingest is not None else "not measured here"
    holds = both <= MOST_MINUTES and cost["page_kb"] < MOST_MB * 1024
    holds &= not browser or not (browser["asked_for"] or browser["complaints"])
    rows = [
        ("CPU-minutes for 3,000 incidents", spent["replay"], f"<= {MOST_MINUTES} on two cores"),
        ("the same with taking them in", filling, f"<= {MOST_MINUTES} on two cores"),
        ("peak memory, MB", cost["peak_rss_mb"], ""),
        ("page, KB", cost["page_kb"], f"< {MOST_MB * 1024}"),
        ("asked for by the page, offline", len(browser["asked_for"]) if browser else "-", "0"),
    ]
    print(f"\n{figures['n']} incidents replayed")
    print(results.table(("", "measured", "limit"), rows))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
