"""Finished runs told to MLflow, where people compare them: recipe, data, curves, scores, adapter.

The store and the data folder are the record and MLflow is a copy to look at, so nothing waits for
it: what is to be told lies in `spool/` until it was taken, and telling it twice changes nothing.
Predictions quote incidents and stay in the data folder.
"""

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from ingest.errors import Refused
from ingest.store import Store
from training import mlflow_adapters, registry
from training.mlflow_place import Place, client_of, experiment_of, knock, telling
from training.registry import Registered

log = logging.getLogger(__name__)

RUN = "scarwise.run"

_METRICS, _OTHERS = 1000, 100  # that MLflow takes in one batch
_LONGEST = 6000  # characters of a parameter
_WIDEST = 64  # entries of a table: a longer one is read in its file, not as a list of metrics

_TABLES = ("arms", "slices", "matrix", "scores")  # of an evaluation; the rest of it is prose
_CALLED = ("cohort", "arm", "alpha")  # what names a row

Point = tuple[str, float, int, int]  # name, value, milliseconds, step


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
    flushes at once the second waits for the first.
    """
    from filelock import FileLock

    knock(place)
    (place.home / "spool").mkdir(parents=True, exist_ok=True)
    told = []
    with FileLock(place.home / "spool" / "lock"):
        for finished in waiting(place.home):
            told += _tell_waiting(place, store, finished)
        mirror(place, store)
    return told


def upload(place: Place, finished: Finished, model: Registered | None) -> Shown:
    """Tell MLflow one run, and its adapter when it is registered; what it has stays as it is.

    Raises `Refused` for a run that is not finished, `MlflowUnreachable`.
    """
    folder = place.home / "runs" / finished.run
    if not (folder / "DONE").is_file():
        raise Refused(f"run {finished.run} is not finished: there is no {folder / 'DONE'}")
    knock(place)
    with telling(place, f"run {finished.run}"):
        client = client_of(place)
        experiment = experiment_of(client, place)
        run = _find_run(client, experiment, finished.run) or _new_run(client, experiment, folder)
        run_id = str(run.info.run_id)
        _tell_run(client, run, folder)
        _tell_dataset(client, run_id, place.home, folder)

        model_id = None
        if model is not None:
            model_id = mlflow_adapters.logged_model(client, experiment, run_id, place.home, model)
            mlflow_adapters.register_version(client, place.model, run_id, model_id, model)
            _tell_verdict(client, run_id, model, model_id)
        for name in finished.evaluations:
            _tell_evaluation(client, run_id, place.home / "evals", name, model_id)
        if run.info.status != "FINISHED":
            client.set_terminated(run_id, "FINISHED", _ms(folder / "DONE"))
    return Shown(finished.run, run_id, experiment)


def mirror(place: Place, store: Store) -> dict[str, str]:
    """Make MLflow's aliases say what the store's pointer says; MLflow's version for each alias.

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
        there = mlflow_adapters.versions(client, place.model)
        for model in {m.version: m for m in wanted.values()}.values():
            if model.adapter_sha256 not in there and _can_be_told(place, model):
                upload(place, Finished(run=str(model.run_id)), model)
        there = mlflow_adapters.versions(client, place.model)
        mlflow_adapters.retag(client, place.model, there, list(models.values()))
        known = {
            alias: str(there[m.adapter_sha256].version)
            for alias, m in wanted.items()
            if m.adapter_sha256 in there
        }
        mlflow_adapters.move_aliases(client, place.model, known)
    return known


def shown(place: Place, runs: Sequence[str]) -> list[Shown]:
    """Those of these runs that MLflow knows, in this order. Raises `MlflowUnreachable`."""
    knock(place)
    with telling(place, "which runs to look for"):
        client = client_of(place)
        experiment = experiment_of(client, place)
        found = {name: _find_run(client, experiment, name) for name in runs}
    return [Shown(name, run.info.run_id, experiment) for name, run in found.items() if run]


