"""Adapters in MLflow: each a logged model and a registered version; and its aliases.

MLflow numbers versions by itself and lets people delete them, so an adapter is found by its
checksum, never by its number.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.mlflow_words import NOTE, suite_of
from training.registry import Pointer, Registered

SHA256 = "scarwise.sha256"
ALIASES = ("champion", "challenger", "previous")


def logged_model(client: Any, experiment: str, run: str, home: Path, model: Registered) -> str:
    """MLflow's id of this adapter, whose files it has; made when there is none yet."""
    logged = find_logged(client, experiment, model.adapter_sha256)
    logged = logged or _new(client, experiment, run, model)
    if logged.status != "READY":
        with tempfile.TemporaryDirectory() as scratch:
            _mlmodel(logged).save(str(Path(scratch) / "MLmodel"))
            client.log_model_artifacts(logged.model_id, scratch)
        client.log_model_artifacts(logged.model_id, str(home / model.folder))
        client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def find_logged(client: Any, experiment: str, sha256: str) -> Any | None:
    """The logged model of the adapter with this checksum."""
    same = f"tags.`{SHA256}` = '{sha256}'"
    found = client.search_logged_models([experiment], same, max_results=1)
    return found[0] if found else None


def register_version(client: Any, name: str, run: str, model_id: str, model: Registered) -> None:
    """A version of the registered model for this adapter, unless it has one."""
    if not client.search_registered_models(f"name = '{name}'", max_results=1):
        client.create_registered_model(name)
    if model.adapter_sha256 in versions(client, name):
        return
    made = client.create_model_version(
        name,
        source=client.get_logged_model(model_id).artifact_location,
        run_id=run,
        tags={SHA256: model.adapter_sha256},  # `retell` says the rest
        model_id=model_id,
        await_creation_for=0,
    )
    # By this tag MLflow's pages lead from a logged model to its versions.
    link = json.dumps([{"name": name, "version": made.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})


def link_output(client: Any, run: Any, model_id: str) -> None:
    """Let the run's page lead to the logged model that came of it."""
    from mlflow.entities import LoggedModelOutput

    known = run.outputs.model_outputs if run.outputs else []
    if model_id not in {output.model_id for output in known}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, 0)])


def versions(client: Any, name: str) -> dict[str, Any]:
    """The versions that MLflow has, by the checksums of their adapters."""
    found: dict[str, Any] = {}
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found |= {v.tags[SHA256]: v for v in page if SHA256 in v.tags}
        token = page.token or None
    return found


def is_told(version: Any, tags: Mapping[str, str], words: str) -> bool:
    """Whether a version says all this already."""
    told = all(version.tags.get(key) == value for key, value in tags.items())
    return told and version.description == words


def retell(
    client: Any, version: Any, model_id: str | None, tags: Mapping[str, str], words: str
) -> None:
    """Say what an adapter is now on its logged model and on its version, the version last."""
    if model_id:
        client.set_logged_model_tags(model_id, {**tags, NOTE: words})
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)
    if version.description != words:
        client.update_model_version(version.name, version.version, words)


def move_aliases(client: Any, name: str, wanted: Mapping[str, str]) -> None:
    """Set and delete our three aliases until they are as `wanted`; others are left alone."""
    found = client.search_registered_models(f"name = '{name}'", max_results=1)
    there = {a: str(v) for a, v in found[0].aliases.items()} if found else {}
    for alias in ALIASES:
        if alias in wanted and there.get(alias) != wanted[alias]:
            client.set_registered_model_alias(name, alias, wanted[alias])
        elif alias in there and alias not in wanted:
            client.delete_registered_model_alias(name, alias)


def tags(model: Registered, pointer: Pointer) -> dict[str, str]:
    """What a person filters by and reads in narrow columns, and what leads back to the store."""
    standing = [alias for alias in ALIASES if getattr(pointer, alias) == model.version]
    said = {
        "model": model.name,
        "verdict": model.verdict,
        "standing": ", ".join(standing) or "not served",
        "tainted": f"taught {len(model.tainted)} since forgotten" if model.tainted else None,
        "dataset": model.dataset,
        "suite": suite_of(model),
        "base": model.base_hash,
        "prompt": model.prompt_hash,
        SHA256: model.adapter_sha256,
    }
    return {key: value for key, value in said.items() if value}


def _new(client: Any, experiment: str, run: str, model: Registered) -> Any:
    params = {"dataset": model.dataset, "base": model.base_hash, "prompt": model.prompt_hash}
    return client.create_logged_model(
        experiment,
        name=model.name,
        source_run_id=run,
        tags={SHA256: model.adapter_sha256},
        params={k: v for k, v in params.items() if v},
        model_type="lora-adapter",
    )


def _mlmodel(logged: Any) -> Any:
    """The file that makes a folder a model to MLflow; it names no flavor, so nothing loads it."""
    from mlflow.models import Model

    return Model(
        artifact_path=logged.artifact_location,
        run_id=logged.source_run_id,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
