"""Swapping the served adapter under load: what fails, and what an answer costs.

    python -m benchmarks.swap [--swaps 20] [--clients 8] [--answers 400]

A running service over 500 incidents is asked over HTTP by several clients at once: first without a
model, then with one, then while its adapters are swapped. The model is a random one of 40,000
weights whose two adapters learned one answer each, so that every answer tells who gave it; its
milliseconds are those of the service around a model, not those of a model worth having.
"""

import argparse
import http.client
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpus, results, speed
from ingest.incident import Incident
from serving.service import Service
from serving.settings import load
from tests.serving import tiny
from tests.serving.conftest import incident

INCIDENTS = 500


@dataclass
class Seen:
    """What the clients were answered."""

    took_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    fallbacks: int = 0
    mistaken: int = 0  # answers of one model under the name of the other

    @property
    def failed(self) -> int:
        return sum(n for status, n in self.statuses.items() if status != 200)

    def figures(self) -> dict[str, Any]:
        return {
            "answers": len(self.took_ms),
            "failed": self.failed,
            "fallbacks": self.fallbacks,
            "mistaken": self.mistaken,
            "models": dict(self.models),
            "ms_p50": round(statistics.median(self.took_ms), 1),
            "ms_p95": round(float(np.quantile(self.took_ms, 0.95)), 1),
        }


def filled(home: Path) -> None:
    """Incidents, of which two are about what is asked, and two adapters that were registered."""
    service = Service.open(load(speed._environment(home)))
    near = [Incident(**incident(n, root_cause=f"Cause {n}.")) for n in ("1", "2")]
    service.store.put([*corpus.incidents(INCIDENTS - 2), *near], actor="benchmark")
    service.warm()
    service.embed_all()
    for version in (1, 2):
        tiny.register(service.store, home, version)
    service.close()


def asked(port: int, seen: Seen, until: threading.Event, most: int) -> None:
    """One client, one connection, one question after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    question = json.dumps({"text": tiny.ALERT, "services": ["orders-db"]})
    while not until.is_set() and len(seen.took_ms) < most:
        began = time.perf_counter()
        connection.request("POST", "/v1/diagnose", question)
        response = connection.getresponse()
        answer = json.loads(response.read())
        seen.took_ms.append((time.perf_counter() - began) * 1000)
        seen.statuses[response.status] += 1
        _judge(answer, seen)
    connection.close()


def _judge(answer: dict[str, Any], seen: Seen) -> None:
    model, own = answer.get("model"), answer.get("hypothesis")
    seen.models[model["name"] if model else "none"] += 1
    seen.fallbacks += "without a model" in (answer.get("degraded") or "")
    if model and own and own["text"] != tiny.SAYS[int(model["version"])].cause:
        seen.mistaken += 1


def measured(port: int, clients: int, answers: int, swaps: int = 0) -> Seen:
    """What so many clients see; with `swaps`, until so many have been made."""
    seen, over = Seen(), threading.Event()
    most = answers if not swaps else 10**9
    threads = [
        threading.Thread(target=asked, args=(port, seen, over, most)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for swap in range(swaps):
        before = len(seen.took_ms)
        promoted(port, 2 - swap % 2)
        while len(seen.took_ms) < before + answers // swaps:
            time.sleep(0.005)
    if swaps:
        over.set()
    for thread in threads:
        thread.join()
    return seen


def promoted(port: int, version: int) -> None:
    """This adapter is served when it returns."""
    path = f"/v1/models/{version}/promote"
    speed._call(port, "POST", path, {"reason": "benchmark"})
    while speed._call(port, "GET", "/readyz", None)["model"] != f"diag-v{version}":
        time.sleep(0.005)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--answers", type=int, default=400)
    told = parser.parse_args()
    os.environ["SCARWISE_SERVE_MODEL_TIMEOUT_S"] = "60"
    home = Path(tempfile.mkdtemp(prefix="scarwise-swap-"))
    try:
        tiny.home(home)
        filled(home)
        with speed.served(home) as (port, pid):
            without = measured(port, told.clients, told.answers)
            promoted(port, 1)
            one = measured(port, told.clients, told.answers)
            swapped = measured(port, told.clients, told.answers, told.swaps)
            memory = speed.memory_mb(pid)
    finally:
        shutil.rmtree(home)
    phases = {"no model": without, "one adapter": one, f"{told.swaps} swaps": swapped}
    figures = {name: seen.figures() for name, seen in phases.items()}
    results.keep(
        "swap",
        f"python -m benchmarks.swap --swaps {told.swaps} --clients {told.clients}",
        {"clients": told.clients, "swaps": told.swaps, "phases": figures, "memory": memory},
    )
    columns = ("answers", "failed", "fallbacks", "mistaken", "ms_p50", "ms_p95")
    rows = [(name, *(found[c] for c in columns)) for name, found in figures.items()]
    print(results.table((f"{told.clients} clients", *columns), rows))
    if any(seen.failed or seen.mistaken or seen.fallbacks for seen in phases.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