def compare_url(place: Place, runs: Sequence[Shown]) -> str:
    """The page on which MLflow puts these runs side by side; see `Place.command` to start it."""
    ids = json.dumps([r.mlflow_run for r in runs], separators=(",", ":"))
    experiments = json.dumps(sorted({r.experiment for r in runs}), separators=(",", ":"))
    query = f"runs={quote(ids, safe='')}&experiments={quote(experiments, safe='')}"
    return f"{place.address}/#/compare-runs?{query}&workflowType=machine_learning"


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number in nested tables, named by its path: `suite/arms/era 1/adapter`.

    A row of a list is named by its cohort, arm and alpha; one without any is left out, and so is
    a table of more than 64 entries. A cell with a share is that share: its interval is in the file
    and in the picture. What is not scored (None, NaN) has no number.
    """
    if isinstance(value, Mapping) and "share" in value:
        value = value["share"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            yield _name(name), float(value)
    elif isinstance(value, Mapping | list | tuple) and len(value) <= _WIDEST:
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in pairs:
            row = isinstance(part, Mapping) and not isinstance(value, Mapping)
            called = _called(part) if row else str(key)
            if called and key not in _CALLED:
                yield from numbers(part, f"{name}/{called}")


def _called(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[key]) for key in _CALLED if key in row)


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


def _find_run(client: Any, experiment: str, name: str) -> Any | None:
    found = client.search_runs([experiment], f"tags.`{RUN}` = '{name}'", max_results=1)
    return found[0] if found else None


def _new_run(client: Any, experiment: str, folder: Path) -> Any:
    took_ms = 1000 * float(_json(folder / "cost.json").get("wall_s", 0.0))
    began = _ms(folder / "DONE") - round(took_ms)
    tags = {RUN: folder.name}
    return client.create_run(experiment, start_time=began, tags=tags, run_name=folder.name)


def _tell_run(client: Any, run: Any, folder: Path) -> None:
    recipe = _flat(_json(folder / "recipe.json"))
    new = {k: v for k, v in recipe.items() if k not in run.data.params}
    at = _ms(folder / "DONE")  # the same each time: MLflow keeps one of two equal points
    points = [
        (name, value, at, int(point["step"]))
        for point in _curve(folder / "curve.jsonl")
        for name, value in numbers({k: v for k, v in point.items() if k != "step"}, "train")
    ]
    for part in ("mixture", "cost", "sweep"):
        points += [
            (n, v, at, 0) for n, v in numbers(_json(folder / f"{part}.json"), f"train/{part}")
        ]
    _tell_points(client, run.info.run_id, points)
    _tell_words(client, run.info.run_id, new, _flat(_json(folder / "environment.json"), "env"))
    _tell_files(client, run.info.run_id, folder, ("*.json", "*.jsonl", "*.png"), None)


def _tell_dataset(client: Any, run: str, home: Path, folder: Path) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = str(_json(folder / "recipe.json").get("dataset", ""))
    manifest = home / "datasets" / name / "manifest.json"
    if not name or not manifest.is_file():
        return
    data = Dataset(
        name=name,
        digest=name.removeprefix("ds-")[:36],
        source_type="local",
        source=json.dumps({"uri": f"datasets/{name}"}),
        profile=json.dumps(dict(numbers(_json(manifest)))),
    )
    used = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
    client.log_inputs(run, datasets=[used])
    client.log_artifact(run, str(manifest), "dataset")


def _tell_verdict(client: Any, run: str, model: Registered, model_id: str) -> None:
    at = int(model.at.timestamp() * 1000)
    _tell_points(client, run, [(n, v, at, 0) for n, v in numbers(model.metrics)], model_id)
    _tell_words(client, run, {}, mlflow_adapters.tags(model))
    client.update_run(run, name=model.name)  # as people call it


def _tell_evaluation(client: Any, run: str, evals: Path, name: str, model_id: str | None) -> None:
    folder = evals / name
    points = [
        (metric, value, _ms(path), 0)
        for path in (folder / f"{table}.json" for table in _TABLES)
        if path.is_file()
        for metric, value in numbers(_json(path), f"suite/{path.stem}")
    ]
    _tell_points(client, run, points, model_id)
    _tell_files(client, run, folder, ("*.json", "*.md", "*.png"), f"evals/{name}")


def _tell_points(
    client: Any, run: str, points: Sequence[Point], model_id: str | None = None
) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, v, at, step, model_id=model_id) for name, v, at, step in points]
    for some in _batches(metrics, _METRICS):
        client.log_batch(run, metrics=some)


def _tell_words(client: Any, run: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    from mlflow.entities import Param, RunTag

    for some in _batches([Param(k, v) for k, v in params.items()], _OTHERS):
        client.log_batch(run, params=some)
    for some in _batches([RunTag(k, v) for k, v in tags.items()], _OTHERS):
        client.log_batch(run, tags=some)


def _tell_files(
    client: Any, run: str, folder: Path, patterns: Sequence[str], below: str | None
) -> None:
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
        client.log_artifact(run, str(path), below)


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


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _curve(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested tables as one, `lora.rank`; lists as JSON; what is empty left out."""
    if isinstance(value, Mapping):
        parts = [_flat(v, f"{name}.{k}" if name else str(k)) for k, v in value.items()]
        return {key: said for part in parts for key, said in part.items()}
    if value is None or value == "":
        return {}
    said = json.dumps(value) if isinstance(value, list | bool) else str(value)
    return {_name(name): said[:_LONGEST]}


def _name(name: str) -> str:
    """A name that MLflow takes."""
    parts = [re.sub(r"[^\w.\- :]", "_", part, flags=re.ASCII) for part in name.split("/")]
    return "/".join(p for p in parts if p.strip("."))[:250]


def _batches(things: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(things), size):
        yield things[start : start + size]


def _ms(path: Path) -> int:
    return path.stat().st_mtime_ns // 1_000_000
