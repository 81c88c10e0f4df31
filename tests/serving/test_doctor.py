"""What `scarwise doctor` says of the learning loop, and who else is told of a tainted champion."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from ingest import lessons, retrainings
from serving.doctor import findings
from serving.footing import Footing, recipe_of
from serving.service import open_store
from tests.serving import tiny
from tests.serving.browser import put
from tests.serving.conftest import incident
from training import adapters, base, registry
from training.tracking import Finished, leave

LOOP = ("base", "champion", "taint", "promotion", "retraining", "mlflow")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data folder with the offline base and one adapter of it; the base is a tiny one."""
    folder = tmp_path_factory.mktemp("made")
    tiny.base(folder / "bases" / "tiny")
    tiny.adapter(folder / "bases" / "tiny", folder / "adapters" / "diag-v1", tiny.SAYS[1], steps=2)
    place = base.named(folder / "bases")
    (folder / "bases" / "tiny").rename(place)
    (place / base.MADE).write_text("{}")
    return folder


@pytest.fixture
def settings(cold_settings):
    """Of an empty data folder; search by words is enough."""
    nowhere = cold_settings.retrieval.model_copy(update={"embedder": "/no/model"})
    return cold_settings.model_copy(update={"retrieval": nowhere})


@pytest.fixture
def store(settings):
    opened = open_store(settings)
    yield opened
    opened.close()


@pytest.fixture
def champion(settings, store, made):
    """The data folder with its adapter promoted."""
    shutil.copytree(made, settings.home, dirs_exist_ok=True)
    tiny.register(store, settings.home, 1)
    registry.promote(store, 1, actor="lead", reason="it passed")
    return settings


def look(settings):
    """What is said of the loop, and what is to be done where it is not fine."""
    told = {f.check: f for f in findings(settings) if f.check in LOOP}
    assert all(f.ok != bool(f.do) for f in told.values())
    return {check: (f.found, f.do) for check, f in told.items()}


def test_before_anything_was_learned_nothing_is_wrong(settings):
    name = base.named(settings.bases).name

    assert look(settings) == {
        "base": (f"{name}, not made yet; only learning needs it: `scarwise base build`", ""),
        "retraining": ("none yet", ""),
        "mlflow": ("told of every run", ""),
    }


