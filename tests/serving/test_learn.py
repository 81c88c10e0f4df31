"""A turn as the command takes it: asked for in vain, and asked to stop."""

import hashlib
import os
import signal
import time

import pytest
from filelock import FileLock

from ingest import retrainings
from ingest.store import Store
from serving.footing import Footing
from serving.learning import stoppable, turn
from serving.outcome import TERMINATED
from serving.retrain import due
from serving.settings import load
from tests.learned import SEED, SIZE
from training import registry
from training.world import incidents


@pytest.fixture
def rarely(tmp_path):
    """Settings of a data folder with some incidents, of a base that is nobody's."""
    told = {"HOME": tmp_path / "home", "TRAINING_BASE": "nobody/s", "TRAINING_DUE_INCIDENTS": 1000}
    settings = load({f"SCARWISE_{name}": str(value) for name, value in told.items()})
    store = Store.open(settings.store_url)
    store.put(list(incidents(SEED, 0, SIZE)), actor="tests")
    store.close()
    return settings


def everything_in(folder):
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_turn_that_is_not_due_takes_no_lock_and_writes_nothing(rarely):
    before = everything_in(rarely.home)

    first = turn(rarely, actor="cron", if_due=True)

    assert first.outcome == "not due"
    assert everything_in(rarely.home) == before
    with FileLock(rarely.retraining):  # as one that is on would hold it
        assert turn(rarely, actor="cron", if_due=True) == first


def test_a_champion_of_an_earlier_prompt_makes_a_turn_due_once(rarely):
    store = Store.open(rarely.store_url)
    registry.register(
        store, dataset=None, base_hash="base", prompt_hash="old", adapter_sha256="a",
        folder="adapters/a", run_id=None, parent=None, verdict="pass", report={}, metrics={},
        actor="job",
    )  # fmt: skip
    registry.promote(store, 1, actor="lead", reason="it passed")
    detail = Footing.of(rarely).told
    run = retrainings.begin(store, actor="job", detail={**detail, "prompt": "old"})
    retrainings.finish(store, run, "passed", actor="job")

    found = due(store, rarely)
    run = retrainings.begin(store, actor="job", detail=detail)
    retrainings.finish(store, run, "held", actor="job")
    after = due(store, rarely)
    store.close()

    assert found.words == (
        "the prompt changed since the last turn, and diag-v1 is of the one before"
    )
    assert (found.due, after.due) == (True, False)


def asked_to_stop(which, let_go):
    try:
        os.kill(os.getpid(), which)
        while True:
            time.sleep(0.01)
    finally:
        let_go.append("the lock")


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_turn_that_is_asked_to_stop_lets_go_of_everything_and_says_so(which, capsys):
    before, let_go = signal.getsignal(which), []

    with pytest.raises(SystemExit) as ended, stoppable():
        asked_to_stop(which, let_go)

    assert (ended.value.code, let_go) == (128 + which, ["the lock"])
    assert capsys.readouterr().err == (
        "scarwise: stopped; the next `scarwise retrain` goes on with it\n"
    )
    assert signal.getsignal(which) is before
    assert TERMINATED == 128 + signal.SIGTERM
