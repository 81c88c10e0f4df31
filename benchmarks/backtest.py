"""A replayed history of thousands of public incidents: what it takes, and what it says.

    python -m benchmarks.backtest [--label issre:layer-3] [--since 2015-01-01]

Takes `../shared/data/dev/incidents.jsonl` in (kept in `benchmarks/.cache`, made once, resumed when
cut off), runs `scarwise backtest` on it without a model, and opens the page in a browser without a
network. Figures go to benchmarks/results/backtest.json, the page's picture beside it. Without
`../shared` it says so and does nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks import corpus, results
from ingest.importer import Found, read
from ingest.incident import Incident
from serving.service import Progress, Service
from serving.settings import load
from tests import chromium

CACHE = Path(__file__).parent / ".cache"
HOME = CACHE / "backtest"
SCARWISE = Path(sys.executable).parent / "scarwise"
MOST_MINUTES = 15  # for 3,000 incidents on two cores
MOST_MB = 5  # the page


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "SCARWISE_HOME": str(HOME),
        "SCARWISE_RETRIEVAL_MODELS": str(CACHE / "models"),
        "SCARWISE_SERVE_LOG": "warning",
        "OMP_NUM_THREADS": "1",
    }


def filled() -> dict[str, Any]:
    """The data folder with every public incident in it, embedded; what making it cost."""
    told = HOME / "complete.json"
    if told.exists():
        kept: dict[str, Any] = json.loads(told.read_text())
        return kept
    HOME.mkdir(parents=True, exist_ok=True)
    began, cpu = time.monotonic(), time.process_time()
    service = Service.open(load(environment()))
    place = corpus.REAL
    found = read(Found(place, "archive", place.stat().st_size, place.name))
    batch = [record for record in found if isinstance(record, Incident)]
    for at in range(0, len(batch), 200):
        service.store.put(batch[at : at + 200], actor="benchmark")
    service.warm()
    service.embed_all(_shown)
    service.close()
    cost = {
        "incidents": len(batch),
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.monotonic() - began),
    }
    told.write_text(json.dumps(cost))
    return cost


def replayed(label: str, since: str, page: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the command says as JSON, and what it took."""
    command = [str(SCARWISE), "backtest", "--since", since, "--family-label", label]
    command += ["--out", str(page), "--json"]
    began = time.monotonic()
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as ran:
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


def _shown(progress: Progress) -> None:
    if progress.done % 512 == 0:
        print(f"{progress.step} {progress.done} of {progress.total}", file=sys.stderr, flush=True)


def _share(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "unscored"
    return f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--label", default="issre:layer-3", help="the label that names causes")
    parser.add_argument("--since", default="2015-01-01", help="the first day that is replayed")
    asked = parser.parse_args()
    label, since = asked.label, asked.since
    if not corpus.REAL.exists():
        print(f"skipped: {corpus.REAL} is not there, so there is no history to replay")
        return 0
    taken_in, page = filled(), HOME / "page.html"
    told, cost = replayed(label, since, page)
    minutes = cost["cpu_s"] / told["n"] * 3000 / 60
    ingest = taken_in["cpu_s"] / taken_in["incidents"] * 3000 / 60
    figures = {
        "label": label,
        "since": since,
        "ingest": taken_in,
        "replay": cost,
        "cpu_minutes_for_3000": {"replay": round(minutes, 2), "ingest": round(ingest, 2)},
        "browser": opened(page, results.FOLDER / "backtest.png"),
        **key_figures(told),
    }
    results.keep(
        "backtest", f"python -m benchmarks.backtest --label {label} --since {since}", figures
    )
    return _said(figures)


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
    both = spent["replay"] + spent["ingest"]
    holds = both <= MOST_MINUTES and cost["page_kb"] < MOST_MB * 1024
    holds &= not browser or not (browser["asked_for"] or browser["complaints"])
    rows = [
        ("CPU-minutes for 3,000 incidents", spent["replay"], f"<= {MOST_MINUTES} on two cores"),
        ("the same with taking them in", round(both, 2), f"<= {MOST_MINUTES} on two cores"),
        ("peak memory, MB", cost["peak_rss_mb"], ""),
        ("page, KB", cost["page_kb"], f"< {MOST_MB * 1024}"),
        ("asked for by the page, offline", len(browser["asked_for"]) if browser else "-", "0"),
    ]
    print(f"\n{figures['n']} incidents replayed")
    print(results.table(("", "measured", "limit"), rows))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
