"""Where MLflow is, and how it is spoken to: quietly, impatiently and without telemetry.

MlflowUnreachable       (Unavailable) the tracking server or its database did not take it
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ingest.errors import Unavailable

LOCAL = "http://127.0.0.1:5000"  # where `mlflow server` listens unless told otherwise

_KNOCK_S = 3.0  # a server that is there says so within it
_TIMEOUT_S = 60  # one request, an adapter's upload too


class MlflowUnreachable(Unavailable):
    """The tracking server or its database did not take it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are shown: what `uri` names, or SQLite and a folder of artifacts in `home`."""

    home: Path
    uri: str = ""
    experiment: str = "scarwise"
    model: str = "scarwise-diagnosis"

    @property
    def tracking(self) -> str:
        return self.uri or f"sqlite:///{self.home.absolute() / 'mlflow.db'}"

    @property
    def is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def artifacts(self) -> str | None:
        """A server has a place of its own; a database would take `mlruns` in the current folder."""
        return None if self.is_server else (self.home.absolute() / "mlartifacts").as_uri()

    @property
    def named(self) -> str:
        """The place as a person may read it, without a password."""
        if not self.uri:
            return str(self.home / "mlflow.db")
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def address(self) -> str:
        """Where a browser finds it; for SQLite after `command` was started."""
        return self.named.rstrip("/") if self.is_server else LOCAL

    @property
    def command(self) -> str:
        """What starts MLflow's pages on the runs; empty where a server has them."""
        if self.is_server:
            return ""
        store = f"--backend-store-uri '{self.tracking}' --workers 1"
        return f"MLFLOW_DISABLE_TELEMETRY=true mlflow server {store}"


def client_of(place: Place) -> Any:
    """MLflow's client for this place: quiet, impatient, and without telemetry."""
    import mlflow.telemetry

    library: Any = mlflow  # its types stop at these functions
    knobs = library.environment_variables
    knobs.MLFLOW_DISABLE_TELEMETRY.set(True)
    library.telemetry.set_telemetry_client()  # none, also where the import made one
    knobs.MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
    for knob, value in (
        (knobs.MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1),
        (knobs.MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, 1),
        (knobs.MLFLOW_HTTP_REQUEST_TIMEOUT, _TIMEOUT_S),
    ):
        if not knob.is_set():
            knob.set(value)
    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return library.MlflowClient(tracking_uri=place.tracking, registry_uri=place.tracking)


def knock(place: Place) -> None:
    """Raise `MlflowUnreachable` within seconds, before MLflow's own import and retries."""
    import httpx

    if not place.is_server:
        return
    try:
        answer = httpx.get(f"{place.uri.rstrip('/')}/health", timeout=_KNOCK_S)
    except httpx.HTTPError as error:
        raise _unreachable(place, "anything", error) from error
    if answer.status_code >= 500:
        raise _unreachable(place, "anything", f"it answers {answer.status_code}")


@contextmanager
def telling(place: Place, what: str) -> Iterator[None]:
    """Turn every way in which MLflow can fail to take `what` into `MlflowUnreachable`."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as error:
        raise _unreachable(place, what, error) from error


def _unreachable(place: Place, what: str, why: object) -> MlflowUnreachable:
    line = next(iter(str(why).strip().splitlines()), type(why).__name__)[:200]
    return MlflowUnreachable(
        f"MLflow at {place.named} was not told {what}: {line}; nothing is lost, it waits in "
        f"{place.home / 'spool'} for the next retraining or `scarwise mlflow`"
    )


def experiment_of(client: Any, place: Place) -> str:
    """MLflow's id of the experiment, made or restored if need be.

    Another process may make it in the same moment: then it is theirs.
    """
    from mlflow.exceptions import MlflowException

    known = client.get_experiment_by_name(place.experiment)
    if known is None:
        try:
            return str(client.create_experiment(place.experiment, place.artifacts))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            known = client.get_experiment_by_name(place.experiment)
    if known.lifecycle_stage == "deleted":
        client.restore_experiment(known.experiment_id)
    return str(known.experiment_id)
