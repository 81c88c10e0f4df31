"""Adapters as files: sealed when they are made, verified before they are loaded, interpolated.

    AdapterUnsound          (ModelUnsound) its files are not what was sealed, or it is another's

peft only warns when tensors are missing, and loads whatever a changed file holds; so a manifest
names every file's hash and every tensor, and nothing is served that does not match it.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from training.folders import whole
from training.soundness import PICKLED, ModelUnsound

WEIGHTS, CONFIG, MANIFEST = "adapter_model.safetensors", "adapter_config.json", "manifest.json"
_A, _B = ".lora_A.weight", ".lora_B.weight"


class AdapterUnsound(ModelUnsound):
    """Its files are not what was sealed, or it belongs to another base or prompt."""


class Manifest(BaseModel):
    """What an adapter is; `alpha` is its share against its parent, `energy` what a cut in rank
    kept of ΔW (sum of squares)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, str]
    keys: list[str]
    base_hash: str
    prompt_hash: str
    dataset: str | None
    parent: str | None
    rank: int
    alpha: float = 1.0
    energy: float = 1.0

    @property
    def sha256(self) -> str:
        """Of the weights: what tells one adapter from another."""
        return self.files[WEIGHTS]


def seal(
    folder: Path,
    *,
    base_hash: str,
    prompt_hash: str,
    dataset: str | None,
    parent: str | None,
    alpha: float = 1.0,
    energy: float = 1.0,
) -> Manifest:
    """Write the manifest of the adapter in `folder`. Raises `AdapterUnsound` for one that is not
    finite or does nothing."""
    tensors = _tensors(folder)
    _check_weights(tensors, folder)
    rank = rank_of(folder)
    told = Manifest(
        files={name: _sha256(folder / name) for name in (CONFIG, WEIGHTS)},
        keys=sorted(tensors),
        base_hash=base_hash,
        prompt_hash=prompt_hash,
        dataset=dataset,
        parent=parent,
        rank=rank,
        alpha=alpha,
        energy=energy,
    )
    (folder / MANIFEST).write_text(told.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return told


def verify(folder: Path, base_hash: str, prompt_hash: str) -> Manifest:
    """The manifest, when everything in `folder` is what was sealed for this base and prompt."""
    told = sealed(folder, base_hash, prompt_hash)
    tensors = _tensors(folder)
    if sorted(tensors) != told.keys:
        missing = sorted(set(told.keys) - set(tensors)) or sorted(set(tensors) - set(told.keys))
        raise AdapterUnsound(f"adapter {folder.name}: its tensors changed, the first {missing[0]}")
    _check_weights(tensors, folder)
    return told


def sealed(folder: Path, base_hash: str, prompt_hash: str) -> Manifest:
    """As `verify`, by the hashes of the files alone: quick, and nothing heavy is loaded."""
    told = manifest(folder)
    if told.files.keys() != {CONFIG, WEIGHTS}:
        raise AdapterUnsound(
            f"adapter {folder.name}: its {MANIFEST} does not name {CONFIG} and {WEIGHTS}; retrain"
        )
    for name, sha256 in told.files.items():
        if not (folder / name).is_file() or _sha256(folder / name) != sha256:
            raise AdapterUnsound(
                f"adapter {folder.name}: {name} is not what was sealed; restore it, or retrain"
            )
    strange = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
    if strange:
        raise AdapterUnsound(f"adapter {folder.name} holds pickled files ({strange[0]}); remove it")
    if told.base_hash != base_hash:
        raise AdapterUnsound(
            f"adapter {folder.name} belongs to base {told.base_hash}, and this base is {base_hash}"
            "; set training.base back, or retrain"
        )
    if told.prompt_hash != prompt_hash:
        raise AdapterUnsound(
            f"adapter {folder.name} was trained under prompt {told.prompt_hash}, and the prompt "
            f"is {prompt_hash} now; retrain"
        )
    return told


def manifest(folder: Path) -> Manifest:
    """What the adapter in `folder` says of itself, unchecked. `AdapterUnsound` without one."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it cannot be read"
        raise AdapterUnsound(
            f"adapter {folder.name} has no sound {MANIFEST} ({why}), and is not used "
            "without its seal; restore its folder, or retrain"
        ) from error


def interpolated(new: Path, old: Path | None, alpha: float, place: Path) -> None:
    """The adapter whose ΔW is alpha·ΔW(new) + (1-alpha)·ΔW(old), exactly; old None is ΔW = 0.

    The factors stand beside each other, so its rank is the sum of both (WiSE-FT, Wortsman et al.
    2022, on ΔW; interpolating A and B themselves is no interpolation of what they do).
    """
    import torch

    first, config = _scaled(new)
    parts = [(first, alpha)]
    if old is not None and alpha < 1:
        second, _ = _scaled(old)
        if second.keys() != first.keys():
            raise AdapterUnsound(f"{new.name} and {old.name} adapt different layers")
        parts.append((second, 1 - alpha))
    mixed = {
        layer: (
            torch.cat([held[layer][0] for held, _ in parts]),
            torch.cat([share * held[layer][1] for held, share in parts], dim=1),
        )
        for layer in first
    }
    _write(mixed, config, place)


def compressed(folder: Path, rank: int, place: Path) -> float:
    """The nearest adapter of this rank (Eckart-Young); the share of ΔW's energy that it keeps."""
    import torch

    layers, config = _scaled(folder)
    cut, kept, whole_energy = {}, 0.0, 0.0
    for layer, (a, b) in layers.items():
        # QR of both factors first: the SVD is then of rank x rank, not of the layer's size.
        qb, rb = torch.linalg.qr(b.double())
        qa, ra = torch.linalg.qr(a.double().T)
        u, s, v = torch.linalg.svd(rb @ ra.T, full_matrices=False)
        kept += float((s[:rank] ** 2).sum())
        whole_energy += float((s**2).sum())
        root = s[:rank].sqrt()
        cut[layer] = (
            (root[:, None] * (v[:rank] @ qa.T)).to(a.dtype),
            ((qb @ u[:, :rank]) * root).to(b.dtype),
        )
    _write(cut, config, place)
    return kept / whole_energy if whole_energy else 1.0


def rank_of(folder: Path) -> int:
    """The rank that its configuration names."""
    return int(_config(folder)["r"])


def _scaled(folder: Path) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """(A, B) of every layer with peft's scaling taken into B, so that ΔW = B·A."""
    config = _config(folder)
    odd = [k for k in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern") if config.get(k)]
    if odd or config.get("peft_type") != "LORA":
        raise AdapterUnsound(f"adapter {folder.name} uses {odd or 'no LoRA'}; only plain LoRA is")
    scale = config["lora_alpha"] / config["r"]
    tensors = _tensors(folder)
    layers = {name.removesuffix(_A) for name in tensors if name.endswith(_A)}
    if any(layer + _B not in tensors for layer in layers):
        raise AdapterUnsound(f"adapter {folder.name} has an A without its B; restore it")
    return {n: (tensors[n + _A].float(), tensors[n + _B].float() * scale) for n in layers}, config


def _write(layers: Mapping[str, tuple[Any, Any]], config: dict[str, Any], place: Path) -> None:
    from safetensors.torch import save_file
    from torch.nn.functional import pad

    # One rank for all layers, also where one is narrower than that: zeros add nothing to ΔW.
    rank = max(a.shape[0] for a, _ in layers.values())
    tensors = {}
    for layer in sorted(layers):
        a, b = layers[layer]
        more = rank - a.shape[0]
        tensors[layer + _A] = pad(a, (0, 0, 0, more)).contiguous()
        tensors[layer + _B] = pad(b, (0, more)).contiguous()
    with whole(place) as draft:
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        told = {**config, "r": rank, "lora_alpha": rank}
        (draft / CONFIG).write_text(json.dumps(told, indent=1, sort_keys=True), encoding="utf-8")


def copied(folder: Path, place: Path) -> None:
    """The adapter's own files, and nothing else that lies beside them, at `place`."""
    with whole(place) as draft:
        for name in (CONFIG, WEIGHTS, MANIFEST):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, draft / name)


def _config(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        int(told["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it cannot be read"
        raise AdapterUnsound(f"adapter {folder.name} has no sound {CONFIG} ({why})") from error
    return told


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise AdapterUnsound(
            f"adapter {folder.name}: {WEIGHTS} cannot be read ({error}); restore it, or retrain"
        ) from error


def _check_weights(tensors: Mapping[str, Any], folder: Path) -> None:
    import torch

    if not any(name.endswith(_A) for name in tensors):
        raise AdapterUnsound(f"adapter {folder.name} holds no LoRA; retrain")
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterUnsound(f"adapter {folder.name}: {name} holds numbers that are not finite")
    norm = math.sqrt(sum(float(t.float().norm()) ** 2 for n, t in tensors.items() if _B in n))
    if not norm:
        raise AdapterUnsound(f"adapter {folder.name} does nothing: every B is zero")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
