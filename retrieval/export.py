"""The exported model: a folder that a process without torch can run, made once and checked."""

import importlib.metadata
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ingest.errors import Unavailable
from retrieval.encoder import Pooling
from retrieval.weights import Weights, file_sha256

log = logging.getLogger(__name__)

FORMAT = 1
ONNX, TOKENIZER, SIDECAR = "model.onnx", "tokenizer.json", "export.json"
_TIME_LIMIT_S = 900
_LIBRARIES = ("onnxruntime", "sentence-transformers", "tokenizers", "torch", "transformers")


class Export(BaseModel):
    """What export.json says of its folder; it is written last, so a folder with one is whole.

    `why` the backend was chosen; `cosine_min` the worst agreement of ONNX Runtime with
    sentence-transformers, `onnx_ms` and `torch_ms` the CPU time of one query of 60 word pieces,
    None where ONNX was not tried. `files` maps each file to its sha256.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    model: str
    weights_sha256: str
    backend: Literal["onnx", "torch"]
    why: str
    pooling: Pooling | None
    window: int
    dim: int
    states_dim: int
    query_prompt: str
    document_prompt: str
    cosine_min: float | None
    onnx_ms: float | None
    torch_ms: float | None
    versions: dict[str, str]
    files: dict[str, str]


def exported(weights: Weights, cache: Path) -> tuple[Export, Path]:
    """The export and its folder under `cache`; made when missing, damaged or outdated.

    Making it takes some 15 s and 1 GB of memory, in another process. Raises `Unavailable` when it
    cannot be made.
    """
    folder = cache / f"{weights.name}-{weights.sha256[:12]}"
    export = _whole(folder, weights)
    if export is None:
        log.info("embedder.export folder=%s", folder.name)
        _make(weights, folder)
        export = _whole(folder, weights)
    if export is None:
        raise Unavailable(
            f"the embedding model exported to {folder} reads back damaged; check the disk"
        )
    return export, folder


def versions() -> dict[str, str]:
    """The libraries that an export is made and measured with; others may answer otherwise."""
    return {name: _version(name) for name in _LIBRARIES}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _whole(folder: Path, weights: Weights) -> Export | None:
    """What a finished and undamaged export, of these weights by these libraries, says of itself."""
    if not (folder / SIDECAR).exists():
        return None
    try:
        export = Export.model_validate_json((folder / SIDECAR).read_bytes())
        damaged = [n for n, sha in export.files.items() if file_sha256(folder / n) != sha]
    except (OSError, ValidationError) as error:
        log.warning(
            "embedder.export_unreadable folder=%s why=%s", folder.name, type(error).__name__
        )
        return None
    made_of = (export.format, export.weights_sha256, export.versions)
    if damaged or made_of != (FORMAT, weights.sha256, versions()):
        log.warning("embedder.export_redone folder=%s damaged=%s", folder.name, damaged)
        return None
    return export


def _make(weights: Weights, folder: Path) -> None:
    """Export in a folder aside, then rename it: a killed export never looks finished."""
    cache = folder.parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _sweep(cache)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=cache) as aside:
            made = Path(aside) / folder.name
            made.mkdir()
            _run(weights, made)
            _put(made, folder, weights)
    except OSError as error:
        raise Unavailable(
            f"the embedding model cannot be exported to {cache}: {error.strerror or error}; "
            "make that folder writable, with 200 MB free"
        ) from error


def _put(made: Path, folder: Path, weights: Weights) -> None:
    try:
        made.rename(folder)
    except OSError:  # something is there: what is to be replaced, or another process was quicker
        if _whole(folder, weights) is None:
            shutil.rmtree(folder)
            made.rename(folder)


def _sweep(cache: Path) -> None:
    """Remove what killed exports left; an hour is far longer than one takes."""
    for leftover in cache.glob(".export-*"):
        with suppress(FileNotFoundError):  # its owner has just finished
            if time.time() - leftover.stat().st_mtime > 3600:
                shutil.rmtree(leftover)


def _run(weights: Weights, into: Path) -> None:
    """Convert in a process of its own, so that torch never enters this one."""
    model = [weights.name, str(weights.folder), weights.sha256]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "retrieval.conversion", *model, str(into)],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            f"exporting the embedding model {weights.name!r} took over {_TIME_LIMIT_S} s; "
            "name a smaller one in retrieval.embedder, or start again when the machine is idle"
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"it was killed ({done.returncode})"]
        raise Unavailable(
            f"the embedding model {weights.name!r} cannot be exported: {said[-1]}; "
            "name another one in retrieval.embedder, or mend the installation"
        )
