"""A real service on a data folder of its own: real SQLite, real embedder, real Chroma."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.service import Service
from serving.settings import load

SCARWISE = Path(sys.executable).with_name("scarwise")
# The exported model, kept between runs: making it costs twenty seconds.
MODELS = Path(
    os.environ.get("SCARWISE_TEST_CACHE", Path(__file__).parents[2] / ".pytest_cache" / "models")
)


@pytest.fixture
def environment(tmp_path):
    return {
        "SCARWISE_HOME": str(tmp_path / "home"),
        "SCARWISE_RETRIEVAL_MODELS": str(MODELS),
        "PATH": os.environ["PATH"],
        "HF_HUB_OFFLINE": "1",
    }


@pytest.fixture
def scarwise(environment):
    """The installed command over this data folder; `more` are further variables."""

    def run(*words, given=None, **more):
        return subprocess.run(
            [SCARWISE, *words], env={**environment, **more}, input=given or "",
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    return run


@pytest.fixture
def cold_settings(environment):
    Path(environment["SCARWISE_HOME"]).mkdir()
    return load(environment)


@pytest.fixture
def cold(cold_settings):
    """A service that compares by words only."""
    service = Service.open(cold_settings)
    yield service
    service.close()


@pytest.fixture
def service(cold):
    """A service that compares by meaning too; `service.embed_all()` is the background's work."""
    cold.warm(copy=True)
    return cold


def client_of(service):
    return TestClient(create_app(service), base_url="http://127.0.0.1")


@pytest.fixture
def client(cold):
    """The HTTP API over a service that compares by words only: quick, and enough for most."""
    with client_of(cold) as client:
        yield client


@pytest.fixture
def warm_client(service):
    with client_of(service) as client:
        yield client


def incident(source_id="1", **more):
    """An incident as a client sends it."""
    return {
        "source": "tests",
        "source_id": source_id,
        "title": "orders-db refuses connections",
        "symptoms": "FATAL: sorry, too many clients already on orders-db",
        "services": ["orders-db"],
        "started_at": "2026-03-01T10:00:00Z",
        "resolved_at": "2026-03-01T11:00:00Z",
        "root_cause": "A deploy doubled the pool size of every checkout pod.",
        "resolution": "Rolled back the pool size and restarted the pods.",
        **more,
    }
