"""One LoRA run, from top to bottom: data, model, fit, the sweep of ΔW, and what it all cost.

    TooLittle               (Refused) not enough new rows to learn anything from: nothing is made

A run's name is the hash of what goes into it, so the same run again is the same folder: finished,
it is read; cut off, it goes on where it was.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ingest.errors import Refused
from retrieval.prompt import Prompt, prompt_hash
from training import adapters, worker
from training.fit import Step
from training.folders import in_our_words, whole
from training.learner import LEARNED, learned
from training.mixture import Lesson, Mixture, mixture
from training.model import Loaded, generate, with_adapter, without_adapter
from training.recipe import Recipe
from training.rows import Row

log = logging.getLogger(__name__)

LEAST_ROWS = 20
RAW, CHOSEN, DONE = "raw", "adapter", "DONE"

Answer = Callable[[Sequence[Prompt]], list[str]]


class TooLittle(Refused):
    """Not enough new rows to learn anything from."""


@dataclass(frozen=True, slots=True)
class DevScore:
    """How one adapter does on the dev slice: on what is new, and on what is to be kept, 0 to 1;
    None where the slice has no case of it."""

    new: float | None
    kept: float | None

    @property
    def worst(self) -> float:
        return min((s for s in (self.new, self.kept) if s is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run; `folder / "adapter"` is sealed and says what it is."""

    name: str
    folder: Path
    adapter: adapters.Manifest
    mixture: dict[str, Any]
    cost: dict[str, Any]
    sweep: list[dict[str, Any]]


def train(
    rows: Sequence[Row],
    *,
    dataset: str,
    taught: Collection[str],
    base: Loaded,
    champion: Path | None,
    recipe: Recipe,
    runs: Path,
    dev: Callable[[Answer], DevScore] | None = None,
    least_rows: int = LEAST_ROWS,
    processes: int = 0,
    progress: Callable[[Step], None] | None = None,
    note: Callable[[str], None] = log.info,
) -> Trained:
    """The adapter that this recipe makes of these rows, going on from the champion's.

    `taught` are the incidents that the champion or the base was taught: they are rehearsed, the
    others are new. `dev` chooses between shares of the new ΔW; without it all of it is taken.
    With `processes` 0 there is one for each GPU that is visible, and one on a CPU.
    Raises `TooLittle`, `fit.RowsLost`, `fit.Diverged`, `StoreFull`; the base is left as it was.
    """
    name = run_name(dataset, recipe, base.base_hash, champion)
    folder = runs / name
    if (folder / DONE).is_file():
        return finished(folder)
    if recipe.four_bit and not base.four_bit:
        raise Refused(
            f"recipe {recipe.name} says four_bit, and the base was loaded in {base.dtype}"
        )

    mixed = mixture(rows, taught=taught, recipe=recipe, seed=recipe.seed)
    fresh = sum(n for kind, n in mixed.counts.items() if kind.startswith("new ")) - (
        mixed.new_incidents
    )
    if fresh < least_rows:
        raise TooLittle(
            f"{fresh} new rows of {mixed.new_incidents} incidents, and a run takes {least_rows} "
            "(training.least_rows): wait for more resolved incidents"
        )
    note(
        f"{name}: {fresh} new rows of {mixed.new_incidents} incidents, "
        f"{len(mixed.lessons)} rows in {recipe.epochs} epochs"
    )
    if mixed.under_rehearsed:
        note(f"under-rehearsed, fewer than 5 exemplars: {', '.join(mixed.under_rehearsed[:8])}")
    with in_our_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _keep(folder, "recipe.json", recipe.model_dump(mode="json") | {"dataset": dataset})
        _keep(folder, "mixture.json", _told(mixed))
        _keep(folder, "environment.json", environment(base))

        if not (folder / RAW / adapters.MANIFEST).is_file():
            _fitted(base, champion, mixed.lessons, recipe, dataset, folder,
                    processes or visible_gpus(base), progress)  # fmt: skip
        sweep = _sweep(base, champion, recipe, dataset, folder, dev, note)
        (folder / DONE).write_text(json.dumps({"chosen": sweep[0]["alpha"]}), encoding="utf-8")
    return finished(folder)


def run_name(dataset: str, recipe: Recipe, base_hash: str, champion: Path | None) -> str:
    """What this run is called: the same for the same dataset, recipe, base and champion."""
    parent = adapters.manifest(champion).sha256 if champion else None
    told = [dataset, recipe.model_dump(mode="json"), base_hash, prompt_hash(), parent]
    return f"run-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]}"


def finished(folder: Path) -> Trained:
    """The run in this folder, which has its DONE."""
    told = {n: json.loads((folder / f"{n}.json").read_text()) for n in ("mixture", "cost", "sweep")}
    manifest = adapters.manifest(folder / CHOSEN)
    return Trained(folder.name, folder, manifest, told["mixture"], told["cost"], told["sweep"])


