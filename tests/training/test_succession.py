"""Promotion by the job itself: what a person did with the pointer meanwhile stands."""

import json

import pytest

from ingest import audit
from training import registry, succession
from training.registry import Frozen, NotPromotable
from training.succession import Overtaken


def made(store, name, **more):
    told = {
        "dataset": None, "base_hash": "base", "prompt_hash": "prompt", "adapter_sha256": name,
        "folder": f"adapters/{name}", "run_id": None, "parent": None, "verdict": "pass",
        "report": {}, "metrics": {}, "actor": "job",
    }  # fmt: skip
    return registry.register(store, **{**told, **more}).version


def succeed(store, version, *, began=None, beside=None):
    return succession.succeed(
        store, version, began=began, beside=beside, actor="job", reason="it passed"
    )


def promote(store, version, reason="by hand"):
    return registry.promote(store, version, actor="lead", reason=reason)


def roll_back(store, reason="worse on call"):
    return registry.rollback(store, actor="lead", reason=reason)


def moves(store):
    rows = audit.entries(store)
    return [
        (row.actor, row.act, json.loads(row.detail)["to"])
        for row in rows
        if row.act in (succession.PROMOTED, succession.ROLLED_BACK)
    ]


def test_what_was_judged_beside_the_champion_takes_its_place_once(store):
    promote(store, made(store, "a"))
    made(store, "b")

    first = succeed(store, 2, began=1, beside=1)
    again = succeed(store, 2, began=1, beside=1)

    assert first == again == registry.pointer(store)
    assert first.champion == 2
    assert moves(store) == [("lead", "model.promoted", 1), ("job", "model.promoted", 2)]


def test_what_was_taken_down_is_not_promoted_again_by_a_job(store, clock):
    succeed(store, made(store, "a"))
    clock.forward(minutes=7)
    roll_back(store)

    with pytest.raises(Overtaken) as overtaken:
        succeed(store, 1)

    assert str(overtaken.value) == (
        "lead rolled diag-v1 back to the base on 2030-01-01 12:07 UTC (worse on call), and that "
        "stands; `scarwise promote 1` serves diag-v1 all the same"
    )
    assert registry.pointer(store).champion is None


def test_what_was_replaced_by_hand_is_not_promoted_again_by_a_job(store):
    succeed(store, made(store, "a"))
    promote(store, made(store, "b"), reason="not said")

    with pytest.raises(Overtaken, match=r"^lead promoted diag-v2 in place of diag-v1 on [^()]*$"):
        succeed(store, 1)


def test_what_was_taken_down_and_promoted_by_hand_is_served_as_it_is(store):
    succeed(store, made(store, "a"))
    roll_back(store)
    promote(store, 1)

    assert succeed(store, 1).champion == 1
    assert succession.taken_down(store, 1) is None


@pytest.mark.parametrize(("began", "beside"), [(1, 2), (2, 1), (1, 1), (None, 2)])
def test_another_champion_than_it_began_with_or_was_judged_beside_stays(store, began, beside):
    promote(store, made(store, "a"))
    promote(store, made(store, "b"))
    made(store, "c")

    with pytest.raises(Overtaken, match="lead promoted diag-v2 in place of diag-v1"):
        succeed(store, 3, began=began, beside=beside)

    assert registry.pointer(store).champion == 2


def test_an_act_that_leaves_the_champion_where_it_is_overtakes_nobody(store):
    promote(store, made(store, "a"))
    made(store, "b")
    registry.freeze(store, actor="lead", reason="an audit")
    registry.thaw(store, actor="lead", reason="is over")

    assert succeed(store, 2, began=1, beside=1).champion == 2


def test_a_job_promotes_nothing_that_a_person_could_not(store):
    made(store, "a", verdict="fail")
    with pytest.raises(NotPromotable):
        succeed(store, 1)
    registry.freeze(store, actor="lead", reason="an audit")
    with pytest.raises(Frozen):
        succeed(store, made(store, "b"))


def test_what_was_never_served_was_never_taken_down(store):
    made(store, "a")

    assert succession.taken_down(store, 1) is None
