"""Where the tests keep exported models, and how they make one without a second process."""

import os
from pathlib import Path

from retrieval.conversion import convert
from retrieval.weights import find

MODELS = Path(
    os.environ.get("SCARWISE_TEST_CACHE", Path(__file__).parents[2] / ".pytest_cache" / "models")
)


def exported_here(name: str, cache: Path) -> Path:
    """What the export in its own process would leave, made in this one, which has torch already."""
    folder = folder_of(name, cache)
    folder.mkdir(parents=True)
    convert(find(name), folder)
    return folder


def folder_of(name: str, cache: Path) -> Path:
    """Where the export of this model lies, or will lie."""
    weights = find(name)
    return cache / f"{weights.name}-{weights.sha256[:12]}"
