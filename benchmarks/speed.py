"""Speed and memory of the running service, as ratios within one run.

    python -m benchmarks.speed [--incidents 10000]

A search over HTTP against embedding the same query alone plus an exact scan of as many vectors;
ingest against embedding the same texts alone; a warm `scarwise search`; the service's memory. The
filled data folder is kept in `benchmarks/.cache` and used again.
"""

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpus, results
from retrieval.embed import Embedder
from retrieval.words import passage
from serving.service import Progress, Service
from serving.settings import load

CACHE = Path(__file__).parent / ".cache"
SCARWISE = Path(sys.executable).parent / "scarwise"


def filled(count: int) -> Path:
    """A data folder that holds `count` embedded incidents; made once, resumed if cut off."""
    home = CACHE / f"home-{count}-{corpus.origin().replace(' ', '-')}"
    if (home / "complete").exists():
        return home
    home.mkdir(parents=True, exist_ok=True)
    service = Service.open(load(_environment(home)))
    batch = corpus.incidents(count)
    for at in range(0, count, 200):
        service.store.put(batch[at : at + 200], actor="benchmark")
    service.warm()
    service.embed_all(_shown)
    service.close()
    (home / "complete").touch()
    return home


def _shown(progress: Progress) -> None:
    if progress.done % 1024 == 0:
        print(f"{progress.step} {progress.done} of {progress.total}", file=sys.stderr, flush=True)


def _environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "SCARWISE_HOME": str(home),
        "SCARWISE_RETRIEVAL_MODELS": str(CACHE / "models"),
        "SCARWISE_SERVE_LOG": "warning",
    }


@contextmanager
def served(home: Path) -> Iterator[tuple[int, int]]:
    """A service on this folder, caught up: (port, pid)."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [str(SCARWISE), "serve", "--port", str(port)],
        env=_environment(home), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _until_ready(port, process)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(1200):
        if process.poll() is not None:
            sys.exit(f"the service ended with {process.returncode}")
        try:
            ready = _call(port, "GET", "/readyz", None)
            if ready["index_lag"] == 0 and ready["embedder"] and ready["index"] == "sound":
                return
        except OSError:
            pass
        time.sleep(0.25)
    sys.exit("the service did not catch up within 300 s")


def _call(port: int, method: str, path: str, content: Any) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = None if content is None else json.dumps(content)
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def search_ratio(home: Path, port: int, count: int) -> dict[str, Any]:
    """Medians in milliseconds: one search over HTTP; the embedding and scan alone; their ratio."""
    embedder = Embedder.load(cache=CACHE / "models", threads=1)
    matrix = np.random.default_rng(3).standard_normal((count, embedder.dim)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    asked = corpus.questions(130)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    http_ms, floor_ms = [], []
    for n, text in enumerate(asked):
        began = time.perf_counter()
        vector = embedder.embed_query(text).vectors[0]
        np.argpartition(-np.einsum("ij,j->i", matrix, vector), 10)[:10]
        floor = time.perf_counter() - began
        began = time.perf_counter()
        connection.request("POST", "/v1/search", json.dumps({"text": text}))
        answer = json.loads(connection.getresponse().read())
        took = time.perf_counter() - began
        if n >= 10:
            assert answer["hits"], answer
            http_ms.append(took * 1000)
            floor_ms.append(floor * 1000)
    pairs = [a / b for a, b in zip(http_ms, floor_ms, strict=True)]
    return {
        "http_ms_p50": round(statistics.median(http_ms), 2),
        "http_ms_p99": round(float(np.quantile(http_ms, 0.99)), 2),
        "embed_and_scan_ms_p50": round(statistics.median(floor_ms), 2),
        "ratio": round(statistics.median(pairs), 3),
        "limit": 1.5,
    }


def ingest_ratio(count: int = 600) -> dict[str, Any]:
    """Texts a CPU-second through all of ingest, and through the embedder alone."""
    batch = corpus.incidents(count, seed=23)
    with tempfile.TemporaryDirectory() as folder:
        service = Service.open(load(_environment(Path(folder))))
        service.warm()
        embedder = service.index.embedder
        assert embedder
        texts = [passage(i) for i in batch]
        embedder.embed(texts[:32])
        began = time.process_time()
        embedder.embed(texts)
        alone = time.process_time() - began
        began = time.process_time()
        for at in range(0, count, 200):
            service.store.put(batch[at : at + 200], actor="benchmark")
        service.embed_all()
        whole = time.process_time() - began
        service.close()
    return {
        "incidents": count,
        "embedding_alone_cpu_s": round(alone, 2),
        "ingest_cpu_s": round(whole, 2),
        "ratio": round(alone / whole, 3),
        "limit": 0.8,
    }


def command_s(home: Path, runs: int = 7) -> dict[str, Any]:
    """Wall seconds of `scarwise search` against the running service."""
    took = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        subprocess.run(
            [str(SCARWISE), "search", "requests time out after a deploy"],
            env=_environment(home), check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        took.append(time.perf_counter() - began)
    return {"search_s_p50": round(statistics.median(took[1:]), 3), "limit": 1.0}


def memory_mb(pid: int) -> dict[str, Any]:
    """Resident memory of the service now, and at its highest."""
    status = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if ":" in line
    )
    now, most = (int(status[k].split()[0]) // 1024 for k in ("VmRSS", "VmHWM"))
    return {"rss_mb": now, "highest_mb": most, "limit": 1536}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--incidents", type=int, default=10_000)
    count = parser.parse_args().incidents
    home = filled(count)
    with served(home) as (port, pid):
        search = search_ratio(home, port, count)
        command = command_s(home)
        memory = memory_mb(pid)
    figures = {
        "incidents": count,
        "texts": corpus.origin(),
        "search": search,
        "ingest": ingest_ratio(),
        "command": command,
        "memory": memory,
    }
    results.keep("speed", "python -m benchmarks.speed", figures)
    rows = [
        ("search over HTTP / embedding + exact scan", search["ratio"], "<= 1.5"),
        ("ingest / embedding alone, texts per CPU-second", figures["ingest"]["ratio"], ">= 0.8"),
        ("warm `scarwise search`, s", command["search_s_p50"], "< 1"),
        ("service memory, MB (highest)", memory["highest_mb"], "< 1536"),
    ]
    print(results.table((f"at {count} incidents", "measured", "limit"), rows))


if __name__ == "__main__":
    main()
