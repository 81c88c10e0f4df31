"""The registry, on both databases: what may be promoted, who moved the pointer, and what taints."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest import audit, lessons
from ingest.errors import Conflict, Refused, Unknown
from ingest.incident import incident_id
from ingest.store import Store
from tests.ingest.given import incident
from training import registry
from training.registry import Frozen, Moved, NotPromotable, Pointer, Registered

ROOT = Path(__file__).parents[2]
ONE, TWO = (incident_id("pager", name) for name in "12")


def made(store: Store, sha256: str = "a", **more) -> Registered:
    """A model that the gate passed."""
    told = {
        "dataset": None,
        "base_hash": "base",
        "prompt_hash": "prompt",
        "adapter_sha256": sha256,
        "folder": f"runs/{sha256}/adapter",
        "run_id": None,
        "parent": None,
        "verdict": "pass",
        "report": {"reasons": []},
        "metrics": {"acc": 0.9},
        "actor": "job",
    }
    return registry.register(store, **{**told, **more})


def promote(store: Store, version: int, **more) -> Pointer:
    return registry.promote(store, version, **{"actor": "lead", "reason": "it passed", **more})


def roll_back(store: Store) -> Pointer:
    return registry.rollback(store, actor="lead", reason="worse")


def export(store: Store, name: str, *ids: str) -> None:
    with store.transaction("job") as writing:
        lessons.register_dataset(writing, name, {}, [(id, 1) for id in ids])


def acts(store: Store, actor: str = "lead") -> list[tuple[str, str, dict[str, object]]]:
    entries = [e for e in audit.entries(store) if e.actor == actor]
    return [(e.act, e.subject, json.loads(e.detail)) for e in entries]


@pytest.fixture
def told(store: Store) -> Store:
    """Two incidents, and a dataset of each."""
    store.put([incident(of=name) for name in "12"], actor="test")
    export(store, "ds-1", ONE)
    export(store, "ds-2", TWO)
    return store


def test_a_new_registry_serves_the_base(store):
    assert registry.pointer(store) == Pointer(None, None, None, False, 0)
    assert registry.every(store) == []
    with pytest.raises(Unknown, match=r"there is no model diag-v1 here; `scarwise models`"):
        registry.get(store, 1)


def test_what_is_registered_is_the_next_version_and_the_challenger(told, clock):
    first = made(told, "a", dataset="ds-1")
    second = made(told, "b", dataset="ds-2", parent=1, verdict="fail", run_id="run-1")

    assert (first.name, second.name, second.at) == ("diag-v1", "diag-v2", clock.now)
    assert registry.every(told) == [first, second]
    assert registry.get(told, 2) == second
    assert registry.pointer(told) == Pointer(None, None, 2, False, 2)
    assert acts(told, "job")[-1] == (
        "model.registered",
        "diag-v2",
        {
            "version": 2,
            "dataset": "ds-2",
            "parent": 1,
            "adapter_sha256": "b",
            "verdict": "fail",
            "tainted": [],
        },
    )


def test_the_same_adapter_again_is_what_it_was(store):
    first = made(store, "a")
    made(store, "b")

    again = made(store, "a", verdict="fail")

    assert again == first
    assert registry.pointer(store).challenger == 2
    assert len(acts(store, "job")) == 2


@pytest.mark.parametrize(
    ("wrong", "kind", "why"),
    [
        ({"dataset": "ds-9"}, Unknown, "no dataset 'ds-9' here"),
        ({"parent": 7}, Unknown, "no model diag-v7 here"),
        ({"verdict": "PASS"}, Refused, "'PASS' is no verdict"),
    ],
)
def test_a_model_of_nothing_that_is_here_is_not_registered(store, wrong, kind, why):
    with pytest.raises(kind, match=why):
        made(store, **wrong)

    assert (registry.every(store), acts(store, "job")) == ([], [])


def test_a_later_verdict_takes_the_place_of_an_earlier_one(store):
    made(store, verdict=None)
    judged = {"verdict": "fail", "report": {"reasons": ["forgot"]}, "metrics": {"acc": 0.1}}

    for _ in range(2):
        registry.judge(store, 1, **judged, actor="lead")

    kept = registry.get(store, 1)
    assert (kept.verdict, kept.report, kept.metrics) == tuple(judged.values())
    assert acts(store) == [("model.judged", "diag-v1", {"version": 1, "verdict": "fail"})]


def test_a_promotion_moves_the_pointer_and_says_who_and_why_once(store, clock):
    made(store)
    clock.forward(days=1)

    after = promote(store, 1, reason="asked by ops@example.com")
    again = promote(store, 1, reason="twice")

    assert after == Pointer(1, None, None, False, 2)
    assert again == after == registry.pointer(store)
    assert registry.get(store, 1).promoted_at == clock.now
    [(act, subject, detail)] = acts(store)
    reason = detail.pop("reason")
    assert (act, subject, detail) == (
        "model.promoted",
        "diag-v1",
        {"from": None, "to": 1, "revision": 2},
    )
    assert "asked by" in str(reason)
    assert "ops@example.com" not in str(reason)


def test_a_model_that_is_not_here_is_not_promoted(store):
    with pytest.raises(Unknown, match="diag-v3"):
        promote(store, 3)


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        (None, "was not judged by the gate yet"),
        ("fail", "was judged fail"),
        ("inconclusive", "was judged inconclusive"),
    ],
)
def test_what_the_gate_did_not_pass_is_promoted_only_when_a_person_signs_for_it(
    store, verdict, why
):
    made(store, verdict=verdict)

    with pytest.raises(NotPromotable, match=why):
        promote(store, 1)
    for no_reason in ("", "  ", "not said"):
        with pytest.raises(NotPromotable, match="takes a reason"):
            promote(store, 1, override=True, reason=no_reason)
    assert (registry.pointer(store).champion, acts(store)) == (None, [])

    assert promote(store, 1, override=True, reason="we tried it by hand").champion == 1
    [(_, _, detail)] = acts(store)
    assert detail["override"] == [f"{why} by the gate" if verdict else why]
    assert detail["reason"] == "we tried it by hand"


def test_a_pointer_that_moved_since_it_was_looked_at_is_not_moved(store):
    made(store, "a")
    seen = made(store, "b") and registry.pointer(store).revision
    promote(store, 1)

    with pytest.raises(Moved, match=r"moved to revision 3 since revision 2, and diag-v1 is served"):
        promote(store, 2, expected=seen)

    assert registry.pointer(store).champion == 1
    assert issubclass(Moved, Conflict)


def test_of_those_who_promote_at_once_from_the_same_sight_exactly_one_wins(store):
    versions = [made(store, str(n)).version for n in range(4)]
    seen = registry.pointer(store).revision
    start, won, lost = threading.Barrier(len(versions)), list[int](), list[str]()

    def promote_one(version: int) -> None:
        start.wait()
        try:
            won.append(promote(store, version, expected=seen).champion or 0)
        except Moved as error:
            lost.append(str(error))

    threads = [threading.Thread(target=promote_one, args=(v,)) for v in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(lost)) == (1, 3)
    assert registry.pointer(store) == Pointer(*won, None, _not(won, 4), False, seen + 1)
    assert [act for act, _, _ in acts(store)] == ["model.promoted"]


def _not(won: list[int], challenger: int) -> int | None:
    return None if won == [challenger] else challenger


def test_a_rollback_goes_back_step_by_step_to_the_base(store):
    for name in "abc":
        made(store, name)
    for version in (1, 2, 3):
        promote(store, version)
    assert registry.pointer(store).previous == 2

    champions = [roll_back(store).champion for _ in range(3)]

    assert champions == [2, 1, None]
    with pytest.raises(Refused, match="there is nothing to roll back"):
        roll_back(store)
    assert [(s, d["from"], d["to"]) for a, s, d in acts(store) if a == "model.rolled_back"] == [
        ("diag-v3", 3, 2),
        ("diag-v2", 2, 1),
        ("diag-v1", 1, None),
    ]


def test_what_was_rolled_back_is_not_what_a_later_rollback_leads_to(store):
    for name in "abc":
        made(store, name)
    promote(store, 1)
    promote(store, 2)
    roll_back(store)
    promote(store, 3)

    assert roll_back(store).champion == 1


def test_nothing_is_promoted_while_it_is_frozen_but_a_rollback_is_the_emergency_exit(store):
    made(store, "a")
    made(store, "b")
    promote(store, 1)
    for _ in range(2):
        registry.freeze(store, actor="lead", reason="audit week")

    with pytest.raises(Frozen, match=r"promotion is frozen; `scarwise thaw` ends that"):
        promote(store, 2, override=True, reason="now")
    assert roll_back(store).champion is None
    for _ in range(2):
        assert registry.thaw(store, actor="lead", reason="over").frozen is False
    assert promote(store, 2).champion == 2

    assert [act for act, _, _ in acts(store)] == [
        "model.promoted",
        "models.frozen",
        "model.rolled_back",
        "models.thawed",
        "model.promoted",
    ]


def test_forgetting_taints_every_model_that_was_taught_it_by_way_of_its_parents_too(told):
    made(told, "a", dataset="ds-1")
    made(told, "b", dataset="ds-2", parent=1)
    made(told, "c", dataset="ds-2")
    made(told, "d", parent=2)

    assert registry.adapters_of(told, ONE) == ["diag-v1", "diag-v2", "diag-v4"]
    told.forget(ONE, actor="lead", reason="asked to")
    told.forget(TWO, actor="lead", reason="asked to")

    tainted = {m.name: m.tainted for m in registry.every(told)}
    assert tainted == {
        "diag-v1": [ONE],
        "diag-v2": [ONE, TWO],
        "diag-v3": [TWO],
        "diag-v4": [ONE, TWO],
    }
    marked = [(s, d["version"], d["incident"]) for a, s, d in acts(told) if a == "model.tainted"]
    assert marked == [
        ("diag-v1", 1, ONE),
        ("diag-v2", 2, ONE),
        ("diag-v4", 4, ONE),
        ("diag-v2", 2, TWO),
        ("diag-v3", 3, TWO),
        ("diag-v4", 4, TWO),
    ]
    assert audit.verify(told).ok


def test_what_taught_a_model_and_was_forgotten_before_it_was_registered_taints_it_too(told):
    made(told, "a", dataset="ds-1")
    told.forget(ONE, actor="lead", reason="asked to")
    told.forget(TWO, actor="lead", reason="asked to")

    late = made(told, "b", dataset="ds-2", parent=1)

    assert late.tainted == [ONE, TWO]


def test_a_tainted_model_is_promoted_only_when_a_person_signs_for_it(told):
    made(told, dataset="ds-1")
    told.forget(ONE, actor="lead", reason="asked to")

    with pytest.raises(NotPromotable, match=f"was taught {ONE}, which was forgotten since"):
        promote(told, 1)

    assert promote(told, 1, override=True, reason="until tomorrow").champion == 1


def test_a_rollback_passes_over_what_was_tainted_since(told):
    made(told, "a")
    made(told, "b", dataset="ds-1")
    made(told, "c")
    for version in (1, 2, 3):
        promote(told, version)
    told.forget(ONE, actor="lead", reason="asked to")

    assert roll_back(told).champion == 1
    assert acts(told)[-1][2]["passed_over"] == [2]


def fail_within(store: Store, act: Callable[..., Pointer], *words: int) -> None:
    with store.transaction("lead") as writing:
        act(writing, *words, reason="it passed")
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("act", "words"),
    [(registry.promote_in, (2,)), (registry.rollback_in, ()), (registry.freeze_in, ())],
)
def test_an_act_that_is_cut_off_has_not_happened(store, act, words):
    made(store, "a")
    made(store, "b")
    promote(store, 1)
    before, models, done = registry.pointer(store), registry.every(store), acts(store)

    with pytest.raises(KeyboardInterrupt):
        fail_within(store, act, *words)

    assert (registry.pointer(store), registry.every(store), acts(store)) == (before, models, done)


PROMOTE_AND_DIE = """
import os, sys
from ingest.store import Store
from training import registry

with Store.open(sys.argv[1]).transaction("lead") as writing:
    print(registry.promote_in(writing, 1, reason="it passed").champion, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_process_that_is_killed_while_it_promotes_leaves_the_pointer_whole(store, store_url):
    made(store)

    command = [sys.executable, "-c", PROMOTE_AND_DIE, store_url]
    killed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)

    assert (killed.stdout, killed.returncode) == ("1\n", -9)
    assert registry.pointer(store).champion is None
    assert promote(store, 1).champion == 1
    assert (len(acts(store)), audit.verify(store).ok) == (1, True)


@pytest.mark.parametrize(("name", "version"), [("7", 7), ("diag-v12", 12), (" 3 ", 3)])
def test_a_model_is_named_by_its_number_or_its_name(name, version):
    assert registry.version_of(name) == version


@pytest.mark.parametrize("name", ["0", "-1", "v7", "diag-v", "latest", "1e3", "9999999999", "²"])
def test_any_other_word_names_no_model(name):
    with pytest.raises(Unknown, match="names no model; write 7 or diag-v7"):
        registry.version_of(name)