def environment(base: Loaded) -> dict[str, Any]:
    """What the run ran on."""
    import torch

    packages = ("torch", "transformers", "peft", "datasets", "accelerate", "scarwise")
    gpu = torch.cuda.get_device_name() if base.device == "cuda" else None
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": base.device,
        "gpu": gpu,
        "dtype": base.dtype,
        "base": base.name,
        "base_hash": base.base_hash,
        "prompt_hash": prompt_hash(),
    }


def _fitted(
    base: Loaded,
    champion: Path | None,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    dataset: str,
    folder: Path,
    processes: int,
    progress: Callable[[Step], None] | None,
) -> None:
    """Leave the sealed raw adapter in the folder, and beside it what it cost."""
    energy, begin = 1.0, champion
    if champion and adapters.rank_of(champion) > recipe.rank:
        begin = folder / "begin"
        energy = adapters.compressed(champion, recipe.rank, begin)
    parent = champion.name if champion else None
    if processes > 1:
        worker.launched(base, begin, lessons, recipe, folder, processes, progress)
    else:
        learned(base, begin, lessons, recipe, folder, progress=progress)
    with whole(folder / RAW) as draft:
        adapters.copied(folder / LEARNED, draft)
        adapters.seal(
            draft, base_hash=base.base_hash, prompt_hash=prompt_hash(), dataset=dataset,
            parent=parent, energy=energy,
        )  # fmt: skip
    for leftover in (LEARNED, "begin", "checkpoints"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def _sweep(
    base: Loaded,
    champion: Path | None,
    recipe: Recipe,
    dataset: str,
    folder: Path,
    dev: Callable[[Answer], DevScore] | None,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Interpolate between champion and challenger, keep the best share; every share's scores."""
    shares = sorted(set(recipe.alphas), reverse=True) if dev else [1.0]
    tried = []
    for alpha in shares:
        place = folder / f"alpha-{alpha:g}"
        energy = _share(folder / RAW, champion, alpha, recipe, place)
        adapters.seal(
            place, base_hash=base.base_hash, prompt_hash=prompt_hash(), dataset=dataset,
            parent=champion.name if champion else None, alpha=alpha, energy=energy,
        )  # fmt: skip
        score = _scored(base, place, dev) if dev else DevScore(None, None)
        tried.append({"alpha": alpha, "energy": energy, **asdict(score), "worst": score.worst})
        if dev:
            note(f"share {alpha:g} of the new ΔW: new {score.new}, kept {score.kept}")
    # The most of the new among equals: the list begins with the largest share.
    tried.sort(key=lambda t: -t["worst"])
    adapters.copied(folder / f"alpha-{tried[0]['alpha']:g}", folder / CHOSEN)
    for alpha in shares:
        shutil.rmtree(folder / f"alpha-{alpha:g}", ignore_errors=True)
    _keep(folder, "sweep.json", tried)
    return tried


def _share(raw: Path, champion: Path | None, alpha: float, recipe: Recipe, place: Path) -> float:
    """Exact while the rank allows it; beyond `most_rank` the nearest of that rank."""
    if alpha == 1:
        adapters.copied(raw, place)
        return adapters.manifest(raw).energy
    adapters.interpolated(raw, champion, alpha, place)
    if adapters.rank_of(place) <= recipe.most_rank:
        return 1.0
    exact = place.with_name(place.name + ".exact")
    shutil.rmtree(exact, ignore_errors=True)
    place.replace(exact)
    energy = adapters.compressed(exact, recipe.most_rank, place)
    shutil.rmtree(exact)
    return energy


def _scored(base: Loaded, place: Path, dev: Callable[[Answer], DevScore]) -> DevScore:
    name = place.name.replace(".", "_")
    with_adapter(base, place, name=name)
    try:
        return dev(lambda prompts: generate(base, prompts, adapter=name, batch_size=64))
    finally:
        without_adapter(base, name)


def visible_gpus(base: Loaded) -> int:
    """How many processes share a run when nobody says: one for each GPU that torch sees."""
    import torch

    return torch.cuda.device_count() if base.device == "cuda" else 1


def _told(mixed: Mixture) -> dict[str, Any]:
    return {
        "rows": len(mixed.lessons),
        "counts": mixed.counts,
        "capped": mixed.capped,
        "under_rehearsed": mixed.under_rehearsed,
        "sha256": hashlib.sha256("\n".join(w.id for w in mixed.lessons).encode()).hexdigest(),
    }


def _keep(folder: Path, name: str, told: Mapping[str, Any] | Sequence[Any]) -> None:
    draft = folder / f"{name}.new"
    draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / name)
