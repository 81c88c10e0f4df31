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

from ingest.errors import Refused, StoreFull
from retrieval.prompt import Prompt, prompt_hash
from training import adapters
from training.batches import Item, tokenised
from training.fit import Fitted, Knobs, Step, fit
from training.folders import in_our_words, whole
from training.mixture import Mixture, mixture
from training.model import Loaded, generate, with_adapter, without_adapter
from training.recipe import Recipe
from training.rows import Row

log = logging.getLogger(__name__)

LEAST_ROWS = 20
RAW, CHOSEN, DONE = "raw", "adapter", "DONE"
CHECKPOINTS = 3  # times the size of one that must be free before a run begins

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
    progress: Callable[[Step], None] | None = None,
    note: Callable[[str], None] = log.info,
) -> Trained:
    """The adapter that this recipe makes of these rows, going on from the champion's.

    `taught` are the incidents that the champion or the base was taught: they are rehearsed, the
    others are new. `dev` chooses between shares of the new ΔW; without it all of it is taken.
    Raises `TooLittle`, `fit.RowsLost`, `fit.Diverged`, `StoreFull`; the base is left as it was.
    """
    name = run_name(dataset, recipe, base.base_hash, champion)
    folder = runs / name
    if (folder / DONE).is_file():
        return finished(folder)

    mixed = mixture(rows, taught=taught, recipe=recipe, seed=recipe.seed)
    fresh = sum(n for kind, n in mixed.counts.items() if kind.startswith("new ")) - (
        mixed.new_incidents
    )
    if fresh < least_rows:
        raise TooLittle(
            f"{fresh} new rows of {mixed.new_incidents} incidents, and a run takes {least_rows} "
            "(training.least_rows): wait for more resolved incidents"
        )
    note(f"{name}: {fresh} new rows of {mixed.new_incidents} incidents, {len(mixed.lessons)} rows")
    if mixed.under_rehearsed:
        note(f"under-rehearsed, fewer than 5 exemplars: {', '.join(mixed.under_rehearsed[:8])}")
    with in_our_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _keep(folder, "recipe.json", recipe.model_dump(mode="json") | {"dataset": dataset})
        _keep(folder, "mixture.json", _told(mixed))
        _keep(folder, "environment.json", environment(base))

        if not (folder / RAW / adapters.MANIFEST).is_file():
            items = [tokenised(base.tokenizer, w.prompt, w.answer, recipe.longest)
                     for w in mixed.lessons]  # fmt: skip
            _fit_adapter(base, champion, items, mixed, recipe, dataset, folder, progress)
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


def _fit_adapter(
    base: Loaded,
    champion: Path | None,
    items: Sequence[Item],
    mixed: Mixture,
    recipe: Recipe,
    dataset: str,
    folder: Path,
    progress: Callable[[Step], None] | None,
) -> None:
    """Fit, save and seal the raw adapter; what it cost is kept beside it."""
    knobs = Knobs(
        learning_rate=recipe.learning_rate,
        epochs=recipe.epochs,
        batch=recipe.batch,
        micro=recipe.micro,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        bf16=base.device == "cuda",
        gradient_checkpointing=recipe.gradient_checkpointing and base.device == "cuda",
        save_every=recipe.save_every,
    )
    energy = _begin(base, champion, recipe, folder)
    try:
        _check_room(base.model, folder)
        base.model.train()
        told = fit(
            base.model, items, [w.id for w in mixed.lessons], pad=base.tokenizer.pad_token_id,
            knobs=knobs, folder=folder / "checkpoints", progress=progress,
        )  # fmt: skip
        with whole(folder / RAW) as draft:
            base.model.save_pretrained(draft, selected_adapters=[_TRAINED])
            _flattened(draft)
            adapters.seal(
                draft, base_hash=base.base_hash, prompt_hash=prompt_hash(), dataset=dataset,
                parent=champion.name if champion else None, energy=energy,
            )  # fmt: skip
            _keep_cost(folder, told, items)
    finally:
        without_adapter(base, _TRAINED)
        base.model.eval()
        base.model.requires_grad_(False)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


_TRAINED = "learner"


def _begin(base: Loaded, champion: Path | None, recipe: Recipe, folder: Path) -> float:
    """Put the adapter that is to be trained beside the base; the energy that a cut in rank kept."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(recipe.seed)
    if champion is None:
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=round(recipe.rank * recipe.alpha_over_rank),
            lora_dropout=recipe.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        if isinstance(base.model, PeftModel):
            base.model.add_adapter(_TRAINED, config)
            base.model.set_adapter(_TRAINED)
        else:
            base.model = get_peft_model(base.model, config, adapter_name=_TRAINED)
        base.adapters.add(_TRAINED)
        return 1.0
    energy, begin = 1.0, champion
    if adapters.rank_of(champion) > recipe.rank:
        begin = folder / "begin"
        energy = adapters.compressed(champion, recipe.rank, begin)
    with_adapter(base, begin, name=_TRAINED, trainable=True)
    base.model.set_adapter(_TRAINED)
    return energy


def _flattened(draft: Path) -> None:
    """peft keeps a named adapter in a folder of that name; here a folder is one adapter."""
    inner = draft / _TRAINED
    if inner.is_dir():
        for file in inner.iterdir():
            file.replace(draft / file.name)
        inner.rmdir()
    for extra in draft.iterdir():
        if extra.name not in (adapters.WEIGHTS, adapters.CONFIG):
            extra.unlink()


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
        return 1.0
    adapters.interpolated(raw, champion, alpha, place)
    if adapters.rank_of(place) <= recipe.most_rank:
        return 1.0
    exact = place.with_name(place.name + ".exact")
    place.replace(exact)
    energy = adapters.compressed(exact, recipe.most_rank, place)
    shutil.rmtree(exact)
    return energy


def _scored(base: Loaded, place: Path, dev: Callable[[Answer], DevScore]) -> DevScore:
    with_adapter(base, place, name=place.name.replace(".", "_"))
    name = place.name.replace(".", "_")
    try:
        return dev(lambda prompts: generate(base, prompts, adapter=name, batch_size=64))
    finally:
        without_adapter(base, name)


def _told(mixed: Mixture) -> dict[str, Any]:
    return {
        "rows": len(mixed.lessons),
        "counts": mixed.counts,
        "capped": mixed.capped,
        "under_rehearsed": mixed.under_rehearsed,
        "sha256": hashlib.sha256("\n".join(w.id for w in mixed.lessons).encode()).hexdigest(),
    }


def _keep_cost(folder: Path, told: Fitted, items: Sequence[Item]) -> None:
    cost = {k: v for k, v in asdict(told).items() if k != "curve"}
    cost |= {"rows_cut": sum(bool(i.cut) for i in items), "rows_lost": sum(i.lost for i in items)}
    _keep(folder, "cost.json", cost)
    lines = "".join(json.dumps(point) + "\n" for point in told.curve)
    (folder / "curve.jsonl").write_text(lines, encoding="utf-8")


def _keep(folder: Path, name: str, told: Mapping[str, Any] | Sequence[Any]) -> None:
    draft = folder / f"{name}.new"
    draft.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    draft.replace(folder / name)


def _check_room(model: Any, folder: Path) -> None:
    """Raise `StoreFull` before the run, not after an hour of it."""
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = CHECKPOINTS * weights * 12  # a weight, and two moments of it
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(
            f"{folder} has {free // 2**20} MB free and the run's checkpoints need "
            f"{needed // 2**20}; free some, or set SCARWISE_HOME to a larger disk"
        )
