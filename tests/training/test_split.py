"""The split: the newest of each family become cases, copies stay together, once for all."""

from datetime import timedelta

from ingest import audit
from ingest.lessons import embargoed
from tests.training.histories import START, exported, keep, keep_world, outage, worded
from training.split import Candidate, freeze, split


def candidate(n, *, family="lease", group=None, one_off=False):
    return Candidate(
        incident_id=f"inc-{n:03}",
        version=1,
        family=family,
        stratum=family,
        at=START + timedelta(days=n),
        group=n if group is None else group,
        one_off=one_off,
    )


def ids(cases):
    return [case.candidate.incident_id for case in cases]


def test_the_newest_share_of_a_family_is_for_the_suite_and_a_third_of_it_for_dev():
    cases = split([candidate(n) for n in range(20)], {"lease": 20})

    assert ids(cases) == [f"inc-{n:03}" for n in (19, 18, 17, 16, 15)]
    assert [case.slice for case in cases] == ["dev", "gate", "gate", "dev", "gate"]


def test_no_family_gives_more_than_the_most_and_none_of_fewer_than_five_gives_any():
    many = [candidate(n) for n in range(100)]
    few = [candidate(200 + n, family="comet") for n in range(4)]

    cases = split(many + few, {"lease": 100, "comet": 4})

    assert ids(cases) == [f"inc-{n:03}" for n in range(99, 87, -1)]


def test_a_group_of_near_copies_is_on_one_side_and_in_one_slice():
    copies = [candidate(n, group=0) for n in (18, 19)]
    cases = split([*copies, *(candidate(n, group=n) for n in range(1, 18))], {"lease": 19})

    assert ids(cases) == ["inc-018", "inc-019", "inc-017", "inc-016", "inc-015"]
    assert [case.slice for case in cases] == ["dev", "dev", "gate", "gate", "dev"]


def test_a_group_larger_than_the_share_stays_in_training_as_a_whole():
    flood = [candidate(100 + n, group=0) for n in range(6)]

    cases = split([*flood, *(candidate(n, group=n) for n in range(1, 7))], {"lease": 12})

    assert ids(cases) == ["inc-006", "inc-005", "inc-004"]


def test_a_share_of_what_was_seen_once_becomes_cases_whatever_came_before():
    odd = [candidate(n, family=f"once{n}", one_off=True) for n in range(400)]

    cases = split(odd, {})
    fewer = split(odd[:200], {})

    assert 80 <= len(cases) <= 136
    assert set(ids(fewer)) <= set(ids(cases))


def test_freezing_twice_is_freezing_once(store):
    keep_world(store, 0)

    first = freeze(store, worded(store), era=0, suite=1, actor="test")
    again = freeze(store, worded(store), era=0, suite=1, actor="test")

    assert first == again == sorted(embargoed(store).values(), key=lambda c: c.incident_id)
    frozen = [entry for entry in audit.entries(store) if entry.act == "suite.frozen"]
    assert len(frozen) == 1
    assert {case.slice for case in first} == {"dev", "gate"}


def test_a_later_era_takes_cases_from_what_nobody_was_taught(store, tmp_path):
    keep_world(store, 0)
    first = freeze(store, worded(store), era=0, suite=1, actor="test")
    taught = {row.incident_id for row in exported(store, tmp_path).rows()}
    keep_world(store, 1)

    second = freeze(store, worded(store), era=1, suite=2, actor="test")

    assert second
    assert not {case.incident_id for case in second} & (taught | {c.incident_id for c in first})
    assert {case.family.split("-")[0] for case in second} <= {"e1", "once"}
    assert len(embargoed(store)) == len(first) + len(second)


def test_who_knows_better_says_what_was_taught(store, tmp_path):
    keep_world(store, 0)
    exported(store, tmp_path)

    assert freeze(store, worded(store), era=0, suite=1, actor="test") == []
    assert freeze(store, worded(store), era=0, suite=1, actor="test", known=()) != []


def test_a_near_copy_of_what_was_taught_becomes_no_case(store, tmp_path):
    keep(store, *(outage(n) for n in range(1, 6)))
    exported(store, tmp_path)
    words = {f: getattr(outage(5), f) for f in ("title", "symptoms", "root_cause", "resolution")}
    copies = keep(store, *(outage(n, **words) for n in range(20, 30)))

    cases = freeze(store, worded(store), era=1, suite=1, actor="test")

    assert not {case.incident_id for case in cases} & set(copies)


def test_an_era_without_new_incidents_freezes_nothing_and_leaves_no_trace(store):
    assert freeze(store, worded(store), era=1, suite=1, actor="test") == []
    assert list(audit.entries(store)) == []
