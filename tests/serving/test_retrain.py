"""One turn of the loop over a small world that was really learned, whatever happens on the way."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from eval import transcript
from eval.suite import SuiteUnsound, read_suite, suite_versions
from ingest import audit, retrainings
from ingest.errors import StoreFull, StoreUnreachable
from ingest.lessons import embargoed, taught
from ingest.queries import KeptQuery, keep
from ingest.store import utcnow
from retrieval import prompt
from serving.learning import stoppable
from serving.outcome import EXIT, TERMINATED
from serving.retrain import due, report_of, retrain, summary
from serving.settings import load
from tests import killed, learned
from tests.learned import ACTOR, EASY, RECIPE, SEED, SIZE, Telling, opened, turn
from training import adapters, base, registry, rows, tracking
from training.model import ModelUnsound
from training.world import incidents


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    torch.set_num_threads(1)
    found = tmp_path_factory.mktemp("learned") / "bases"
    learned.made(found)
    return found


@pytest.fixture(scope="module")
def first(bases, tmp_path_factory):
    """A whole turn, which nothing interrupted: its settings and how it ended."""
    found = learned.home(tmp_path_factory.mktemp("first") / "home", bases)
    return found, turn(found, rules=EASY)


@pytest.fixture
def anew(bases, first, tmp_path):
    """A data folder before its turn; what that would train and ask for minutes lies there, done."""

    def made(**instead):
        found = learned.home(tmp_path / "home", bases, **instead)
        for folder in ("runs", "evals"):
            shutil.copytree(first[0].home / folder, found.home / folder)
        return found

    return made


@pytest.fixture
def after(bases, first, tmp_path):
    """A data folder after its turn."""

    def made(**instead):
        shutil.copytree(first[0].home, tmp_path / "home")
        return learned.settings(tmp_path / "home", bases, **instead)

    return made


def pointer(settings):
    with opened(settings) as (store, _):
        return registry.pointer(store)


def acts(settings):
    return killed.standing(settings).acts


def test_a_turn_ends_with_one_model_its_verdict_and_its_report(first):
    settings, ended = first

    with opened(settings) as (store, _):
        [model] = registry.every(store)
        [run] = retrainings.latest(store)
    assert (ended.outcome, ended.exit_code, ended.version) == ("passed", EXIT["passed"], 1)
    assert (model.name, model.verdict, model.run_id) == ("diag-v1", "pass", ended.run)
    assert model.metrics == ended.examined.metrics
    assert report_of(settings, model).read_text().startswith("# ")
    assert (run.outcome, run.detail["dataset"]) == ("passed", model.dataset)
    assert adapters.verify(settings.home / model.folder, model.base_hash, model.prompt_hash)
    json.dumps(summary(ended))


def test_each_act_of_a_turn_is_in_the_audit_trail_once(first):
    told = acts(first[0])

    expected = {*killed.ACTS, "retraining.passed"} - {"model.promoted", "retraining.promoted"}
    assert {act: told.get(act) for act in expected} == dict.fromkeys(expected, 1)
    assert not {"model.promoted", "retraining.promoted"} & told.keys()


def test_what_passed_waits_for_a_person_unless_the_settings_say_otherwise(first, anew):
    assert pointer(first[0]).champion is None
    settings = anew(TRAINING_AUTO_PROMOTE="true")

    ended = turn(settings, rules=EASY)

    assert (ended.outcome, ended.exit_code) == ("promoted", 0)
    assert pointer(settings).champion == 1
    assert killed.standing(settings).is_done_once


def test_a_turn_without_news_makes_no_second_model(after):
    settings = after()

    again = turn(settings, rules=EASY)

    assert (again.outcome, again.version) == ("passed", 1)
    assert killed.standing(settings).models == 1
    told = acts(settings)
    assert (told["model.registered"], told["model.judged"], told["dataset.exported"]) == (1, 1, 1)


def test_what_the_champion_has_learned_is_nothing_new(after):
    settings = after()
    with opened(settings) as (store, _):
        registry.promote(store, 1, actor=ACTOR, reason="the gate passed it")

    again = turn(settings, rules=EASY)

    assert (again.outcome, again.exit_code) == ("too little", EXIT["too little"])
    assert "0 new rows" in again.words
    assert killed.standing(settings).models == 1
    assert pointer(settings).champion == 1


def test_by_the_usual_rules_so_small_a_model_is_held_with_every_reason(anew):
    settings = anew(TRAINING_AUTO_PROMOTE="true")

    ended = turn(settings)

    assert ended.outcome == "held"
    assert len(ended.examined.verdict.reasons) > 1
    assert pointer(settings).champion is None


def test_while_the_registry_is_frozen_what_passed_is_not_promoted(anew):
    settings = anew(TRAINING_AUTO_PROMOTE="true")
    with opened(settings) as (store, _):
        registry.freeze(store, actor=ACTOR, reason="an audit is on")

    ended = turn(settings, rules=EASY)

    assert ended.outcome == "passed"
    assert "It is not promoted: diag-v1: promotion is frozen" in ended.words
    assert pointer(settings).champion is None


def cut_off(point):
    """Ends a turn at this point as a kill would, for whoever calls it from the same process."""

    def done(step):
        if step == point:
            raise KeyboardInterrupt

    return Telling(done=done)


def act(settings, do, *words, reason):
    """What a person does with the pointer."""
    with opened(settings) as (store, _):
        return do(store, *words, actor="lead", reason=reason)


def another(settings):
    """A model that somebody made by other means, and that passed."""
    with opened(settings) as (store, _):
        first = registry.every(store)[0]
        return registry.register(
            store, dataset=first.dataset, base_hash=first.base_hash, prompt_hash=first.prompt_hash,
            adapter_sha256="f" * 64, folder="adapters/other", run_id=None, parent=None,
            verdict="pass", report={}, metrics={}, actor="lead",
        ).version  # fmt: skip


def promotions(settings):
    with opened(settings) as (store, _):
        rows = audit.entries(store, limit=10_000)
    return [(row.actor, row.subject) for row in rows if row.act == "model.promoted"]


def test_what_a_person_rolled_back_before_a_cut_off_turn_goes_on_is_not_promoted_again(anew):
    settings = anew(TRAINING_AUTO_PROMOTE="true")
    with pytest.raises(KeyboardInterrupt):
        turn(settings, rules=EASY, telling=cut_off("promoted"))
    act(settings, registry.rollback, reason="worse on call")

    ended = turn(settings, rules=EASY)

    assert (ended.outcome, ended.exit_code) == ("overtaken", EXIT["overtaken"])
    assert "lead rolled diag-v1 back to the base on " in ended.words
    assert "(worse on call), and that stands" in ended.words
    assert pointer(settings).champion is None
    assert promotions(settings) == [(ACTOR, "diag-v1")]
    # Nothing new came: the next turn makes the same model, which waits for nobody any more.
    by_hand = settings.model_copy(
        update={"training": settings.training.model_copy(update={"auto_promote": False})}
    )
    assert turn(by_hand, rules=EASY).outcome == "overtaken"
    assert killed.standing(settings).outcomes == ("overtaken", "overtaken")


def test_a_person_who_moves_the_pointer_between_verdict_and_promotion_overtakes_the_turn(anew):
    settings = anew(TRAINING_AUTO_PROMOTE="true")
    others = []

    def moved(step):
        if step == "judged":
            others.append(another(settings))
            act(settings, registry.promote, *others, reason="made by hand")

    ended = turn(settings, rules=EASY, telling=Telling(done=moved))

    assert (ended.outcome, ended.exit_code) == ("overtaken", 17)
    assert "lead promoted diag-v2 in place of the base" in ended.words
    assert "`scarwise promote 1` serves diag-v1 all the same" in ended.words
    assert [pointer(settings).champion] == others
    found = killed.standing(settings)
    assert (found.outcomes, found.acts["retraining.overtaken"]) == (("overtaken",), 1)


@pytest.fixture
def another_prompt(monkeypatch, bases, tmp_path):
    """From now on the prompt is another one; the offline base is made for it again, by itself."""

    def changed(settings):
        before = base.named(bases)
        monkeypatch.setattr(prompt, "VERSION", prompt.VERSION + 1)
        prompt.prompt_hash.cache_clear()
        shutil.copytree(before, base.named(tmp_path / "bases"))
        update = {"bases": str(tmp_path / "bases")}
        return settings.model_copy(update={"training": settings.training.model_copy(update=update)})

    yield changed
    monkeypatch.undo()
    prompt.prompt_hash.cache_clear()


def test_a_turn_that_began_under_another_prompt_is_abandoned_and_a_new_one_is_taken(
    anew, another_prompt
):
    settings = anew(TRAINING_LEAST_ROWS="9999")
    shutil.rmtree(settings.runs)
    with pytest.raises(KeyboardInterrupt):
        turn(settings, telling=cut_off("exported"))
    with opened(settings) as (store, _):
        [cut] = retrainings.latest(store)
        kept_out = embargoed(store)
    begun = settings.runs / "run-begun"
    begun.mkdir(parents=True)
    (begun / "recipe.json").write_text(json.dumps({"dataset": cut.detail["dataset"]}))
    settings, said = another_prompt(settings), []

    ended = turn(settings, telling=Telling(note=said.append))

    with opened(settings) as (store, _):
        new, old = retrainings.latest(store)
        assert embargoed(store) == kept_out
        [told] = [r for r in audit.entries(store, limit=999) if r.act == "retraining.abandoned"]
    assert "retraining 1 is abandoned: the prompt changed; what it began is begun anew" in said
    assert (old.outcome, json.loads(told.detail)["why"]) == ("abandoned", "the prompt changed")
    assert (ended.outcome, new.outcome) == ("too little", "too little")
    # The cases that were kept out for it are the new one's, in a suite of the new prompt.
    assert (new.detail["era"], new.detail["suite"]) == (cut.detail["era"], cut.detail["suite"] + 1)
    frozen = {v: read_suite(settings.suite, v) for v in suite_versions(settings.suite)}
    assert [f"era {cut.detail['era']}" in f.manifest.cohorts for f in frozen.values()] == [True] * 2
    assert new.detail["dataset"] != cut.detail["dataset"]
    assert not begun.exists()


def test_a_suite_of_another_prompt_is_frozen_anew_also_where_nothing_was_cut_off(
    anew, another_prompt
):
    settings = anew(TRAINING_LEAST_ROWS="9999")
    shutil.rmtree(settings.runs)
    turn(settings)
    settings = another_prompt(settings)

    versions = []
    for _ in range(2):
        turn(settings)
        with opened(settings) as (store, _):
            versions.append(retrainings.latest(store)[0].detail["suite"])

    assert versions == [3, 3]
    assert suite_versions(settings.suite) == [2, 3]


def test_a_turn_of_another_base_is_abandoned_before_anything_is_loaded(after, tmp_path):
    settings = after()
    with opened(settings) as (store, _):
        detail = {**retrainings.latest(store)[0].detail, "base": "some/model@" + "0" * 40}
        retrainings.begin(store, actor=ACTOR, detail=detail)

        ended = retrain(store, None, settings, actor=ACTOR, if_due=True)

        [latest] = retrainings.latest(store, limit=1)
    assert ended.outcome == "not due"
    assert latest.outcome == "abandoned"
    assert latest.detail["why"].startswith("the base changed from some/model@0000")


def test_a_champion_of_another_base_is_not_gone_on_from_and_everything_is_taught_anew(
    after, bases, tmp_path
):
    settings = after()
    act(settings, registry.promote, 1, reason="the gate passed it")
    place = shutil.copytree(base.named(bases), base.named(tmp_path / "bases"))
    (place / "config.json").write_text((place / "config.json").read_text() + " ")
    settings = learned.settings(settings.home, tmp_path / "bases")
    quick, said = RECIPE.model_copy(update={"epochs": 1, "alphas": (1.0,)}), []

    ended = turn(settings, rules=EASY, recipe=quick, telling=Telling(note=said.append))

    with opened(settings) as (store, _):
        before, model = registry.every(store)
        run = retrainings.latest(store, limit=1)[0]
    assert [line for line in said if "another base" in line] == [
        "diag-v1 was trained on another base: this turn begins at the base itself and teaches "
        "everything anew; diag-v1 counts by what is kept of its answers"
    ]
    assert (ended.version, model.parent, run.detail["beside"]) == (2, None, 1)
    assert model.base_hash != before.base_hash
    # All that the first was taught is new to this one, and its answers to this suite are compared.
    runs = [settings.runs / m.run_id / "mixture.json" for m in (before, model)]
    first, second = (json.loads(run.read_text())["counts"]["new incidents"] for run in runs)
    assert first == second
    assert ended.examined.verdict.champion == "diag-v1"


def test_a_turn_whose_suite_was_damaged_says_so_and_the_next_one_freezes_another(anew):
    settings = anew(TRAINING_LEAST_ROWS="9999")
    shutil.rmtree(settings.runs)
    with pytest.raises(KeyboardInterrupt):
        turn(settings, telling=cut_off("frozen"))
    [cases] = settings.suite.glob("v*/cases.jsonl")
    cases.write_text("")

    with pytest.raises(SuiteUnsound, match="was changed after it was frozen"):
        turn(settings)
    ended = turn(settings)

    assert ended.outcome == "too little"
    assert killed.standing(settings).outcomes == ("too little", "abandoned")
    assert suite_versions(settings.suite) == [2, 3]


def test_what_was_forgotten_while_it_was_judged_keeps_the_model_from_being_promoted(anew):
    settings = anew(TRAINING_AUTO_PROMOTE="true")

    def forgotten(step):
        if step == "judged":
            with opened(settings) as (store, _):
                model = registry.get(store, 1)
                lesson = min(taught(store, model.dataset))
                store.forget(lesson, actor=ACTOR, reason="asked to")

    ended = turn(settings, rules=EASY, telling=Telling(done=forgotten))

    assert ended.outcome == "passed"
    assert "which was forgotten since" in ended.words
    assert pointer(settings).champion is None
    assert killed.standing(settings).step is None


def test_of_two_at_once_the_second_says_that_it_is_busy(anew):
    settings = anew()
    second = []

    def meanwhile(step):
        if step == "exported":
            other = threading.Thread(target=lambda: second.append(turn(settings, rules=EASY)))
            other.start()
            other.join()

    ended = turn(settings, rules=EASY, telling=Telling(done=meanwhile))

    assert ended.outcome == "passed"
    assert [(s.outcome, s.exit_code) for s in second] == [("busy", EXIT["busy"])]


def test_a_turn_does_not_wait_for_mlflow(first):
    settings, ended = first

    assert "it waits in" in ended.waits_for_mlflow
    assert tracking.waiting(settings.home) == [
        tracking.Finished(run=ended.run, evaluations=(ended.examined.folder.name,))
    ]


def test_too_few_new_rows_are_no_model(bases, tmp_path):
    settings = learned.home(tmp_path / "home", bases, TRAINING_LEAST_ROWS="100000")

    ended = turn(settings)

    assert (ended.outcome, ended.exit_code) == ("too little", 13)
    assert "wait for more resolved incidents" in ended.words
    found = killed.standing(settings)
    assert (found.models, found.champion, found.step) == (0, "the base", None)
    assert found.acts["retraining.too little"] == 1


def test_without_cases_to_prove_anything_no_model_is_made(tmp_path):
    settings = load({"SCARWISE_HOME": str(tmp_path), "SCARWISE_TRAINING_BASE": str(tmp_path)})
    with opened(settings) as (store, _):
        alike = [i for i in incidents(SEED, 1, SIZE) if i.cause_family == "e1-00"]
        store.put(alike[:4], actor=ACTOR)

    ended = turn(settings)

    assert ended.outcome == "too little"
    assert "a family needs 5" in ended.words
    assert killed.standing(settings).step is None


def test_a_base_that_is_not_there_is_one_line_and_changes_nothing(anew, tmp_path):
    settings = anew(TRAINING_BASES=str(tmp_path / "nowhere"))

    with pytest.raises(ModelUnsound, match=r"is not made yet .*; `scarwise base build` makes it"):
        turn(settings)

    found = killed.standing(settings)
    assert (found.models, found.champion, found.outcomes) == (0, "the base", ())


def test_a_turn_that_was_killed_is_finished_once_by_the_next(anew, bases):
    settings = anew(TRAINING_AUTO_PROMOTE="true")
    shutil.rmtree(settings.runs)

    for point in ("exported", "training", "promoted"):
        assert killed.run(settings, bases, point) == -signal.SIGKILL
        assert killed.standing(settings).is_whole
    assert turn(settings, rules=EASY).outcome == "promoted"

    assert killed.standing(settings).is_done_once


@pytest.mark.parametrize("point", ["exporting", "promoted"])
def test_a_turn_that_is_asked_to_stop_leaves_a_journal_that_the_next_one_goes_on_with(anew, point):
    settings = anew(TRAINING_AUTO_PROMOTE="true")
    telling = killed.deadly(point, settings, signal.SIGTERM)

    with pytest.raises(SystemExit) as ended, stoppable():
        turn(settings, rules=EASY, telling=telling)

    assert ended.value.code == TERMINATED
    found = killed.standing(settings)
    assert found.is_whole
    left = {"exporting": "frozen", "promoted": "judged"}
    assert found.step == left[point]
    assert turn(settings, rules=EASY).outcome == "promoted"
    assert killed.standing(settings).is_done_once


@pytest.fixture
def on_postgres(bases, first, tmp_path, mortal_postgres):
    """As `anew`, over a server that a test may stop and start."""
    url = mortal_postgres.url.render_as_string(hide_password=False)
    promote = {"TRAINING_AUTO_PROMOTE": "true"}
    found = learned.home(tmp_path / "home", bases, STORE_URL=url, **promote)
    for folder in ("runs", "evals"):
        shutil.copytree(first[0].home / folder, found.home / folder)
    return found


def test_a_turn_whose_postgresql_dies_says_so_and_is_finished_once_by_the_next(
    on_postgres, mortal_postgres
):
    for point in ("exported", "judged", "promoted"):
        dies = Telling(done=lambda step, at=point: mortal_postgres.stop() if step == at else None)
        with pytest.raises(StoreUnreachable, match=r"the database postgresql.* cannot be used"):
            turn(on_postgres, rules=EASY, telling=dies)
        mortal_postgres.start()
        found = killed.standing(on_postgres)
        assert (found.is_whole, found.step) == (True, "judged" if point == "promoted" else point)

    assert turn(on_postgres, rules=EASY).outcome == "promoted"
    assert killed.standing(on_postgres).is_done_once


def test_a_turn_that_has_ended_has_ended_though_postgresql_dies_before_it_says_so(
    on_postgres, mortal_postgres
):
    dies = Telling(note=lambda line: mortal_postgres.stop() if line == "telling MLflow" else None)

    ended = turn(on_postgres, rules=EASY, telling=dies)
    mortal_postgres.start()

    assert ended.outcome == "promoted"
    assert killed.standing(on_postgres).is_done_once


def test_a_clock_that_goes_back_between_the_steps_changes_nothing(anew):
    settings, now = anew(TRAINING_AUTO_PROMOTE="true"), [utcnow()]

    def back(step):
        now[0] -= timedelta(days=3)

    ended = turn(settings, rules=EASY, telling=Telling(done=back), clock=lambda: now[0])

    assert ended.outcome == "promoted"
    found = killed.standing(settings)
    assert (found.is_done_once, found.trail_holds) == (True, True)


FULL = OSError(errno.ENOSPC, "No space left on device")


def refused(*_, **__):
    raise FULL


def test_a_turn_that_was_killed_just_after_it_froze_its_cases_freezes_no_more(anew, monkeypatch):
    settings, advance = anew(), retrainings.advance

    def cut_off(store, run, step, **made):
        if step == "frozen":
            raise KeyboardInterrupt
        return advance(store, run, step, **made)

    with monkeypatch.context() as cutting:
        cutting.setattr(retrainings, "advance", cut_off)
        with pytest.raises(KeyboardInterrupt):
            turn(settings, rules=EASY)
    with opened(settings) as (store, _):
        before = embargoed(store)
    turn(settings, rules=EASY)

    with opened(settings) as (store, _):
        assert embargoed(store) == before


def test_turns_of_which_no_model_came_take_no_more_cases_each_time(anew):
    settings = anew(TRAINING_LEAST_ROWS="9999")
    shutil.rmtree(settings.runs)

    found = []
    for _ in range(2):
        assert turn(settings).outcome == "too little"
        with opened(settings) as (store, _):
            found.append(embargoed(store))

    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("where", "what", "instead", "step"),
    [
        (rows, "write", refused, "frozen"),
        (adapters, "shutil", SimpleNamespace(copyfile=refused), "trained"),
        (transcript, "os", SimpleNamespace(fsync=refused), "registered"),
        (tracking.Finished, "model_dump_json", refused, "judged"),
    ],
    ids=["export", "adapter", "transcript", "note for MLflow"],
)
def test_a_full_disk_ends_a_turn_that_the_next_one_finishes(
    anew, monkeypatch, where, what, instead, step
):
    settings = anew()
    if where is transcript:
        [answered] = settings.evals.glob("diag-v1-v*/retrieval.jsonl")
        answered.unlink()
    with monkeypatch.context() as full:
        full.setattr(where, what, instead)
        with pytest.raises(StoreFull, match=r"no room is left for .*; free some, then try again"):
            turn(settings, rules=EASY)
    found = killed.standing(settings)
    assert (found.step, found.champion) == (step, "the base")

    assert turn(settings, rules=EASY).outcome == "passed"

    found = killed.standing(settings)
    assert (found.models, found.step) == (1, None)
    assert found.acts["dataset.exported"] == found.acts["model.judged"] == 1


@pytest.fixture
def rarely(tmp_path):
    """Settings under which hardly anything is due, of a base that is nobody's."""

    def made(**instead):
        told = {"DUE_INCIDENTS": "1000", "DUE_DAYS": "30", "DUE_NOVELTY": "0.5", **instead}
        environment = {f"SCARWISE_TRAINING_{name}": value for name, value in told.items()}
        environment["SCARWISE_TRAINING_BASE"] = str(tmp_path / "base")
        return load({"SCARWISE_HOME": str(tmp_path), **environment})

    return made


