from collections import Counter
from itertools import pairwise

import pytest

from ingest.store import Store
from training.world import SHOWN, SIGNS, SOURCE, Size, families, incidents

SEED = 7
ERAS = (0, 1, 2, 3, 4)


@pytest.fixture(scope="module")
def told():
    return {era: list(incidents(SEED, era)) for era in ERAS[:2]}


def test_the_same_seed_and_era_tell_the_same_and_others_do_not(told):
    assert list(incidents(SEED, 1)) == told[1]
    assert list(incidents(SEED + 1, 1)) != told[1]


def test_no_sign_and_no_cause_belongs_to_two_families_of_any_era():
    every = [family for era in ERAS for family in families(SEED, era)]

    assert len({f.name for f in every}) == len(every) == 40 + 4 * 12
    assert len({f.cause for f in every}) == len(every)
    assert len({sign for f in every for sign in f.signs}) == SIGNS * len(every)


def test_eras_are_disjoint_in_families_ids_and_time(told):
    first, second = told[0], told[1]

    assert not {i.cause_family for i in first} & {i.cause_family for i in second}
    assert not {i.source_id for i in first} & {i.source_id for i in second}
    assert max(i.started_at for i in first) < min(i.started_at for i in second)
    assert all(a.started_at < b.started_at for a, b in pairwise([*first, *second]))


def test_a_smaller_era_before_does_not_change_the_names_of_later_families():
    small = Size(first_families=3, first_each=2, later_families=2, later_each=2)

    assert [f.name for f in families(SEED, 1, small)] == ["e1-00", "e1-01"]


@pytest.mark.parametrize(("era", "number", "each"), [(0, 40, 33), (1, 12, 36)])
def test_each_family_happens_as_often_and_a_tenth_more_happens_once(told, era, number, each):
    counts = Counter(i.cause_family for i in told[era])
    repeated = {f: n for f, n in counts.items() if f.startswith(f"e{era}-")}

    assert set(repeated.values()) == {each}
    assert len(repeated) == number
    assert len(counts) - number == round(number * each * 0.1)


def test_an_incident_shows_some_signs_of_its_family_and_not_its_cause(told):
    by_name = {f.name: f for f in families(SEED, 1)}

    for incident in told[1]:
        if not incident.cause_family.startswith("e1-"):
            continue
        family = by_name[incident.cause_family]
        shown = f"{incident.symptoms} {incident.evidence[0].text}"
        assert sum(sign in shown for sign in family.signs) == SHOWN
        assert (incident.root_cause, incident.resolution) == (family.cause, family.fix)
        assert family.cause not in shown


def test_a_one_off_shares_its_cause_with_nobody(told):
    every = [i for held in told.values() for i in held]
    once = [i for i in every if i.cause_family.startswith("once-")]
    causes = Counter(i.root_cause for i in every)

    assert {causes[i.root_cause] for i in once} == {1}


def words(incident):
    told = (incident.title, incident.symptoms, incident.root_cause, incident.resolution)
    return (*told, *[e.text for e in incident.evidence], *[u.text for u in incident.updates])


def test_its_incidents_are_stored_as_they_are_and_none_is_held_back(sqlite_url):
    small = Size(first_families=5, first_each=4)
    told = list(incidents(SEED, 0, small))
    store = Store.open(sqlite_url)

    receipts = store.put(told, actor="test")
    kept = [store.get(receipt.id) for receipt in receipts]
    store.close()

    assert [words(k.incident) for k in kept] == [words(i) for i in told]
    assert {k.incident.source for k in kept} == {SOURCE}
    assert not any(k.quarantine for k in kept)
