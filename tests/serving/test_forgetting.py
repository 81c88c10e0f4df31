"""After an incident is forgotten no file quotes it: no dataset, suite, answer or run."""

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from eval.replay import folder_of, header_of, replay
from eval.suite import Suite, frozen, read_suite, suite_versions
from ingest.incident import Incident
from ingest.lessons import datasets, embargoed, taught
from retrieval.prompt import Reply, prompt_hash, written
from serving.cli import app
from serving.service import Service
from tests.serving.conftest import client_of
from tests.training.histories import outage
from tests.training.runs import write
from training import registry
from training.dataset import export
from training.rows import read
from training.split import freeze

WORDS = "flamingo"  # only the incident that is to be forgotten says so
EACH = 9
NEWEST, MIDDLE, OLDEST = EACH - 1, EACH - 2, 0


def told(n: int, family: str, secret: bool) -> Incident:
    """The n-th of a family; all of them look alike, so they are shown beside each other."""
    signs = f"{family} rejected by the pool of gateway{n}"
    word = f" The {WORDS} was at it." if secret else ""
    return outage(
        n, symptoms=f"{signs}, {family} held since minute{n}{word}", cause_family=family,
        root_cause=f"The {family} was held.{word}", resolution=f"Free the {family}.{word}",
        title=f"{family} gateway{n}{word}",
    ).model_copy(update={"source_id": f"{family}-{n}"})  # fmt: skip


def answers(settings, suite: Suite, name: str, sha256: str | None, *, learned: bool) -> None:
    """What a model says that repeats what it reads; one that learned it says it anyway."""

    def say(prompts):
        said = ["It was the flamingo." if learned or WORDS in p.user else "No." for p in prompts]
        return [written(Reply(status="known", cause=cause, fix="Wait.")) for cause in said]

    header = header_of(suite, model=name, base_hash="b" * 16, adapter_sha256=sha256)
    out = folder_of(settings.evals, name, suite.name)
    replay(suite, header=header, answer=say, out=out)
    write(out / "gate.json", {"lost": [case.id for case in suite.cases][:3]})


def turned(service: Service, secret: int) -> str:
    """A data folder in which the loop has turned once; the id of the incident with a secret.

    The base and two models answered: one of this turn, and one that learned nothing of it.
    """
    store, index, settings = service.store, service.index, service.settings
    world = [
        told(n, f, f == "lease" and n == secret) for f in ("lease", "lock") for n in range(EACH)
    ]
    ids = [receipt.id for receipt in store.put(world, actor="test")]
    freeze(store, index, era=1, suite=1, actor="test")
    suite = frozen(store, index, settings.suite, version=1)
    data = export(store, index, settings.datasets, actor="test")
    for sha, dataset in (("a", data.name), ("c", None)):
        registry.register(
            store, dataset=dataset, base_hash="b" * 16, prompt_hash=prompt_hash(),
            adapter_sha256=sha * 64, folder=f"adapters/{sha}", run_id="run-1", parent=None,
            verdict="pass", report={}, metrics={}, actor="test",
        )  # fmt: skip
    id = ids[secret]
    answers(settings, suite, "base", None, learned=False)
    answers(settings, suite, "diag-v1", "a" * 64, learned=id in taught(store, data.name))
    answers(settings, suite, "diag-v2", "c" * 64, learned=False)
    cut_off = settings.runs / "run-2"
    write(cut_off / "recipe.json", {"dataset": data.name})
    lines = [json.dumps({"user": row.user, "answer": row.answer}) for row in data.rows()]
    write(cut_off / "lessons.jsonl", "\n".join(lines))
    shutil.copytree(cut_off, settings.runs / "run-1")
    write(settings.runs / "run-1" / "lessons.jsonl", "")
    write(settings.runs / "run-1" / "DONE", "{}")
    draft = settings.datasets / "ds-0123456789ab.draft"
    shutil.copytree(data.folder, draft)
    draft = settings.suite / "v2.draft"
    draft.mkdir()
    shutil.copy(settings.suite / "v1" / "cases.jsonl", draft)
    return id


def quoting(home: Path) -> set[str]:
    """The files below `home` that still say it."""
    found = set()
    for path in (p for p in home.rglob("*") if p.is_file()):
        texts = [path.read_bytes().decode("latin-1")]
        if path.suffix == ".parquet":
            texts = [row.user + row.answer for row in read(path)]
        if any(WORDS in text for text in texts):
            found.add(str(path.relative_to(home)))
    return found


@pytest.fixture
def runner(environment):
    return lambda *words: CliRunner().invoke(app, words, env=environment)


def by_command(service, runner, id):
    assert runner("incidents", "forget", id, "--yes").exit_code == 0


def by_http(service, runner, id):
    with client_of(service) as client:
        assert client.delete(f"/v1/incidents/{id}").status_code == 200