def put(store):
    store.put(list(incidents(SEED, 0, SIZE)), actor=ACTOR)


def test_a_few_new_incidents_are_not_due(store, rarely):
    put(store)

    found = due(store, rarely())

    assert not found.due
    assert "it takes 1000 (or 30 days, or 50% novel answers)" in found.words


def test_enough_new_incidents_are_due(store, rarely):
    put(store)

    assert due(store, rarely(DUE_INCIDENTS="20")).due


def test_after_a_month_a_few_new_incidents_are_due(store, rarely, clock):
    put(store)
    run = retrainings.begin(store, actor=ACTOR, detail={})
    retrainings.finish(store, run, "held", actor=ACTOR)
    clock.forward(days=29)
    assert not due(store, rarely()).due

    clock.forward(days=1)

    assert due(store, rarely()).due


def test_new_incidents_are_due_when_half_of_the_answers_were_novel(store, rarely, clock):
    put(store)
    asked = [
        KeptQuery(f"q-{n}", clock(), "diagnose", "?", "novel" if n % 2 else "known", 1.0)
        for n in range(50)
    ]
    keep(store, asked)

    assert due(store, rarely()).words == "50% of the last 50 questions were novel"
    assert not due(store, rarely(DUE_NOVELTY="0.6")).due


def test_without_a_new_incident_nothing_is_due(store, rarely, clock):
    assert not due(store, rarely(DUE_INCIDENTS="1", DUE_DAYS="1", DUE_NOVELTY="0")).due


def test_a_turn_that_is_not_due_says_so_and_loads_nothing_heavy(after):
    settings = after()
    script = (
        "import sys\n"
        "from serving.cli import app\n"
        "try: app(['retrain', '--if-due', '--json'], prog_name='scarwise')\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'mlflow', 'matplotlib', 'onnxruntime'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "SCARWISE_HOME": str(settings.home),
        "SCARWISE_TRAINING_BASES": settings.training.bases,
        "SCARWISE_TRAINING_DUE_INCIDENTS": "1000",
    }

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert done.stderr.splitlines()[-1] == f"{EXIT['not due']} []"
    assert json.loads(done.stdout)["outcome"] == "not due"
