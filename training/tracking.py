"""Finished runs told to MLflow, where people compare them: recipe, data, curves, scores, adapter.

The store and the data folder are the record and MLflow is a copy to look at, so nothing waits for
it: what is to be told lies in `spool/` until it was taken, and telling it twice changes nothing.
Predictions quote incidents and stay in the data folder; what leads from a model to the incidents
that taught it are ids.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ingest.errors import Refused
from ingest.lessons import datasets
from ingest.store import Store
from training import lineage, mlflow_adapters, mlflow_runs, mlflow_words, registry
from training.folders import in_our_words
from training.mlflow_place import Place, client_of, experiment_of, knock, telling
from training.mlflow_words import NOTE, Run, suite_of
from training.registry import Registered

log = logging.getLogger(__name__)


class Finished(BaseModel):
    """What is to be told of one run; the names are those of folders in the data folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    evaluations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """A run of ours, and what MLflow calls it."""

    run: str
    mlflow_run: str
    experiment: str


def leave(home: Path, finished: Finished) -> None:
    """Note that this run is to be told; what waits of the same run already stays noted."""
    note = _note(home, finished.run)
    if before := _read(note):
        both = (*before.evaluations, *finished.evaluations)
        finished = Finished(run=finished.run, evaluations=tuple(dict.fromkeys(both)))
    with in_our_words(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_suffix(".new")
        draft.write_text(finished.model_dump_json(), encoding="utf-8")
        draft.replace(note)


def waiting(home: Path) -> list[Finished]:
    """The runs that MLflow was not told yet, the first left first."""
    notes = sorted((home / "spool").glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    return [finished for note in notes if (finished := _read(note))]


def flush(place: Place, store: Store) -> list[Shown]:
    """Tell MLflow every run that waits, then let its aliases say what the store's pointer says.

    Raises `MlflowUnreachable` when it cannot be told; what was not told keeps waiting. Of two
    flushes at once the second waits for the first. Raises `StoreFull` on a disk without room.
    """
    from filelock import FileLock

    knock(place)
    spool, told = place.home / "spool", []
    with ExitStack() as held:
        with in_our_words(spool):
            spool.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(spool / "lock"))
        for finished in waiting(place.home):
            told += _tell_waiting(place, store, finished)
        mirror(place, store)
    return told


def upload(place: Place, finished: Finished, model: Registered | None) -> Shown:
    """Tell MLflow one run, and its adapter when it is registered; what it has stays as it is.

    What the adapter is now, its verdict and its standing, `mirror` says. Raises `Refused` for a
    run that is not finished, `MlflowUnreachable`.
    """
    folder = place.home / "runs" / finished.run
    if not (folder / "DONE").is_file():
        raise Refused(f"run {finished.run} is not finished: there is no {folder / 'DONE'}")
    knock(place)
    with telling(place, f"run {finished.run}"):
        client = client_of(place)
        experiment = experiment_of(client, place)
        known = mlflow_runs.found(client, experiment, finished.run)
        known = known or mlflow_runs.made(client, experiment, folder)
        run = Run(experiment, str(known.info.run_id))
        logged = _tell_adapter(client, place, known, run, model) if model else None
        figures = [
            mlflow_runs.tell_evaluation(client, run, place.home / "evals" / name)
            for name in finished.evaluations
        ]
        if model and logged and not any(figures):
            mlflow_runs.tell_metrics(client, run, model, logged)
        mlflow_runs.tell_dataset(client, run, place, folder)
        mlflow_runs.tell_run(client, known, folder)
    return Shown(finished.run, run.id, experiment)


def mirror(place: Place, store: Store) -> dict[str, str]:
    """Make MLflow say what the store says of every model; MLflow's version for each alias.

    MLflow lets an aliased version be deleted and drops the alias without a word: such a version is
    told again, where the folder of its run is still here. Raises `MlflowUnreachable`.
    """
    pointer = registry.pointer(store)
    models = {m.version: m for m in registry.every(store)}
    aliases = {a: getattr(pointer, a) for a in mlflow_adapters.ALIASES}
    wanted = {a: models[v] for a, v in aliases.items() if v is not None}
    knock(place)
    with telling(place, "who is champion"):
        client = client_of(place)
        experiment = experiment_of(client, place)
        there = mlflow_adapters.versions(client, place.model)
        for model in {m.version: m for m in wanted.values()}.values():
            if model.adapter_sha256 not in there and _can_be_told(place, model):
                upload(place, Finished(run=str(model.run_id)), model)
        there = mlflow_adapters.versions(client, place.model)
        counts = {d.name: int(d.manifest.get("incident_count", 0)) for d in datasets(store)}
        for model in models.values():
            if version := there.get(model.adapter_sha256):
                _retell(client, store, experiment, version, model, counts)
        known = {
            alias: str(there[m.adapter_sha256].version)
            for alias, m in wanted.items()
            if m.adapter_sha256 in there
        }
        mlflow_adapters.move_aliases(client, place.model, known)
        _tell_pages(client, place, experiment, _beside(client, experiment, there, wanted))
    return known


def shown(place: Place, runs: Sequence[str]) -> list[Shown]:
    """Those of these runs that MLflow knows, in this order. Raises `MlflowUnreachable`."""
    knock(place)
    with telling(place, "which runs to look for"):
        client = client_of(place)
        experiment = experiment_of(client, place)
        known = {name: mlflow_runs.found(client, experiment, name) for name in runs}
    return [Shown(name, run.info.run_id, experiment) for name, run in known.items() if run]


def standing(store: Store) -> list[str]:
    """The runs worth a comparison now: the base's, then previous, champion and challenger."""
    pointer = registry.pointer(store)
    versions = [pointer.previous, pointer.champion, pointer.challenger]
    models = [registry.get(store, v) for v in dict.fromkeys(versions) if v is not None]
    bases = [mlflow_runs.named_after(m.base_hash) for m in models[-1:]]
    return [*bases, *(str(m.run_id) for m in models)]


def runs_page(place: Place) -> str:
    """The address of the list of runs with verdicts and figures. Raises `MlflowUnreachable`."""
    with telling(place, "which experiment to look at"):
        experiment = experiment_of(client_of(place), place)
    return f"{place.address}/{mlflow_words.runs_page(experiment)}"


def compare_url(place: Place, runs: Sequence[Shown]) -> str:
    """The page on which MLflow puts these runs side by side; see `Place.command` to start it."""
    experiments = sorted({r.experiment for r in runs})
    page = mlflow_words.compare_page([r.mlflow_run for r in runs], experiments)
    return f"{place.address}/{page}"


def _tell_waiting(place: Place, store: Store, finished: Finished) -> list[Shown]:
    note = _note(place.home, finished.run)
    if not (place.home / "runs" / finished.run).is_dir():
        log.warning("tracking.gone run=%s", finished.run)
        note.unlink()
        return []
    models = [m for m in registry.every(store) if m.run_id == finished.run]
    told = upload(place, finished, models[-1] if models else None)
    # More may have been left meanwhile: then it is told the next time.
    if _read(note) == finished:
        note.unlink()
    return [told]


def _tell_adapter(client: Any, place: Place, known: Any, run: Run, model: Registered) -> str:
    """MLflow's id of the adapter, which is a logged model and a version from now on."""
    logged = mlflow_adapters.logged_model(client, run.experiment, run.id, place.home, model)
    mlflow_adapters.link_output(client, known, logged)
    mlflow_adapters.register_version(client, place.model, run.id, logged, model)
    return logged


def _retell(
    client: Any,
    store: Store,
    experiment: str,
    version: Any,
    model: Registered,
    counts: dict[str, int],
) -> None:
    """Verdict, standing and lineage of one adapter, wherever a person may meet it.

    The version says it last: until it does, all is told again.
    """
    suite = suite_of(model)
    run = Run(experiment, str(version.run_id), (f"{model.name}-{suite}",) if suite else ())
    tags = mlflow_adapters.tags(model, registry.pointer(store))
    words = mlflow_words.of_model(model, run, counts.get(model.dataset or "", 0))
    if mlflow_adapters.is_told(version, tags, words):
        return
    if mlflow_runs.rename(client, run.id, model.name, tags, words) and model.dataset:
        table = lineage.as_csv(lineage.lessons(store, model.version))
        mlflow_runs.tell_incidents(client, run.id, table)
    logged = mlflow_adapters.find_logged(client, experiment, model.adapter_sha256)
    model_id = str(logged.model_id) if logged else None
    mlflow_adapters.retell(client, version, model_id, tags, words)


def _beside(
    client: Any, experiment: str, there: dict[str, Any], wanted: dict[str, Registered]
) -> list[tuple[str, str]]:
    """(name, MLflow's run) of the base and of those that hold an alias."""
    held = [wanted[a] for a in ("previous", "champion", "challenger") if a in wanted]
    bases = [mlflow_runs.found(client, experiment, mlflow_runs.named_after(m.base_hash))
             for m in held[-1:]]  # fmt: skip
    return [
        *(("base", str(base.info.run_id)) for base in bases if base),
        *((m.name, str(there[m.adapter_sha256].run_id)) for m in held
          if m.adapter_sha256 in there),
    ]  # fmt: skip


def _tell_pages(
    client: Any, place: Place, experiment: str, beside: Sequence[tuple[str, str]]
) -> None:
    """What the experiment and the registered model are, and our view of the runs."""
    known = client.get_experiment(experiment)
    tags = mlflow_words.kind_and_view(int(known.creation_time or 0))
    tags[NOTE] = mlflow_words.of_experiment(experiment, beside)
    for key, value in tags.items():
        if known.tags.get(key) != value:
            client.set_experiment_tag(experiment, key, value)
    words = mlflow_words.of_registered(experiment)
    for registered in client.search_registered_models(f"name = '{place.model}'", max_results=1):
        if registered.description != words:
            client.update_registered_model(place.model, words)


def _can_be_told(place: Place, model: Registered) -> bool:
    told = (place.home / "runs" / str(model.run_id) / "DONE").is_file()
    if not told:
        log.warning("tracking.no_run model=%s run=%s", model.name, model.run_id)
    return told


def _note(home: Path, run: str) -> Path:
    return home / "spool" / f"{run}.json"


def _read(note: Path) -> Finished | None:
    try:
        return Finished.model_validate_json(note.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
