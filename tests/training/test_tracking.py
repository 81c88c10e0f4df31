"""MLflow shows what the store and the data folder hold, once, whatever happens on the way."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from ingest.errors import Refused
from tests.training.runs import CURVE, finished_evaluation, finished_run, manifest, register
from training import mlflow_adapters, registry, tracking
from training.mlflow_place import MlflowUnreachable, Place, client_of
from training.tracking import Finished

pytestmark = [
    # MLflow 3.17 asks SQLAlchemy 2.1 for what that one deprecates.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
ROOT = Path(__file__).parents[2]
CURVES = ("train/loss", "train/tokens_per_s")
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


def tell(place, store, name, **more):
    tracking.leave(place.home, Finished(run=name, **more))
    return tracking.flush(place, store)


def test_a_run_is_shown_with_its_recipe_data_curve_cost_scores_and_adapter(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    manifest(place.home)
    register(store, place.home, "r1", sha="a1", metrics=METRICS)

    [told] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    client = client_of(place)
    run = client.get_run(told.mlflow_run)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "diag-v1")
    assert run.info.end_time - run.info.start_time == 36_250
    assert run.data.params == {
        "seed": "7",
        "dataset": "ds-0123456789ab",
        "alphas": "[0.85, 1.0]",
        "quota.base": "12",
    }
    assert {k: v for k, v in run.data.metrics.items() if k not in CURVES} == {
        "ACC": 0.862,
        "BWT": -0.122,
        "eras/era 1": 0.833,
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
        "suite/arms/era 0/base": 0.854,
        "suite/arms/era 0/adapter_retrieval": 0.854,
        "suite/arms/era 1/base": 0.854,
        "suite/arms/era 1/adapter_retrieval": 0.854,
        "suite/slices/era 1 retrieval": 0.854,
        "suite/matrix/rows/0/0": 0.992,
        "suite/matrix/rows/1/0": 0.958,
        "suite/matrix/rows/1/1": 0.854,
        "suite/matrix/BWT": -0.034,
    }
    losses = client.get_metric_history(told.mlflow_run, "train/loss")
    assert [(p.step, p.value) for p in losses] == [(p["step"], p["loss"]) for p in CURVE]
    assert run.data.tags["env.device"] == "cpu"
    assert run.data.tags["scarwise.verdict"] == "pass"
    [data] = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("ds-0123456789ab", "0123456789ab")
    assert sorted(files(place, told.mlflow_run)) == [
        "cost.json",
        "curve.jsonl",
        "dataset/manifest.json",
        "environment.json",
        "evals/diag-v1-v3/arms.json",
        "evals/diag-v1-v3/gate.json",
        "evals/diag-v1-v3/gate.md",
        "evals/diag-v1-v3/matrix.json",
        "evals/diag-v1-v3/slices.json",
        "mixture.json",
        "recipe.json",
        "sweep.json",
    ]
    [model] = client.search_logged_models([told.experiment])
    assert (model.name, model.source_run_id, model.status) == ("diag-v1", told.mlflow_run, "READY")
    assert {m.key for m in model.metrics} > {"ACC", "BWT", "suite/slices/era 1 retrieval"}
    weights = [f.path for f in client.list_logged_model_artifacts(model.model_id)]
    assert sorted(weights) == [
        "MLmodel",
        "adapter_config.json",
        "adapter_model.safetensors",
        "manifest.json",
    ]
    [version] = all_versions(place)
    assert version.tags == {
        "scarwise.version": "diag-v1",
        "scarwise.sha256": "a1",
        "scarwise.prompt_hash": "p1",
        "scarwise.base_hash": "b1",
        "scarwise.verdict": "pass",
    }
    assert aliases(place) == {"challenger": "1"}


def test_telling_a_run_again_changes_nothing(place, store):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    register(store, place.home, "r1", sha="a1", metrics=METRICS)
    [first] = tell(place, store, "r1", evaluations=("diag-v1-v3",))
    before = all_runs(place)[0].data.to_dictionary()

    [second] = tell(place, store, "r1", evaluations=("diag-v1-v3",))

    assert second == first
    [run] = all_runs(place)
    assert run.data.to_dictionary() == before
    client = client_of(place)
    assert len(client.get_metric_history(first.mlflow_run, "train/loss")) == len(CURVE)
    assert len(client.get_metric_history(first.mlflow_run, "ACC")) == 1
    [model] = client.search_logged_models([first.experiment])
    assert len([m for m in model.metrics if m.key == "ACC"]) == 1
    assert len(all_versions(place)) == 1


# Each is the last step that a killed upload still did not do.
STEPS = [
    "_tell_run",
    "_tell_points",
    "_tell_files",
    "_tell_verdict",
    "_tell_evaluation",
    "mirror",
]


@pytest.mark.parametrize("step", STEPS)
def test_an_upload_that_was_killed_is_finished_by_the_next_one(place, store, monkeypatch, step):
    finished_run(place.home, "r1")
    finished_evaluation(place.home, "diag-v1-v3", share=0.854)
    register(store, place.home, "r1", sha="a1", metrics=METRICS)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(tracking, step, killed)
        with pytest.raises(KeyboardInterrupt):
            tell(place, store, "r1", evaluations=("diag-v1-v3",))
    tracking.flush(place, store)

    [run] = all_runs(place)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["suite/slices/era 1 retrieval"] == 0.854
    history = client_of(place).get_metric_history(run.info.run_id, "train/loss")
    assert len(history) == len(CURVE)
    assert len(all_versions(place)) == 1
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

    [run] = all_runs(place)
    assert run.data.metrics["suite/slices/era 1 retrieval"] == 0.9
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
    assert version.tags["scarwise.version"] == "diag-v1"
    assert aliases(place) == {"champion": str(version.version)}


def test_a_verdict_that_came_later_is_on_the_version(place, store):
    finished_run(place.home, "r1")
    register(store, place.home, "r1", sha="a1", verdict=None)
    tell(place, store, "r1")
    registry.judge(store, 1, verdict="fail", report={}, metrics={}, actor="test")

    tracking.mirror(place, store)

    [version] = all_versions(place)
    assert version.tags["scarwise.verdict"] == "fail"


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

    assert dict(tracking.numbers(scores, "×")) == {
        "_/a": 1.0,
        "_/e/f/0": 0.5,
        "_/rows/era 1 retrieval": 0.5,
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
    [run] = all_runs(place)
    assert run.data.metrics["ACC"] == 0.862
    assert "evals/diag-v1-v3/gate.md" in files(place, told.mlflow_run)
    [model] = client_of(place).search_logged_models([told.experiment])
    weights = [f.path for f in client_of(place).list_logged_model_artifacts(model.model_id)]
    assert "adapter_model.safetensors" in weights
    assert aliases(place) == {"challenger": "1"}
    assert httpx.get(tracking.compare_url(place, [told])).status_code == 200


@pytest.fixture(scope="module")
def server(empty_mlflow, tmp_path_factory):
    """The address of a tracking server of our own."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_mlflow, folder / "mlflow.db")
    port = free_port()
    command = [
        sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
        # A browser's open connection is not worth the wait.
        "--uvicorn-opts", "--timeout-graceful-shutdown 1",
    ]  # fmt: skip
    spare = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=os.environ | spare
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


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
