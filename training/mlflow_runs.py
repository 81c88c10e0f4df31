"""Runs in MLflow: one for each training of ours, one for the base; what they hold, told once.

Telling again changes nothing: points carry the times of their files, and MLflow keeps one of two
that are equal.
"""

import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.mlflow_adapters import find_logged
from training.mlflow_place import Place
from training.mlflow_words import INCIDENTS, MANIFEST, NOTE, Run, suite_of
from training.registry import Registered

RUN = "scarwise.run"

_METRICS, _OTHERS = 1000, 100  # that MLflow takes in one batch
_LONGEST = 6000  # characters of a parameter
_WIDEST = 64  # entries of a table: a longer one is read in its file, not as a list of metrics
_CALLED = ("cohort", "arm", "alpha")  # what names a row
_FIRST = ("dataset", "recipe", "replay")
_PROFILE = ("rows", "incident_count", "tasks", "dropped_incidents", "difference")

Point = tuple[str, float, int, int]  # name, value, milliseconds, step


def found(client: Any, experiment: str, name: str) -> Any | None:
    """The run that tells ours of this name."""
    runs = client.search_runs([experiment], f"tags.`{RUN}` = '{name}'", max_results=1)
    return runs[0] if runs else None


def made(client: Any, experiment: str, folder: Path) -> Any:
    """A run for this finished folder, with nothing in it yet."""
    took_ms = 1000 * float(_json(folder / "cost.json").get("wall_s", 0.0))
    began = _ms(folder / "DONE") - round(took_ms)
    tags = {RUN: folder.name}
    return client.create_run(experiment, start_time=began, tags=tags, run_name=folder.name)


def tell_run(client: Any, run: Any, folder: Path) -> None:
    """The recipe as parameters, curve and cost as metrics, the environment as tags, all files."""
    params = _params(_json(folder / "recipe.json"))
    new = {k: v for k, v in params.items() if k not in run.data.params}
    at = _ms(folder / "DONE")
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
    tell_words(client, run.info.run_id, new, _flat(_json(folder / "environment.json"), "env"))
    _tell_files(client, run.info.run_id, folder, ("*.json", "*.jsonl", "*.png"), None)
    if run.info.status != "FINISHED":
        client.set_terminated(run.info.run_id, "FINISHED", at)


def tell_dataset(client: Any, run: Run, place: Place, folder: Path) -> None:
    """The dataset as the run's input, whose source is its manifest among the run's files."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    name = str(_json(folder / "recipe.json").get("dataset", ""))
    manifest = place.home / "datasets" / name / "manifest.json"
    if not name or not manifest.is_file():
        return
    told = {key: value for key, value in _json(manifest).items() if key in _PROFILE}
    data = Dataset(
        name=name,
        digest=name.removeprefix("ds-")[:36],
        source_type="http",  # the one kind that MLflow's pages make a link of
        source=json.dumps({"url": f"{place.address}/{run.page(MANIFEST)}"}),
        profile=json.dumps(dict(numbers(told))),
    )
    used = DatasetInput(data, [InputTag("mlflow.data.context", "training")])
    client.log_inputs(run.id, datasets=[used])
    client.log_artifact(run.id, str(manifest), "dataset")


def tell_evaluation(client: Any, run: Run, folder: Path) -> bool:
    """The gate's report and pictures; its figures to the runs of all whom it compared.

    Whether there were any figures.
    """
    path = folder / "figures.json"
    entries = _json(path) or []
    for entry in entries:
        whose = _of_adapter(client, run.experiment, entry) or _of_base(client, run, entry, path)
        if whose:
            step = _number(entry["suite"])
            points = [(n, v, _ms(path), step) for n, v in numbers(entry["figures"])]
            _tell_points(client, whose[0], points, whose[1])
    _tell_files(client, run.id, folder, ("*.json", "*.md", "*.png"), f"evals/{folder.name}")
    return bool(entries)


def tell_metrics(client: Any, run: Run, model: Registered, model_id: str) -> None:
    """The figures that the registry keeps, where those of the evaluation are gone."""
    at, step = int(model.at.timestamp() * 1000), _number(suite_of(model) or "")
    told = numbers(model.metrics, "right")
    _tell_points(client, run.id, [(n, v, at, step) for n, v in told], model_id)


def tell_incidents(client: Any, run: str, table: str) -> None:
    """Which incidents taught it, as a table that opens among the run's files."""
    folder, _, name = INCIDENTS.rpartition("/")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_text(table, encoding="utf-8")
        client.log_artifact(run, str(path), folder)


