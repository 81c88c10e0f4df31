"""Adapters in MLflow: each a logged model and a registered version; and its aliases.

MLflow numbers versions by itself and lets people delete them, so an adapter is found by its
checksum, never by its number.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.registry import Registered

SHA256 = "scarwise.sha256"
ALIASES = ("champion", "challenger", "previous")


def logged_model(client: Any, experiment: str, run: str, home: Path, model: Registered) -> str:
    """MLflow's id of this adapter, whose files it has; made when there is none yet."""
    same = f"tags.`{SHA256}` = '{model.adapter_sha256}'"
    found = client.search_logged_models([experiment], same, max_results=1)
    logged = found[0] if found else _new(client, experiment, run, model)
    if logged.status != "READY":
        with tempfile.TemporaryDirectory() as scratch:
            _mlmodel(logged).save(str(Path(scratch) / "MLmodel"))
            client.log_model_artifacts(logged.model_id, scratch)
        client.log_model_artifacts(logged.model_id, str(home / model.folder))
        client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


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
        tags=tags(model),
        model_id=model_id,
        await_creation_for=0,
    )
    # By this tag MLflow's pages lead from a logged model to its versions.
    link = json.dumps([{"name": name, "version": made.version}])
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})


def versions(client: Any, name: str) -> dict[str, Any]:
    """The versions that MLflow has, by the checksums of their adapters."""
    found: dict[str, Any] = {}
    token: str | None = ""
    while token is not None:
        page = client.search_model_versions(f"name = '{name}'", page_token=token or None)
        found |= {v.tags[SHA256]: v for v in page if SHA256 in v.tags}
        token = page.token or None
    return found


def retag(client: Any, name: str, there: Mapping[str, Any], models: Sequence[Registered]) -> None:
    """Say on each version what came after it was made: a verdict, that it is tainted."""
    for model in models:
        known: Any = there.get(model.adapter_sha256)
        new = tags(model) if known else {}
        for key, value in new.items():
            if known.tags.get(key) != value:
                client.set_model_version_tag(name, known.version, key, value)


def move_aliases(client: Any, name: str, wanted: Mapping[str, str]) -> None:
    """Set and delete our three aliases until they are as `wanted`; others are left alone."""
    found = client.search_registered_models(f"name = '{name}'", max_results=1)
    there = {a: str(v) for a, v in found[0].aliases.items()} if found else {}
    for alias in ALIASES:
        if alias in wanted and there.get(alias) != wanted[alias]:
            client.set_registered_model_alias(name, alias, wanted[alias])
        elif alias in there and alias not in wanted:
            client.delete_registered_model_alias(name, alias)


def tags(model: Registered) -> dict[str, str]:
    """What a person filters by, and what leads back to the store."""
    said = {
        "scarwise.version": model.name,
        SHA256: model.adapter_sha256,
        "scarwise.dataset": model.dataset,
        "scarwise.prompt_hash": model.prompt_hash,
        "scarwise.base_hash": model.base_hash,
        "scarwise.verdict": model.verdict,
        "scarwise.tainted": f"{len(model.tainted)} forgotten" if model.tainted else None,
    }
    return {key: value for key, value in said.items() if value}


def _new(client: Any, experiment: str, run: str, model: Registered) -> Any:
    params = {"dataset": model.dataset, "base": model.base_hash, "prompt": model.prompt_hash}
    return client.create_logged_model(
        experiment,
        name=model.name,
        source_run_id=run,
        tags=tags(model),
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
