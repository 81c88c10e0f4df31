"""An adapter that learns: put beside the base, fitted to lessons, left in the run's folder."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ingest.errors import StoreFull
from training import adapters
from training.batches import Item, tokenised
from training.fit import Fitted, Knobs, Step, fit
from training.folders import whole
from training.mixture import Lesson
from training.model import Loaded, with_adapter, without_adapter
from training.recipe import Recipe

LEARNED = "learned"
CHECKPOINTS = 3  # times the size of one that must be free before a run begins
_NAME = "learner"


def learned(
    base: Loaded,
    begin: Path | None,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    folder: Path,
    *,
    processes: int = 1,
    first: bool = True,
    progress: Callable[[Step], None] | None = None,
) -> None:
    """Fit an adapter, going on from `begin`, and leave it in `folder / LEARNED`; the base is left
    as it was, and what the fit cost is kept beside the adapter.

    Of several processes each calls this with the same arguments, and the `first` one writes.
    Raises `fit.RowsLost`, `fit.Diverged` and `StoreFull`.
    """
    ids, items = [w.id for w in lessons], _tokenised(base, lessons, recipe.longest)
    _begin(base, begin, recipe)
    try:
        _check_room(base.model, folder)
        base.model.train()
        told = fit(
            base.model, items, ids, pad=base.tokenizer.pad_token_id,
            knobs=_knobs(recipe, base, processes), folder=folder / "checkpoints",
            parts=[lesson.epoch for lesson in lessons], progress=progress,
        )  # fmt: skip
        if first:
            _keep_cost(folder, told, dict(zip(ids, items, strict=True)))
            with whole(folder / LEARNED) as draft:
                base.model.save_pretrained(draft, selected_adapters=[_NAME])
                _flattened(draft)
    finally:
        base.model.activation_checkpointing_disable()
        without_adapter(base, _NAME)
        base.model.eval()
        base.model.requires_grad_(False)


def _tokenised(base: Loaded, lessons: Sequence[Lesson], longest: int) -> list[Item]:
    """Each lesson as token ids; every epoch has what is new again, and that is made once."""
    made: dict[tuple[str, str, str], Item] = {}
    items = []
    for lesson in lessons:
        told = (lesson.prompt.system, lesson.prompt.user, lesson.answer)
        if told not in made:
            made[told] = tokenised(base.tokenizer, lesson.prompt, lesson.answer, longest)
        items.append(made[told])
    return items


def _knobs(recipe: Recipe, base: Loaded, processes: int) -> Knobs:
    return Knobs(
        learning_rate=recipe.learning_rate,
        epochs=1,  # the lessons are those of all epochs
        batch=recipe.batch,
        micro=recipe.micro,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay,
        seed=recipe.seed,
        bf16=base.dtype == "bfloat16",
        gradient_checkpointing=recipe.gradient_checkpointing,
        packing=recipe.packing,
        save_every=recipe.save_every,
        processes=processes,
    )


def _begin(base: Loaded, begin: Path | None, recipe: Recipe) -> None:
    """Put the adapter that is to be trained beside the base."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    if begin is not None:
        with_adapter(base, begin, name=_NAME, trainable=True)
        base.model.set_adapter(_NAME)
        return
    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=round(recipe.rank * recipe.alpha_over_rank),
        lora_dropout=recipe.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    if isinstance(base.model, PeftModel):
        base.model.add_adapter(_NAME, config)
        base.model.set_adapter(_NAME)
    else:
        base.model = get_peft_model(base.model, config, adapter_name=_NAME)
    base.adapters.add(_NAME)


def _check_room(model: Any, folder: Path) -> None:
    """Raise `StoreFull` before the run, not after an hour of it."""
    weights = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = CHECKPOINTS * weights * 12  # a weight, and two moments of it
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StoreFull(
            f"{folder} has {free // 2**20} MB free and the run's checkpoints need "
            f"{-(-needed // 2**20)}; free some, or set SCARWISE_HOME to a larger disk"
        )


def _keep_cost(folder: Path, told: Fitted, items: Mapping[str, Item]) -> None:
    cost = {k: v for k, v in asdict(told).items() if k != "curve"}
    cost |= {"rows_cut": sum(bool(i.cut) for i in items.values())}
    cost |= {"rows_lost": sum(i.lost for i in items.values())}
    (folder / "cost.json").write_text(json.dumps(cost, indent=1) + "\n", encoding="utf-8")
    lines = "".join(json.dumps(point) + "\n" for point in told.curve)
    (folder / "curve.jsonl").write_text(lines, encoding="utf-8")


def _flattened(draft: Path) -> None:
    """peft keeps a named adapter in a folder of that name; here a folder is one adapter."""
    inner = draft / _NAME
    if inner.is_dir():
        for file in inner.iterdir():
            file.replace(draft / file.name)
        inner.rmdir()
    for extra in draft.iterdir():
        if extra.name not in (adapters.WEIGHTS, adapters.CONFIG):
            extra.unlink()
