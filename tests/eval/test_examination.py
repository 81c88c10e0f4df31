"""An examination from end to end, of a tiny real model: what is asked, judged and kept."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from eval.evidence import CHECKS
from eval.examination import Model, cohorts_of, dev_score, examine, replayed
from eval.suite import Suite
from eval.transcript import read_transcript
from tests.eval.frozen import index_of, store_of, suite_of
from tests.training import tiny
from training.dataset import export

FEW = 2  # cases of each cohort, slice and task: the model writes to the last token that it may


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A suite of few cases, honest rows, a base and two adapters that are noise."""
    folder = tmp_path_factory.mktemp("examined")
    store = store_of(folder)
    whole = suite_of(store, folder / "suite")
    rows = export(store, index_of(store), folder / "ds", actor="test", base_taught=[]).rows()
    store.close()
    place = tiny.base(folder / "base", context=512)
    for n in (1, 2):
        tiny.adapter(place, folder / f"adapter-{n}", seed=n, size=2.0)
    return few(whole), list(rows), tiny.loaded(place), folder


def few(suite: Suite) -> Suite:
    seen: Counter[tuple[str, str, str]] = Counter()
    kept = []
    for case in sorted(suite.cases, key=lambda c: len(c.question)):
        name = (case.cohort, case.slice, case.expected.task)
        seen[name] += 1
        if seen[name] <= FEW:
            kept.append(case)
    return replace(suite, cases=tuple(kept))


def model(world, n: int) -> Model:
    return Model.of(f"diag-v{n}", world[3] / f"adapter-{n}")


def examined(world, n: int = 1, **instead):
    suite, rows, base, folder = world
    told = {
        "champion": None,
        "rows": rows,
        "newest": "era 0",
        "past": (),
        "evals": folder / "evals",
    }
    return examine(suite, base=base, **{"challenger": model(world, n), **told, **instead})


@pytest.fixture(scope="module")
def first(world):
    return examined(world)


def test_every_check_speaks_and_noise_is_held(first):
    assert first.verdict.outcome == "fail"
    assert {f.check for f in first.verdict.findings} == set(CHECKS)
    [integrity] = [f for f in first.verdict.findings if f.check == "integrity"]
    assert (first.verdict.challenger, first.verdict.champion) == ("diag-v1", "base")
    assert "no training row is a suite case" in integrity.words or "smoke" in integrity.words


def test_all_of_it_is_kept_for_people_and_for_machines(first, world):
    kept = {path.name: path.read_text() for path in first.folder.glob("gate.*")}
    arms = json.loads((first.folder / "arms.json").read_text())

    assert json.loads(kept["gate.json"]) == first.report
    assert kept["gate.md"].startswith("# FAIL: diag-v1 against base")
    assert "red team, version 2 since 2026-11-27" in kept["gate.md"]
    assert [row["cohort"] for row in arms] == ["era 0", "all"]
    assert all(arms[0][arm] for arm in ("base", "base_retrieval", "adapter", "copied"))
    slices = json.loads((first.folder / "slices.json").read_text())
    assert {s["model"] for s in slices} == {"diag-v1"}


def test_each_model_was_asked_every_case_in_every_arm(first, world):
    suite, _, _, folder = world

    for name in ("base-v1", "diag-v1-v1"):
        said = {
            (p.case, arm)
            for arm in ("closed_book", "retrieval")
            for p in read_transcript(folder / "evals" / name / f"{arm}.jsonl").predictions
        }
        assert said == {(c.id, arm) for c in suite.cases for arm in c.asked}


def test_examining_again_asks_nothing_and_judges_the_same(first, world):
    steps = []

    again = examined(world, progress=lambda *step: steps.append(step))

    assert steps == []
    assert (again.report, again.metrics) == (first.report, first.metrics)


def test_a_challenger_is_held_against_the_champion_where_there_is_one(first, world):
    found = examined(world, 2, champion=model(world, 1))

    assert found.verdict.champion == "diag-v1"
    assert (
        found.report["measured_on"]["champion_answers"]
        != (found.report["measured_on"]["base_answers"])
    )


def test_rows_that_teach_the_suite_fail_the_model(first, world):
    suite, rows, _, _ = world
    case = next(c for c in suite.cases if c.incident)
    leaked = replace(rows[0], incident_id=case.incident[0])

    found = examined(world, rows=[*rows, leaked])

    reasons = [f for f in found.verdict.reasons if f.check == "integrity" and f.ruling == "fail"]
    assert any("1 training rows are suite cases" in f.words for f in reasons)


def test_the_base_answers_as_it_did_while_adapters_lie_beside_it(first, world, tmp_path):
    suite, _, base, folder = world
    before = read_transcript(folder / "evals" / "base-v1" / "closed_book.jsonl")

    told = replayed(suite, base, None, tmp_path)

    assert base.adapters == set()
    assert {p.text for p in before.predictions} == (
        {p.text for p in told.predictions if p.arm == "closed_book"}
    )


def test_the_sweep_is_scored_on_the_dev_slice_of_the_eras_alone(world):
    suite = world[0]
    asked = []

    def answer(prompts):
        asked.extend(prompts)
        return ['{"status":"novel","cites":[]}'] * len(prompts)

    found = dev_score(suite, "era 0")(answer)

    dev = [c for c in suite.cases if c.slice == "dev" and c.cohort in cohorts_of(suite)]
    assert len(asked) == sum(len(c.asked) for c in dev)
    assert found.kept is None
    assert found.new is not None