@pytest.mark.parametrize("forget", [by_command, by_http])
@pytest.mark.parametrize("secret", [OLDEST, MIDDLE, NEWEST])
def test_what_is_forgotten_is_quoted_by_no_file(cold, runner, secret, forget):
    home = cold.settings.home
    id = turned(cold, secret)
    before = quoting(home)
    was_case = id in embargoed(cold.store)

    forget(cold, runner, id)

    assert {name.partition("/")[0] for name in before} >= {"suite", "evals"}
    assert was_case == (secret != OLDEST)
    assert quoting(home) == set()
    assert (home / "runs" / "run-1" / "DONE").exists()


def test_what_does_not_quote_it_stays(cold, runner):
    id = turned(cold, OLDEST)
    [other] = cold.store.put([told(EACH, "disk", False)], actor="test")
    home = cold.settings.home
    before = {str(p) for p in home.rglob("*.*") if p.is_file() and "scarwise.db" not in p.name}

    by_command(cold, runner, other.id)

    after = {str(p) for p in home.rglob("*.*") if p.is_file() and "scarwise.db" not in p.name}
    # No turn is on, so what one left half done goes: nothing reads it any more.
    assert {Path(p).parent.name for p in before - after} == {"ds-0123456789ab.draft"}
    assert quoting(home)
    assert id in cold.store.get(id).incident.id


def test_a_model_that_learned_it_is_tainted_and_its_answers_go_with_those_on_other_suites(
    cold, runner
):
    settings = cold.settings
    id = turned(cold, OLDEST)
    # Version 2 shows nothing of it, and still the model says it.
    suite = frozen(cold.store, cold.index, settings.suite, version=2)
    clean = tuple(c for c in suite.cases if id not in c.quotes)
    other = Suite(suite.manifest, clean)
    shutil.rmtree(settings.suite / "v2")
    answers(settings, other, "diag-v1", "a" * 64, learned=True)
    answers(settings, other, "diag-v2", "c" * 64, learned=False)

    by_command(cold, runner, id)

    assert registry.get(cold.store, 1).tainted == [id]
    assert [path.name for path in settings.evals.iterdir()] == ["diag-v2-v2"]
    assert quoting(settings.home) == set()


def test_the_next_suite_is_frozen_without_it(cold, runner):
    settings = cold.settings
    id = turned(cold, NEWEST)

    by_command(cold, runner, id)
    cold.index.follow()
    again = frozen(cold.store, cold.index, settings.suite, version=1)

    assert suite_versions(settings.suite) == [1]
    assert again == read_suite(settings.suite, 1)
    assert all(id not in case.quotes for case in again.cases)
    assert {case.incident[0] for case in again.cases if case.incident} == set(embargoed(cold.store))
    assert [d.withdrawn_at for d in datasets(cold.store)] == [None]  # a case was never taught


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("deletions", range(8))
def test_a_forgetting_that_was_killed_is_finished_when_the_service_starts(
    cold, monkeypatch, deletions
):
    settings, id = cold.settings, turned(cold, OLDEST)
    cold.store.forget(id, actor="test", reason="asked to")
    left = iter(range(deletions))
    remove = shutil.rmtree

    def removed(place, *args, **more):
        if next(left, None) is None:
            for path in sorted(place.glob("*.json")):  # a part of it
                path.unlink()
            raise Killed
        remove(place, *args, **more)

    with monkeypatch.context() as killing:
        killing.setattr(shutil, "rmtree", removed)
        with pytest.raises(Killed):
            cold.remove_forgotten()
    again = Service.open(settings)
    again.start()
    again.close()

    assert quoting(settings.home) == set()


def test_what_cannot_be_deleted_is_logged_and_tried_again(cold, monkeypatch, caplog):
    settings, id = cold.settings, turned(cold, MIDDLE)
    cold.store.forget(id, actor="test", reason="asked to")
    remove = shutil.rmtree

    def refused(place, *args, **more):
        if Path(place).name.startswith("base-v1"):
            raise PermissionError(13, "Permission denied")
        remove(place, *args, **more)

    with monkeypatch.context() as disk:
        disk.setattr(shutil, "rmtree", refused)
        cold.remove_forgotten()
    left = quoting(settings.home)
    cold.remove_forgotten()

    assert "forgotten.not_removed what=base-v1" in caplog.text
    assert {name.partition("/")[0] for name in left} == {"suite", "evals"}
    assert quoting(settings.home) == set()


def test_the_run_of_a_turn_that_is_on_is_left_to_that_turn(cold, caplog):
    settings, id = cold.settings, turned(cold, OLDEST)
    cold.store.forget(id, actor="test", reason="asked to")

    with FileLock(settings.retraining):
        cold.remove_forgotten()
        left = quoting(settings.home)
    cold.remove_forgotten()

    assert left == {"runs/run-2/lessons.jsonl"}
    assert quoting(settings.home) == set()
    assert caplog.text == ""


def test_nothing_is_looked_for_where_nothing_was_forgotten(cold):
    turned(cold, OLDEST)
    before = quoting(cold.settings.home)

    cold.remove_forgotten()

    assert quoting(cold.settings.home) == before
