"""A killed process loses nothing that it was told is kept."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from ingest import audit
from ingest.audit import Verification
from ingest.store import Store

ROOT = Path(__file__).parents[2]
CHILD = """
import os, sys
from ingest.incident import Incident
from ingest.store import Store

url, path, run = sys.argv[1:]
store = Store.open(url, busy_timeout_s=30)
with open(path, "a") as acknowledged:
    print("ready", flush=True)
    n = 0
    while True:
        told = [
            Incident(source=run, source_id=f"{n}-{k}", title="db-3 disk full", summary="x" * 900)
            for k in range(3)
        ]
        told.append(Incident(source="pager", source_id="shared", title=f"{run} {n}"))
        for receipt in store.put(told, actor=run):
            acknowledged.write(f"{receipt.id} {receipt.version}\\n")
        acknowledged.flush()
        os.fsync(acknowledged.fileno())
        n += 1
"""


def start(url: str, acknowledged: Path, run: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CHILD, url, str(acknowledged), run]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def put_until_killed(url: str, acknowledged: Path, run: int, after_s: Sequence[float]) -> None:
    """Let as many processes as there are times put incidents, and kill each after its time."""
    children = [start(url, acknowledged, f"run-{run}-{n}") for n in range(len(after_s))]
    for child, seconds in zip(children, after_s, strict=True):
        assert child.stdout
        with child.stdout:
            assert child.stdout.readline() == "ready\n"
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("kind", "rounds"), [("sqlite", 4), ("postgres", 1)])
def test_a_killed_process_loses_nothing_acknowledged(kind, rounds, request, tmp_path):
    url = request.getfixturevalue(f"{kind}_url")
    acknowledged = tmp_path / "acknowledged"
    chance = random.Random(8420)
    for run in range(rounds):
        put_until_killed(url, acknowledged, run, [chance.uniform(0.01, 0.4) for _ in range(2)])

    store = Store.open(url)
    # The last line of a killed process may be half a line: then nobody was told.
    lines = [line.split() for line in acknowledged.read_text().splitlines()]
    told = [(line[0], int(line[1])) for line in lines if len(line) == 2 and len(line[0]) == 20]
    feed = [(c.incident_id, c.version) for c in store.changes(0, limit=10**6)]

    assert len(told) > 4 * rounds
    assert set(told) <= set(feed)
    assert len(feed) == len(set(feed)) == len(store.many(feed)) == store.count()["versions"]
    assert audit.verify(store) == Verification(True, len(feed), audit.entries(store)[-1].hash)
    if kind == "sqlite":
        assert pragma(store, "integrity_check") == [("ok",)]
        assert pragma(store, "foreign_key_check") == []
    store.close()


def pragma(store: Store, name: str) -> list[tuple[object, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(text(f"PRAGMA {name}"))]
