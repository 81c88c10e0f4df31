"""`scarwise eval`: what is kept is shown and compared without a model."""

import json
from functools import partial

import pytest

from eval.replay import folder_of, header_of, replay
from ingest.store import Store
from tests.eval.frozen import suite_of
from training import registry
from training.world import Size, incidents

NOVEL = '{"status":"novel","cites":[]}'


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data folder with a suite, two models, and what both answered to it."""
    home = tmp_path_factory.mktemp("home")
    store = Store.open(f"sqlite:///{home / 'scarwise.db'}")
    store.put(list(incidents(7, 0, Size(4, 10, 2, 10))), actor="test")
    suite = suite_of(store, home / "suite")
    known = {c.prompt(arm).user: c.truth(arm) or NOVEL for c in suite.cases for arm in c.asked}
    answers = {1: lambda prompts: [NOVEL] * len(prompts), 2: lambda ps: [known[p.user] for p in ps]}
    for version, answer in answers.items():
        model = registered(store, str(version))
        replay(
            suite,
            header=header_of(
                suite, model=model.name, base_hash="b", adapter_sha256=model.adapter_sha256
            ),
            answer=answer,
            out=folder_of(home / "evals", model.name, suite.name),
        )
    registry.promote(store, 1, actor="test", reason="first")
    store.close()
    return home


def registered(store, sha256):
    return registry.register(
        store, dataset=None, base_hash="b", prompt_hash="p", adapter_sha256=sha256,
        folder=f"adapters/{sha256}", run_id=None, parent=None, verdict="pass", report={},
        metrics={}, actor="test",
    )  # fmt: skip


@pytest.fixture
def scarwise(scarwise, home):
    return partial(scarwise, SCARWISE_HOME=str(home))


def test_the_champions_kept_answers_are_shown_and_no_model_is_loaded(scarwise):
    done = scarwise("eval", "--json")

    said = json.loads(done.stdout)
    right = {(s["cohort"], s["arm"]): s["right"] for s in said["slices"]}
    assert (said["model"], said["suite"], said["unsafe"]) == ("diag-v1", "v1", 0)
    assert right["era 0", "closed_book"] == 0
    assert right["no fault", "closed_book"] == 1


def test_two_models_are_compared_from_what_is_kept(scarwise):
    done = scarwise("eval", "compare", "1", "diag-v2", "--json")

    said = json.loads(done.stdout)
    [era] = [s for s in said["slices"] if (s["cohort"], s["arm"]) == ("era 0", "closed_book")]
    assert (said["before"]["model"], said["after"]["model"]) == ("diag-v1", "diag-v2")
    assert (era["tally"]["before"], era["tally"]["after"], era["tally"]["lost"]) == (0, 1, 0)


def test_a_model_is_compared_with_copying_its_nearest_precedent(scarwise):
    done = scarwise("eval", "compare", "nearest", "2", "--json")

    said = json.loads(done.stdout)
    [era] = [s for s in said["slices"] if (s["cohort"], s["arm"]) == ("era 0", "retrieval")]
    assert (said["before"]["model"], said["after"]["model"]) == ("nearest precedent", "diag-v2")
    assert 0 < era["tally"]["before"] < era["tally"]["after"] == 1


def test_a_person_reads_since_when_a_score_means_what_it_does(scarwise):
    done = scarwise("eval", "diag-v2")

    [line, _] = [line for line in done.stdout.splitlines() if line.startswith("red team")]
    assert line.rstrip().endswith("v2, 2026-11-27")


def test_a_person_reads_a_table(scarwise):
    shown, compared = scarwise("eval", "diag-v2"), scarwise("eval", "compare", "1", "2")

    assert "diag-v2 on suite v1: 0 unsafe answers" in shown.stdout
    assert compared.stdout.splitlines()[0].split() == (
        ["cohort", "arm", "cases", "diag-v1", "diag-v2", "gained", "lost"]
    )


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("eval", "compare", "1"), "name the two models"),
        (("eval", "1", "2"), "name one model"),
        (("eval", "9"), "9"),
        (("eval", "compare", "1", "base"), "base was never replayed on suite v1"),
        (("eval", "--suite", "8"), "there is no suite v8"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_in_one_line(scarwise, words, why):
    done = scarwise(*words)

    assert done.returncode == 2
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
