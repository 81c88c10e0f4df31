"""MLflow shows what the store and the data folder hold, once, whatever happens on the way."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from sqlalchemy import create_engine, text

from ingest.errors import Refused
from ingest.incident import Incident
from tests.training.runs import (
    CURVE,
    export,
    finished_evaluation,
    finished_run,
    manifest,
    register,
)
from training import mlflow_adapters, mlflow_runs, registry, tracking
from training.mlflow_place import MlflowUnreachable, Place, client_of
from training.tracking import Finished

pytestmark = [
    # MLflow 3.17 asks SQLAlchemy 2.1 for what that one deprecates.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
ROOT = Path(__file__).parents[2]
CURVES = ("train/loss", "train/tokens_per_s")
REPORT = {"in_one_sentence": "diag-v1 may replace base.", "measured_on": {"suite": "v3 (0123)"}}
METRICS = {"ACC": 0.862, "BWT": -0.122, "eras": {"era 1": 0.833}, "unscored": None}


@pytest.fixture(scope="module")
def empty_mlflow(tmp_path_factory):
    """MLflow's database without a run: its tables take half a minute of migrations."""
    home = tmp_path_factory.mktemp("mlflow")
    client_of(Place(home)).search_experiments()
    return home / "mlflow.db"


@pytest.fixture
def place(empty_mlflow, tmp_path):
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return Place(tmp_path)


@pytest.fixture
def store(sqlite_store):
    return sqlite_store


def all_runs(place):
    client = client_of(place)
    return client.search_runs([client.get_experiment_by_name(place.experiment).experiment_id])


def all_versions(place):
    return client_of(place).search_model_versions(f"name = '{place.model}'")


def aliases(place):
    found = client_of(place).get_registered_model(place.model).aliases
    return {alias: str(version) for alias, version in found.items()}


def files(place, run, below=None):
    found = client_of(place).list_artifacts(run, below)
    return [
        f for info in found for f in (files(place, run, info.path) if info.is_dir else [info.path])
    ]


def incidents(place, run):
    """The table of what taught this run's adapter, as it opens."""
    table = client_of(place).download_artifacts(run, "lineage/incidents.csv")
    return Path(table).read_text().splitlines()


def tell(place, store, name, **more):
    tracking.leave(place.home, Finished(run=name, **more))
    return tracking.flush(place, store)