def rename(client: Any, run: str, name: str, tags: Mapping[str, str], note: str) -> bool:
    """Call a run as people call its model, and say what the model is now; False when it is gone."""
    if not is_there(client, run):
        return False
    client.update_run(run, name=name)
    tell_words(client, run, {}, {**tags, NOTE: note})
    return True


def is_there(client: Any, run: str) -> bool:
    """Whether this run is there and was not deleted by a person."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run).info.lifecycle_stage == "active")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def tell_words(client: Any, run: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """Parameters, which stay, and tags."""
    from mlflow.entities import Param, RunTag

    for some in _batches([Param(k, v) for k, v in params.items()], _OTHERS):
        client.log_batch(run, params=some)
    for some in _batches([RunTag(k, v) for k, v in tags.items()], _OTHERS):
        client.log_batch(run, tags=some)


def named_after(base_hash: str) -> str:
    """What the run of a base is called among ours."""
    return f"base-{base_hash}"


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every finite number in nested tables, named by its path: `train/sweep/0.85/kept`.

    A row of a list is named by its cohort, arm and alpha; one without any is left out, and so is
    a table of more than 64 entries. What is not scored (None, NaN) has no number.
    """
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


def _of_adapter(client: Any, experiment: str, entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """(run, logged model) of the adapter of this entry, where MLflow knows it."""
    if not entry["adapter_sha256"]:
        return None
    logged = find_logged(client, experiment, entry["adapter_sha256"])
    if logged is None or not is_there(client, str(logged.source_run_id)):
        return None
    return str(logged.source_run_id), str(logged.model_id)


def _of_base(
    client: Any, run: Run, entry: Mapping[str, Any], path: Path
) -> tuple[str, None] | None:
    """(run, nothing) of the base of this entry, made when there is none yet."""
    if entry["adapter_sha256"]:
        return None
    name, at = named_after(entry["base_hash"]), _ms(path)
    known = found(client, run.experiment, name)
    if known is None:
        note = "The base itself, which nothing was taught: what every adapter is measured against."
        tags = {RUN: name, "model": "base", "base": entry["base_hash"], NOTE: note}
        known = client.create_run(run.experiment, start_time=at, tags=tags, run_name="base")
        tell_words(client, known.info.run_id, dict.fromkeys(_FIRST, "none"), {})
        client.set_terminated(known.info.run_id, "FINISHED", at)
    return str(known.info.run_id), None


def _params(recipe: Mapping[str, Any]) -> dict[str, str]:
    """The recipe with what tells runs apart first: MLflow's comparison begins with three names in
    their order, and those that the base has too stand on its axes."""
    told = {"recipe" if key == "name" else key: value for key, value in recipe.items()}
    first = {key: told.pop(key, "none") or "none" for key in _FIRST}
    return _flat({**first, "train": told})


def _number(suite: str) -> int:
    return int(suite.removeprefix("v")) if suite.removeprefix("v").isdecimal() else 0


def _called(row: Mapping[str, Any]) -> str:
    return " ".join(str(row[key]) for key in _CALLED if key in row)


def _tell_points(
    client: Any, run: str, points: Sequence[Point], model_id: str | None = None
) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(name, v, at, step, model_id=model_id) for name, v, at, step in points]
    for some in _batches(metrics, _METRICS):
        client.log_batch(run, metrics=some)


def _tell_files(
    client: Any, run: str, folder: Path, patterns: Sequence[str], below: str | None
) -> None:
    for path in sorted(p for pattern in patterns for p in folder.glob(pattern)):
        client.log_artifact(run, str(path), below)


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
