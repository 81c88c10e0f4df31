"""The journal of the learning loop: one process at a time goes on with a run."""

import json

import pytest

from ingest import audit, retrainings
from ingest.retrainings import Superseded


def test_a_run_is_gone_on_with_by_one_process_only(store, clock):
    mine = retrainings.begin(store, actor="job", detail={})
    clock.forward(seconds=1)
    retrainings.advance(store, mine, "exported", actor="another", dataset="ds-1")

    with pytest.raises(Superseded, match="retraining 1 was gone on with by another process"):
        retrainings.advance(store, mine, "trained", actor="job")
    with pytest.raises(Superseded):
        retrainings.finish(store, mine, "held", actor="job")

    kept = retrainings.unfinished(store)
    assert (kept.step, kept.detail) == ("exported", {"dataset": "ds-1"})


def test_a_run_that_has_ended_is_not_ended_again(store):
    run = retrainings.begin(store, actor="job", detail={})
    ended = retrainings.finish(store, run, "abandoned", actor="job", why="the prompt changed")

    with pytest.raises(Superseded):
        retrainings.finish(store, ended, "held", actor="job")

    [told] = [r for r in audit.entries(store) if r.act == "retraining.abandoned"]
    assert json.loads(told.detail) == {"why": "the prompt changed"}