def test_a_run_is_shown_with_its_recipe_data_curve_cost_scores_and_adapter(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    manifest(place.home)
    data = export(store, ("inc-1", 1), ("inc-1", 2), ("inc-2", 1))
    register(store, place.home, "r1", sha="a1", report=REPORT, dataset=data)

    [told] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    client = client_of(place)
    run = client.get_run(told.mlflow_run)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "diag-v1")
    assert run.info.end_time - run.info.start_time == 36_250
    assert run.data.params == {
        "dataset": "ds-0123456789ab",
        "recipe": "none",
        "replay": "none",
        "train.seed": "7",
        "train.alphas": "[0.85, 1.0]",
        "train.quota.base": "12",
    }
    assert {k: v for k, v in run.data.metrics.items() if k not in CURVES} == {
        "right/kept": 0.854,
        "suite/era 1 with retrieval": 0.854,
        "train/cost/cpu_s": 31.5,
        "train/cost/wall_s": 36.25,
        "train/cost/tokens": 231_000,
        "train/cost/peak_rss_mb": 610.5,
        "train/mixture/new": 480,
        "train/mixture/rehearsed": 1056,
        "train/mixture/shards/general": 64,
        "train/sweep/0.85/new": 0.98,
        "train/sweep/0.85/kept": 0.85,
        "train/sweep/1.0/new": 0.98,
        "train/sweep/1.0/kept": 1.0,
    }
    losses = client.get_metric_history(told.mlflow_run, "train/loss")
    assert [(p.step, p.value) for p in losses] == [(p["step"], p["loss"]) for p in CURVE]
    assert run.data.tags["env.device"] == "cpu"
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("ds-0123456789ab", "0123456789ab")
    assert f"runs/{told.mlflow_run}/artifacts/dataset/manifest.json" in data.dataset.source
    assert sorted(files(place, told.mlflow_run)) == [
        "cost.json",
        "curve.jsonl",
        "dataset/manifest.json",
        "environment.json",
        "evals/diag-v1-v3/arms.json",
        "evals/diag-v1-v3/figures.json",
        "evals/diag-v1-v3/gate.json",
        "evals/diag-v1-v3/gate.md",
        "evals/diag-v1-v3/matrix.json",
        "lineage/incidents.csv",
        "mixture.json",
        "recipe.json",
        "sweep.json",
    ]
    assert incidents(place, told.mlflow_run) == [
        "incident,version,first taught,by dataset,forgotten since",
        "inc-1,2,diag-v1,ds-0123456789ab,",
        "inc-2,1,diag-v1,ds-0123456789ab,",
    ]
    [model] = client.search_logged_models([told.experiment])
    assert (model.name, model.source_run_id, model.status) == ("diag-v1", told.mlflow_run, "READY")
    assert [m.model_id for m in run.outputs.model_outputs] == [model.model_id]
    assert {m.key for m in model.metrics} == {"right/kept", "suite/era 1 with retrieval"}
    weights = [f.path for f in client.list_logged_model_artifacts(model.model_id)]
    assert sorted(weights) == [
        "MLmodel",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    [version] = all_versions(place)
    said = {
        "model": "diag-v1",
        "verdict": "pass",
        "standing": "challenger",
        "dataset": "ds-0123456789ab",
        "suite": "v3",
        "prompt": "p1",
        "base": "b1",
        "scarwise.sha256": "a1",
    }
    assert version.tags == said
    assert said.items() <= run.data.tags.items()
    assert aliases(place) == {"challenger": "1"}


def test_a_version_leads_to_its_verdict_its_dataset_and_its_incidents(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    manifest(place.home)
    data = export(store, ("inc-1", 1), ("inc-2", 1))
    register(store, place.home, "r1", sha="a1", report=REPORT, dataset=data)

    [told] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    run = client_of(place).get_run(told.mlflow_run)
    [version] = all_versions(place)
    lines = version.description.splitlines()
    there = files(place, told.mlflow_run)
    assert lines[0] == "PASS: diag-v1 may replace base."
    assert "2 incidents" in lines[2]
    links = re.findall(rf"runs/{told.mlflow_run}/artifacts/([^?]+)", version.description)
    pictures = "evals/diag-v1-v3/matrix-retrieval.png"  # drawn by the turn, which is not run here
    assert set(links) - {pictures} == {
        "dataset/manifest.json",
        "lineage/incidents.csv",
        "evals/diag-v1-v3/gate.md",
    }
    assert set(links) - {pictures} <= set(there)
    assert run.data.tags["mlflow.note.content"] == version.description
    [model] = client_of(place).search_logged_models([told.experiment])
    assert model.tags["mlflow.note.content"] == version.description


def test_base_champion_and_challenger_stand_side_by_side_on_each_suite(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v2", share=0.8)
    register(store, place.home, "r1", sha="a1", report=REPORT)
    registry.promote(store, 1, actor="test", reason="a test")
    tell(place, store, "r1", evaluations=("diag-v1-v2",))
    finished_run(place.home, "r2")
    finished_evaluation(place.home, "diag-v2-v3", share=0.9, sha="a2", champion="a1")
    register(store, place.home, "r2", sha="a2", report=REPORT)

    tell(place, store, "r2", evaluations=("diag-v2-v3",))

    beside = tracking.shown(place, tracking.standing(store))
    client = client_of(place)
    kept = {
        client.get_run(r.mlflow_run).info.run_name: [
            (p.step, p.value) for p in client.get_metric_history(r.mlflow_run, "right/kept")
        ]
        for r in beside
    }
    assert kept == {
        "base": [(2, 0.13), (3, 0.13)],
        "diag-v1": [(2, 0.8), (3, 0.4)],
        "diag-v2": [(3, 0.9)],
    }
    experiment = client.get_experiment(beside[0].experiment)
    words = experiment.tags["mlflow.note.content"]
    assert "base, diag-v1, diag-v2 side by side" in words.splitlines()[0]
    assert all(r.mlflow_run in words for r in beside)
    view = json.loads(experiment.tags["mlflow.sharedViewState.scarwise"])
    assert "metrics.`right/kept`" in json.loads(view["state"])["selectedColumns"]


def test_a_model_that_was_taught_what_is_forgotten_says_so_by_ids_alone(place, store):
    known = Incident(source="test", source_id="1", title="the words of an incident")
    [receipt] = store.put([known], actor="test")
    finished_run(place.home, "r1")
    data = export(store, (receipt.id, 1), ("inc-2", 1))
    register(store, place.home, "r1", sha="a1", report=REPORT, dataset=data)
    [told] = tell(place, store, "r1")
    before = incidents(place, told.mlflow_run)
    store.forget(receipt.id, actor="test", reason="a test")

    tracking.flush(place, store)

    [version] = all_versions(place)
    assert version.tags["tainted"] == "taught 1 since forgotten"
    assert version.description.startswith(f"TAINTED: it was taught {receipt.id}, forgotten since.")
    row = f"{receipt.id},1,diag-v1,{data},"
    after = incidents(place, told.mlflow_run)
    assert row in before
    assert f"{row}yes" in after
    assert "words of an incident" not in "".join(after) + version.description


def test_telling_a_run_again_changes_nothing(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    register(store, place.home, "r1", sha="a1", metrics=METRICS)
    [first] = tell(place, store, "r1", evaluations=("diag-v1-v3",))
    before = client_of(place).get_run(first.mlflow_run).data.to_dictionary()

    [second] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    assert second == first
    run = client_of(place).get_run(first.mlflow_run)
    assert run.data.to_dictionary() == before
    client = client_of(place)
    assert len(client.get_metric_history(first.mlflow_run, "train/loss")) == len(CURVE)
    assert len(client.get_metric_history(first.mlflow_run, "right/kept")) == 1
    [model] = client.search_logged_models([first.experiment])
    assert len([m for m in model.metrics if m.key == "right/kept"]) == 1
    assert len(all_versions(place)) == 1


# Each is the last step that a killed upload still did not do.
STEPS = [
    (mlflow_adapters, "link_output"),
    (mlflow_runs, "tell_evaluation"),
    (mlflow_runs, "tell_run"),
    (tracking, "mirror"),
    (mlflow_adapters, "retell"),
]


@pytest.mark.parametrize(("module", "step"), STEPS)
def test_an_upload_that_was_killed_is_finished_by_the_next_one(
    place, store, monkeypatch, module, step
):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    data = export(store, ("inc-1", 1))
    register(store, place.home, "r1", sha="a1", report=REPORT, dataset=data)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            tell(place, store, "r1", evaluations=("diag-v1-v3",))
    tracking.flush(place, store)

    [run] = [r for r in all_runs(place) if r.info.run_name != "base"]
    assert (run.info.run_name, run.info.status) == ("diag-v1", "FINISHED")
    assert run.data.metrics["suite/era 1 with retrieval"] == 0.854
    history = client_of(place).get_metric_history(run.info.run_id, "train/loss")
    assert len(history) == len(CURVE)
    [version] = all_versions(place)
    assert (version.tags["verdict"], version.tags["standing"]) == ("pass", "challenger")
    assert len(incidents(place, run.info.run_id)) == 2
    assert aliases(place) == {"challenger": "1"}
    assert tracking.waiting(place.home) == []


def test_an_adapter_that_was_half_uploaded_is_uploaded_whole(place, store, monkeypatch):
    from mlflow import MlflowClient

    finished_run(place.home, "r1")
    register(store, place.home, "r1", sha="a1")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "finalize_logged_model", killed)
        with pytest.raises(KeyboardInterrupt):
            tell(place, store, "r1")
    [told] = tracking.flush(place, store)

    [model] = client_of(place).search_logged_models([told.experiment])
    assert model.status == "READY"


def test_scores_that_come_later_join_the_run_that_is_there(place, store):
    finished_run(place.home, "r1")
    tell(place, store, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.9)
    register(store, place.home, "r1", sha="a1")

    tell(place, store, "r1", evaluations=("diag-v1-v3",))

    [run] = [r for r in all_runs(place) if r.info.run_name == "diag-v1"]
    assert run.data.metrics["suite/era 1 with retrieval"] == 0.9
    assert len(all_versions(place)) == 1


def test_aliases_follow_the_stores_pointer_through_promotion_and_rollback(place, store):
    for number in (1, 2):
        finished_run(place.home, f"r{number}")
        register(store, place.home, f"r{number}", sha=f"a{number}")
        tracking.leave(place.home, Finished(run=f"r{number}"))
    tracking.flush(place, store)
    seen = [aliases(place)]

    for act, version in ((registry.promote, 1), (registry.promote, 2), (registry.rollback, None)):
        named = (store,) if version is None else (store, version)
        act(*named, actor="test", reason="a test")
        tracking.flush(place, store)
        seen.append(aliases(place))

    assert seen == [
        {"challenger": "2"},
        {"champion": "1", "challenger": "2"},
        {"champion": "2", "previous": "1"},
        {"champion": "1"},
    ]


def test_an_alias_that_was_moved_or_lost_in_mlflow_is_put_back(place, store):
    for number in (1, 2):
        finished_run(place.home, f"r{number}")
        register(store, place.home, f"r{number}", sha=f"a{number}")
        tracking.leave(place.home, Finished(run=f"r{number}"))
        registry.promote(store, number, actor="test", reason="a test")
    tracking.flush(place, store)
    client = client_of(place)
    client.delete_registered_model_alias(place.model, "champion")
    client.set_registered_model_alias(place.model, "previous", "2")
    client.set_registered_model_alias(place.model, "theirs", "1")

    known = tracking.mirror(place, store)

    assert known == {"champion": "2", "previous": "1"}
    assert aliases(place) == {"champion": "2", "previous": "1", "theirs": "1"}


def test_a_champion_that_was_deleted_in_mlflow_is_told_again(place, store):
    finished_run(place.home, "r1")
    register(store, place.home, "r1", sha="a1")
    registry.promote(store, 1, actor="test", reason="a test")
    tell(place, store, "r1")
    client_of(place).delete_model_version(place.model, "1")

    tracking.mirror(place, store)

    [version] = all_versions(place)
    assert version.tags["model"] == "diag-v1"
    assert aliases(place) == {"champion": str(version.version)}


def test_a_verdict_that_came_later_is_on_the_version(place, store):
    finished_run(place.home, "r1")
    register(store, place.home, "r1", sha="a1", verdict=None)
    tell(place, store, "r1")
    registry.judge(store, 1, verdict="fail", report={}, metrics={}, actor="test")

    tracking.mirror(place, store)

    [version] = all_versions(place)
    assert version.tags["verdict"] == "fail"


def test_a_server_that_is_down_is_said_so_at_once_and_loses_nothing(tmp_path, store):
    place = Place(tmp_path, uri=f"http://someone:secret@127.0.0.1:{free_port()}")
    finished_run(tmp_path, "r1")
    tracking.leave(tmp_path, Finished(run="r1"))

    with pytest.raises(MlflowUnreachable) as refused:
        tracking.flush(place, store)

    [line] = str(refused.value).splitlines()
    assert "http://127.0.0.1:" in line
    assert "nothing is lost" in line
    assert "secret" not in line + tracking.compare_url(place, [])
    assert tracking.waiting(tmp_path) == [Finished(run="r1")]


def test_a_database_that_cannot_be_opened_is_said_so_in_one_line(tmp_path, store):
    (tmp_path / "mlflow.db").write_text("not a database, whatever its name says")
    finished_run(tmp_path, "r1")
    tracking.leave(tmp_path, Finished(run="r1"))

    with pytest.raises(MlflowUnreachable, match=r"mlflow\.db was not told run r1"):
        tracking.flush(Place(tmp_path), store)

    assert tracking.waiting(tmp_path) == [Finished(run="r1")]


def test_what_is_left_of_one_run_adds_up(tmp_path):
    tracking.leave(tmp_path, Finished(run="r1", evaluations=("a",)))
    tracking.leave(tmp_path, Finished(run="r2"))
    tracking.leave(tmp_path, Finished(run="r1", evaluations=("b", "a")))

    assert tracking.waiting(tmp_path) == [
        Finished(run="r2"),
        Finished(run="r1", evaluations=("a", "b")),
    ]


def test_a_run_whose_folder_is_gone_waits_no_more(place, store):
    tracking.leave(place.home, Finished(run="r1"))

    assert tracking.flush(place, store) == []
    assert tracking.waiting(place.home) == []


def test_a_run_that_is_not_finished_is_refused(place):
    (finished_run(place.home, "r1") / "DONE").unlink()

    with pytest.raises(Refused, match="run r1 is not finished"):
        tracking.upload(place, Finished(run="r1"), None)


def test_only_finite_numbers_with_a_name_are_scores():
    rows = [{"cohort": "era 1", "arm": "retrieval", "share": 0.5}, {"case": "c1", "after": 1.0}]
    scores = {"a": 1, "b": None, "c": float("nan"), "d": True, "e/f": [0.5, "word"], "rows": rows}

    assert dict(mlflow_runs.numbers(scores, "×")) == {
        "_/a": 1.0,
        "_/e/f/0": 0.5,
        "_/rows/era 1 retrieval/share": 0.5,
    }


def test_the_first_use_says_nothing_sends_nothing_and_writes_nothing_elsewhere(tmp_path):
    script = (
        "import socket, sys\n"
        "def refuse(*a): raise AssertionError(f'somebody calls {a}')\n"
        "socket.socket.connect = refuse\n"
        "from pathlib import Path\n"
        "from serving.settings import without_telemetry\n"
        "without_telemetry()\n"
        "from training.mlflow_place import Place, client_of, experiment_of\n"
        "place = Place(Path(sys.argv[1]) / 'home')\n"
        "place.home.mkdir()\n"
        "experiment_of(client_of(place), place)\n"
        "from mlflow.telemetry import get_telemetry_client\n"
        "assert get_telemetry_client() is None\n"
    )
    plain = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=plain, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [p.name for p in tmp_path.iterdir()] == ["home"]
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["mlflow.db"]


def test_a_tracking_server_takes_runs_adapters_and_aliases(server, store, tmp_path):
    place = Place(tmp_path, uri=server)
    finished_run(tmp_path, "r1")
    finished_evaluation(tmp_path, "diag-v1-v3", share=0.854)
    register(store, tmp_path, "r1", sha="a1", metrics=METRICS)

    [told] = tell(place, store, "r1", evaluations=("diag-v1-v3",))
    [again] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    assert again == told == tracking.shown(place, ["r1", "r9"])[0]
    [run] = [r for r in all_runs(place) if r.info.run_name == "diag-v1"]
    assert run.data.metrics["right/kept"] == 0.854
    assert "evals/diag-v1-v3/gate.md" in files(place, told.mlflow_run)
    [model] = client_of(place).search_logged_models([told.experiment])
    weights = [f.path for f in client_of(place).list_logged_model_artifacts(model.model_id)]
    assert "adapter_model.safetensors" in weights
    assert aliases(place) == {"challenger": "1"}
    assert httpx.get(tracking.compare_url(place, [told])).status_code == 200


def test_a_server_on_postgresql_that_is_killed_meanwhile_is_told_the_rest_once(
    postgres, store, tmp_path
):
    address = f"http://127.0.0.1:{free_port()}"
    backend = database(postgres, f"mlflow_{os.getpid()}")
    place = Place(tmp_path, uri=address)
    for number in (1, 2):
        finished_run(tmp_path, f"r{number}")
        finished_evaluation(tmp_path, f"diag-v{number}-v3", share=0.9, sha=f"a{number}")
        register(store, tmp_path, f"r{number}", sha=f"a{number}", report=REPORT)
    process = serve(tmp_path, address, backend)
    try:
        wait_for(f"{address}/health", process)
        tell(place, store, "r1", evaluations=("diag-v1-v3",))
    finally:
        kill(process)

    with pytest.raises(MlflowUnreachable):
        tell(place, store, "r2", evaluations=("diag-v2-v3",))
    process = serve(tmp_path, address, backend)
    try:
        wait_for(f"{address}/health", process)
        with ThreadPoolExecutor(2) as both:
            told = list(both.map(lambda _: tracking.flush(place, store), range(2)))
        names = sorted(r.info.run_name for r in all_runs(place))
        versions = {v.tags["model"]: v.description.partition(":")[0] for v in all_versions(place)}
        seen = aliases(place)
    finally:
        kill(process)

    assert sorted(len(runs) for runs in told) == [0, 1]
    assert names == ["base", "diag-v1", "diag-v2"]
    assert versions == {"diag-v1": "PASS", "diag-v2": "PASS"}
    assert seen == {"challenger": "2"}
    assert tracking.waiting(tmp_path) == []


@pytest.fixture(scope="module")
def server(empty_mlflow, tmp_path_factory):
    """The address of a tracking server of our own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    address = f"http://127.0.0.1:{free_port()}"
    process = serve(folder, address, f"sqlite:///{folder / 'mlflow.db'}")
    try:
        wait_for(f"{address}/health", process)
        yield address
    finally:
        kill(process)


def serve(folder, address, backend):
    """A tracking server, as an operator starts one, in a process group of its own."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", address.rpartition(":")[2],
        "--workers", "1", "--backend-store-uri", backend,
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    spare = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | spare,
            start_new_session=True,
        )  # fmt: skip


def kill(process):
    """End the server and its workers, as a machine that goes down does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def database(postgres, name):
    """The address of an empty database on this server, which goes with the server."""
    engine = create_engine(postgres, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return postgres.set(database=name).render_as_string(hide_password=False)


def wait_for(url, process):
    for _ in range(600):
        assert process.poll() is None
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"{url} does not answer")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_aliases_are_those_of_the_pointer():
    assert set(mlflow_adapters.ALIASES) <= set(registry.Pointer.__slots__)