def test_without_a_champion_the_doctor_reads_no_weights(environment, settings):
    script = (
        "import sys\nfrom serving.doctor import findings\nfrom serving.settings import load\n"
        "print(len(findings(load())), 'torch' in sys.modules, 'mlflow' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**environment, "SCARWISE_RETRIEVAL_EMBEDDER": "/no/model"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout.split()[1:] == ["False", "False"]


def test_a_sound_champion_on_its_base_is_fine(champion):
    name = base.named(champion.bases).name

    assert look(champion) == {
        "base": (f"{name}, which diag-v1 was trained on", ""),
        "champion": ("diag-v1, its files are what was registered", ""),
        "retraining": ("none yet", ""),
        "mlflow": ("told of every run", ""),
    }


def test_an_adapter_that_was_changed_is_found(champion):
    path = champion.home / "adapters" / "diag-v1" / adapters.WEIGHTS
    path.write_bytes(path.read_bytes()[:-1])

    found, todo = look(champion)["champion"]

    assert "is not what was sealed" in found
    assert todo == "restore its folder, or `scarwise rollback`"


def test_an_adapter_sealed_anew_is_not_the_one_that_was_registered(champion, store):
    folder = champion.home / "adapters" / "diag-v1"
    told = adapters.manifest(folder)
    tiny.adapter(base.named(champion.bases), folder, tiny.SAYS[2], steps=3)
    assert adapters.manifest(folder).sha256 != told.sha256

    found, _ = look(champion)["champion"]

    assert found == "diag-v1: its weights are not those that were registered"


def test_a_champion_whose_base_is_gone_is_found(champion):
    shutil.rmtree(champion.bases)

    found, todo = look(champion)["base"]

    assert found.startswith("diag-v1 is not served: the base ")
    assert todo == "`scarwise base build`, or restore the folder"


def test_a_champion_of_an_earlier_version_s_base_is_found(champion):
    named = base.named(champion.bases)
    named.rename(champion.bases / "offline-earlier")

    found, todo = look(champion)["base"]

    assert found == f"diag-v1 stands on offline-earlier, and this version learns on {named.name}"
    assert todo.startswith("it is served on; `scarwise retrain` begins at the present base")


def test_a_base_from_the_hub_is_left_to_whoever_loads_it(settings):
    other = settings.training.model_copy(update={"base": "some/model"})

    told = look(settings.model_copy(update={"training": other}))

    assert told["base"] == ("some/model, looked at when it is loaded", "")


def test_a_frozen_registry_is_told_and_is_no_fault(settings, store):
    registry.freeze(store, actor="lead", reason="holidays")

    assert look(settings)["promotion"] == (
        "frozen: nothing is promoted until `scarwise thaw`",
        "",
    )


def begun(settings, store, **instead):
    """A turn that was cut off after its training."""
    told = recipe_of(settings).model_dump(mode="json")
    detail = {**Footing.of(settings).told, "champion": None, "recipe": told, **instead}
    run = retrainings.begin(store, actor="job", detail=detail)
    return retrainings.advance(store, run, "trained", actor="job")


def test_a_turn_that_was_cut_off_is_found_and_one_that_is_on_is_fine(settings, store):
    run = begun(settings, store)

    cut_off = look(settings)["retraining"]
    with FileLock(settings.home / "retrain.lock"):
        on = look(settings)["retraining"]

    said = f"retraining 1, begun {run.started_at:%Y-%m-%d %H:%M} UTC, got to 'trained'"
    assert cut_off == (f"{said} and was cut off", "`scarwise retrain` finishes it")
    assert on == (f"{said} and is running", "")


@pytest.mark.parametrize(
    ("instead", "why"),
    [
        ({"prompt": "0" * 16}, "the prompt changed"),
        ({"base": "some/model"}, "the base changed from some/model to offline-"),
        ({"recipe": {"name": "small", "rank": 8}}, "its recipe is of another version"),
    ],
)
def test_a_turn_that_can_never_be_finished_is_told_with_the_way_out(settings, store, instead, why):
    begun(settings, store, **instead)

    found, todo = look(settings)["retraining"]

    assert f"; it cannot be finished: {why}" in found
    assert todo == "`scarwise retrain` closes it, loses nothing that was kept, and begins anew"


def test_how_the_last_turn_ended_is_told(settings, store):
    run = retrainings.finish(store, begun(settings, store), "held", actor="job")

    at = f"{run.updated_at:%Y-%m-%d %H:%M} UTC"
    assert look(settings)["retraining"] == (f"retraining 1 ended on {at}: held", "")


def test_a_champion_of_an_earlier_prompt_is_told_with_the_way_out(settings, store, made):
    shutil.copytree(made, settings.home, dirs_exist_ok=True)
    tiny.register(store, settings.home, 1, prompt_hash="0" * 16)
    registry.promote(store, 1, actor="lead", reason="it passed")

    found, todo = look(settings)["base"]

    assert found == "diag-v1 is not served: it was trained under an earlier prompt"
    assert todo.startswith("`scarwise retrain` begins at the present base and teaches everything")


def test_a_champion_of_another_base_than_the_settings_name_is_told(champion):
    place = base.named(champion.bases)
    mine = shutil.copytree(place, champion.home / "mine")
    named = champion.training.model_copy(update={"base": str(mine)})
    settings = champion.model_copy(update={"training": named})
    same = look(settings)["base"]
    (mine / "config.json").write_text((mine / "config.json").read_text() + " ")

    found, todo = look(settings)["base"]

    assert same == (f"{mine}, which diag-v1 was trained on", "")
    assert found == f"diag-v1 is not served: it was trained on another base than {mine}"
    assert todo.startswith("set training.base back, or `scarwise retrain`")


def test_runs_that_mlflow_was_not_told_are_counted(settings):
    for run in ("run-1", "run-2"):
        leave(settings.home, Finished(run=run))

    assert look(settings)["mlflow"] == (
        "2 runs wait to be told",
        "start MLflow; the next `scarwise retrain` tells it",
    )


def test_a_champion_that_knows_what_was_forgotten_is_told_everywhere(client, cold):
    [id] = put(client, incident())
    with cold.store.transaction("job") as writing:
        lessons.register_dataset(writing, "ds-1", {}, [(id, 1)])
    registry.register(
        cold.store, dataset="ds-1", base_hash="b" * 16, prompt_hash="p" * 16,
        adapter_sha256="a" * 64, folder="adapters/x", run_id=None, parent=None, verdict="pass",
        report={}, metrics={}, actor="job",
    )  # fmt: skip
    registry.promote(cold.store, 1, actor="lead", reason="it passed")
    before = client.get("/readyz").json(), client.get("/metrics").text
    cold.store.forget(id, actor="lead", reason="asked to")

    said = client.get("/readyz")
    sentence = (
        "diag-v1 was taught 1 incident that was forgotten since; retrain and promote, or "
        "`scarwise rollback`"
    )

    assert said.status_code == 200
    assert said.json()["status"] == before[0]["status"]
    assert sentence in said.json()["why"]
    assert "scarwise_champion_tainted 0.0" in before[1]
    assert "scarwise_champion_tainted 1.0" in client.get("/metrics").text
    assert look(cold.settings)["taint"][0] == sentence


def test_what_is_found_wrong_is_the_exit_code_of_doctor(environment, store):
    retrainings.begin(store, actor="job", detail={})

    done = subprocess.run(
        [Path(sys.executable).with_name("scarwise"), "doctor", "--json"],
        env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip

    wrong = [f["check"] for f in json.loads(done.stdout) if not f["ok"]]
    assert (done.returncode, wrong) == (5, ["retraining"])
