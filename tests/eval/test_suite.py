"""The suite: what a case shows, what stays out of it, and that it cannot change unseen."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from eval.cases import Case
from eval.probes import MEANING
from eval.suite import (
    SUITE_MEANING,
    Suite,
    SuiteUnsound,
    frozen,
    read_suite,
    remove_quoting,
    suite_versions,
)
from ingest.errors import Refused
from ingest.lessons import Embargoed, embargo, embargoed
from ingest.store import Store
from retrieval.prompt import prompt, prompt_hash, question_text
from tests.eval.frozen import SIZE, index_of, store_of, suite_of
from tests.ingest.given import DAY_1, incident
from training.world import incidents


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Suite, Path]:
    folder = tmp_path_factory.mktemp("world")
    store = store_of(folder)
    return store, suite_of(store, folder / "suite"), folder / "suite"


def of_incidents(suite: Suite) -> list[Case]:
    return [case for case in suite.cases if case.incident and case.cohort != "choose"]


def test_every_incident_under_embargo_is_a_case_of_its_era(world):
    store, suite, _ = world

    told = [case for case in of_incidents(suite) if case.cohort != "closed book"]

    assert {c.id for c in told} == set(embargoed(store))
    assert {c.cohort for c in told} == {"era 0"}
    assert {c.slice for c in told} == {"dev", "gate"}


def test_a_case_shows_only_what_was_known_when_its_incident_began(world):
    store, suite, _ = world

    for case in of_incidents(suite):
        began = store.many([case.incident])[case.incident].incident.started_at
        shown = case.asked["retrieval"].precedents if "retrieval" in case.asked else ()
        for precedent in store.many(shown).values():
            assert precedent.incident.known_at < began


def test_no_case_is_shown_another_case(world):
    store, suite, _ = world

    held = set(embargoed(store))
    shown = {id for c in suite.cases for asked in c.asked.values() for id, _ in asked.precedents}

    assert shown
    assert not shown & held


def test_a_case_asks_what_serving_would_ask(world):
    store, suite, _ = world
    case = next(c for c in of_incidents(suite) if c.expected.task == "known")

    known = store.many([case.incident, *case.asked["retrieval"].precedents])
    subject = known[case.incident].incident
    near = [known[k] for k in case.asked["retrieval"].precedents]

    assert case.prompt("closed_book") == prompt(question_text(subject))
    assert case.prompt("retrieval") == prompt(question_text(subject), near)


def test_the_true_answer_cites_the_precedents_that_had_the_cause(world):
    _, suite, _ = world

    cases = [c for c in of_incidents(suite) if c.expected.citable and c.near_misses]

    assert cases
    for case in cases:
        told = json.loads(case.truth("retrieval"))
        assert told["cites"] == case.expected.citable
        assert sorted(told["cites"] + case.near_misses) == [1, 2, 3]
        assert json.loads(case.truth("closed_book"))["cites"] == []


def test_a_fault_that_nobody_is_taught_is_unseen_and_closed_book_a_control(world):
    _, suite, _ = world

    odd = [c for c in of_incidents(suite) if c.family.startswith("once")]
    tasks = {(c.expected.task, *c.asked) for c in odd}

    assert tasks == {("unseen", "retrieval"), ("closed_book_control", "closed_book")}
    assert all(c.truth(arm) is None for c in odd for arm in c.asked)


def test_a_choice_is_asked_where_one_of_several_precedents_had_the_cause(world):
    _, suite, _ = world
    by_id = {case.id: case for case in suite.cases}

    choices = [case for case in suite.cases if case.expected.task == "choose"]

    assert choices
    for case in choices:
        whole = by_id[case.id.removesuffix("-choose")]
        right = case.expected.choice
        assert case.asked["retrieval"].precedents == whole.asked["retrieval"].precedents
        assert whole.expected.shown[right - 1].family == whole.expected.family
        assert case.prompt("retrieval").task == "choose"
        assert "cause:" not in case.prompt("retrieval").user
        assert json.loads(case.truth("retrieval")) == {"cites": [right]}


def test_freezing_again_reads_what_was_frozen(world):
    store, suite, folder = world
    before = (folder / "v1" / "cases.jsonl").stat()

    again = frozen(store, index_of(store), folder, version=1)

    assert again == suite
    assert (folder / "v1" / "cases.jsonl").stat() == before


def test_the_same_store_freezes_the_same_bytes(world, tmp_path):
    store, suite, _ = world

    other = frozen(store, index_of(store), tmp_path, version=1)

    assert other.manifest == suite.manifest


def test_the_manifest_counts_cohorts_and_dates_what_the_scores_mean(world):
    _, suite, _ = world
    manifest = suite.manifest

    assert manifest.prompt_hash == prompt_hash()
    assert (manifest.meaning, manifest.meaning_since, manifest.meaning_line) == SUITE_MEANING[-1]
    assert manifest.cases == sum(n for t in manifest.cohorts.values() for n in t.values())
    assert manifest.cohorts["canary"] == {"canary": 8}
    assert manifest.meanings["red team"] == MEANING["red team"][-1]
    assert {c for c in manifest.cohorts if not c.startswith("era ")} == set(manifest.meanings)


def test_a_changed_case_is_refused(world, tmp_path):
    store, _, _ = world
    frozen(store, index_of(store), tmp_path, version=1)
    cases = tmp_path / "v1" / "cases.jsonl"
    cases.write_text(cases.read_text().replace('"known"', '"unseen"', 1))

    with pytest.raises(SuiteUnsound, match="was changed after it was frozen"):
        read_suite(tmp_path, 1)


def test_a_version_without_a_manifest_was_never_frozen(world, tmp_path):
    store, suite, _ = world
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "cases.jsonl").write_text("half of")

    with pytest.raises(Refused, match="there is no suite v1"):
        read_suite(tmp_path, 1)

    assert frozen(store, index_of(store), tmp_path, version=1) == suite


def test_nothing_under_embargo_is_refused(tmp_path):
    store = store_of(tmp_path)

    with pytest.raises(Refused, match="no incident is under embargo for suite v1"):
        frozen(store, index_of(store), tmp_path, version=1)


def test_the_next_version_adds_its_era_and_leaves_out_what_was_forgotten(tmp_path):
    store = store_of(tmp_path, eras=1)
    first = suite_of(store, tmp_path / "suite")
    gone = next(c for c in of_incidents(first) if c.expected.task == "known")
    store.put(list(incidents(7, 1, SIZE)), actor="test")
    store.forget(gone.id, actor="test", reason="asked to")
    second = suite_of(store, tmp_path / "suite", era=1, version=2)

    assert {"era 0", "era 1"} <= set(second.manifest.cohorts)
    assert all(gone.id not in case.quotes for case in second.cases)
    assert remove_quoting(tmp_path / "suite", gone.id) == [1]
    assert suite_versions(tmp_path / "suite") == [2]


def test_another_telling_of_a_case_is_no_precedent_and_teaches_nothing(store, tmp_path):
    later = DAY_1 + timedelta(minutes=30)
    told = {
        "symptoms": "writes fail on the orders database since the log rotation stopped last night",
        "root_cause": "The log rotation stopped.",
        "cause_family": "rotation",
        "services": ["db"],
    }
    other = {**told, "started_at": DAY_1, "resolved_at": DAY_1 + timedelta(minutes=10)}
    subject = {**told, "started_at": later, "resolved_at": later + timedelta(hours=1)}
    receipts = store.put([incident(of="1", **other), incident(of="2", **subject)], actor="test")
    case = Embargoed(receipts[1].id, 1, "rotation", 0, "gate", 1)
    with store.transaction("test") as writing:
        embargo(writing, [case])

    suite = frozen(store, index_of(store), tmp_path, version=1)

    [retrieval, control] = of_incidents(suite)
    assert retrieval.asked["retrieval"].precedents == ()
    assert (retrieval.expected.task, control.expected.task) == ("unseen", "closed_book_control")
