"""One fit of a model to rows: transformers' Trainer, guarded against what it lets pass.

    Diverged                (Unavailable) the loss or the gradients left the finite numbers for good
    RowsLost                (Refused) more rows than the limit do not fit into the context

The Trainer itself survives a NaN step with every weight destroyed and reports success; here such a
step is skipped, its rows are named, and after three the run ends. A gradient ten times the running
median is skipped too. Checkpoints count only once their DONE file is written, so that a killed run
resumes from the newest whole one.
"""

import gc
import json
import logging
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ingest.errors import Refused, Unavailable
from training.batches import IGNORED, Alike, Item, padded
from training.folders import to_disk
from training.packing import check_apart, packed
from training.watch import Step as Step
from training.watch import Watch, read, step_of

log = logging.getLogger(__name__)

MOST_LOST = 0.01  # of the rows
HALVINGS = 3  # of the micro-batch, after it did not fit into memory


class Diverged(Unavailable):
    """The loss or the gradients left the finite numbers for good."""


class RowsLost(Refused):
    """More rows than the limit do not fit into the context."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a fit can be told; `batch` is the effective one, `micro` what one process holds."""

    learning_rate: float
    epochs: float
    batch: int
    micro: int
    warmup: float = 0.05
    weight_decay: float = 0.0
    beta2: float = 0.999
    prompt_weight: float = 0.0
    seed: int = 0
    bf16: bool = False
    gradient_checkpointing: bool = False
    packing: bool = False
    save_every: int = 50
    steps: int = 0  # 0: as many as the epochs take
    processes: int = 1  # that share each batch


class _Row(NamedTuple):
    name: str
    item: Item
    part: int


@dataclass
class Fitted:
    """What a fit did and cost, before a resume too, but for what a kill undid; `skipped` holds
    each skipped step with its reason and row ids."""

    steps: int
    tokens: int  # real ones that went through the model, prompts too
    loss: float
    cpu_s: float
    wall_s: float
    peak_rss_mb: float
    peak_gpu_mb: float
    micro: int
    resumed_at: int
    skipped: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, float]] = field(default_factory=list)


def fit(
    model: Any,
    items: Sequence[Item],
    ids: Sequence[str],
    *,
    pad: int,
    knobs: Knobs,
    folder: Path,
    parts: Sequence[int] = (),
    progress: Callable[[Step], None] | None = None,
) -> Fitted:
    """Fit the trainable weights of `model` to the answers of `items`, named by `ids`, in place.

    Items that must come one part after another have a number each in `parts`, in rising order.
    Resumes from the newest whole checkpoint in `folder`; on a CPU the end is the same, bit for
    bit, as without the interruption. Out of memory halves `micro` and keeps `batch`.
    With packing, a base that cannot tell packed rows apart is refused: `packing.NotApart`.
    """
    import torch

    rows = dict(zip(ids, items, strict=True))  # each once, however often it is taught
    lost = [name for name, item in rows.items() if item.lost]
    if len(lost) > MOST_LOST * len(rows):
        raise RowsLost(
            f"{len(lost)} of {len(rows)} rows have an answer that does not fit into the context "
            f"({', '.join(lost[:5])}); raise the recipe's longest, or shorten the incidents"
        )
    told = zip(ids, items, parts or [0] * len(items), strict=True)
    kept = [_Row(*row) for row in told if not row[1].lost]
    if not kept:
        raise RowsLost("there is no row to learn from")
    begun = whole_checkpoint(folder)
    micro, _ = _shares(knobs, read(begun)["micro"] if begun else knobs.micro)
    before = _trainable(model)
    for attempt in range(HALVINGS + 1):
        try:
            return _fit(model, kept, pad, knobs, micro, folder, progress)
        except torch.OutOfMemoryError:
            if attempt == HALVINGS or micro == 1 or knobs.processes > 1:
                raise Diverged(
                    f"out of memory at {micro} rows at a time; lower the recipe's micro or its "
                    "longest, set gradient_checkpointing, or choose a smaller base"
                ) from None
        micro = max(1, micro // 2)
        log.warning("fit.out_of_memory micro=%d", micro)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if whole_checkpoint(folder) is None:
            model.load_state_dict(before, strict=False)
    raise AssertionError("unreachable")


def whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [p for p in folder.glob("checkpoint-*") if (p / "DONE").is_file()]
    return max(found, key=step_of, default=None)


def _trainable(model: Any) -> dict[str, Any]:
    return {n: w.detach().cpu().clone() for n, w in model.named_parameters() if w.requires_grad}


def _shares(knobs: Knobs, micro: int) -> tuple[int, int]:
    """Rows at a time in one process, and how often before a step: together the batch."""
    each = max(1, knobs.batch // knobs.processes)
    micro = max(n for n in range(1, min(micro, each) + 1) if each % n == 0)
    return micro, each // micro


def _fit(
    model: Any,
    rows: Sequence[_Row],
    pad: int,
    knobs: Knobs,
    micro: int,
    folder: Path,
    progress: Callable[[Step], None] | None,
) -> Fitted:
    import torch

    trainer, watch = _trainer(model, rows, pad, knobs, micro, folder, progress)
    resume = whole_checkpoint(folder)
    if resume:
        watch.resume(resume)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with _left_in_training(model):
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    try:
        if watch.diverged:
            raise Diverged(watch.diverged)
        check_finite(model)
    except Diverged:
        if trainer.is_world_process_zero():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return Fitted(
        steps=trainer.state.global_step,
        tokens=watch.tokens,
        loss=watch.curve[-1].get("loss", math.nan) if watch.curve else math.nan,
        cpu_s=watch.cpu_s,
        wall_s=watch.wall_s,
        peak_rss_mb=_peak_rss_mb(),
        peak_gpu_mb=torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0,
        micro=watch.micro,
        resumed_at=step_of(resume) if resume else 0,
        skipped=watch.skipped,
        curve=watch.curve,
    )


@contextmanager
def _left_in_training(model: Any) -> Iterator[None]:
    """The Trainer sets every module to training before each micro-batch, and clears the gradient
    of every weight, the frozen ones too: a twentieth of a small model's time. Here the first is
    done once, and the second for what has a gradient."""
    learning = [w for w in model.parameters() if w.requires_grad]

    def zero_grad(set_to_none: bool = True) -> None:
        for weight in learning:
            weight.grad = None

    model.train()
    model.train, model.zero_grad = lambda mode=True: model, zero_grad
    try:
        yield
    finally:
        del model.train, model.zero_grad


def check_finite(model: Any) -> None:
    """Raise `Diverged` when a weight is not a finite number."""
    import torch

    broken = [
        name
        for name, weight in model.named_parameters()
        if weight.requires_grad and not bool(torch.isfinite(weight).all())
    ]
    if broken:
        raise Diverged(f"{len(broken)} weights are not finite, the first is {broken[0]}")


def _trainer(
    model: Any,
    rows: Sequence[_Row],
    pad: int,
    knobs: Knobs,
    micro: int,
    folder: Path,
    progress: Callable[[Step], None] | None,
) -> tuple[Any, Watch]:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_callback import PrinterCallback

    class Guarded(Trainer):
        """The Trainer, with a loss that weighs prompts and a step that cannot poison weights."""

        def compute_loss(  # type: ignore[override]
            self, model: Any, inputs: Any, **more: Any
        ) -> Any:
            names, tokens = inputs.pop("names"), inputs.pop("tokens")
            loss = _loss(model, inputs, more["num_items_in_batch"])
            watch.saw(names, tokens, float(loss.detach()))
            # The gradients of several processes are averaged, and the count is of all of them.
            return loss * self.accelerator.num_processes

        def floating_point_ops(self, inputs: Any) -> int:
            # Nobody reads the estimate, and it goes through every weight for every micro-batch.
            return 0

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return order

        def _clip_grad_norm(self, model: Any) -> Any:
            norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
            watch.norm = float(norm)
            if self.accelerator.num_processes > 1:  # all of them skip, or none
                told = torch.tensor([watch.bad_loss, watch.fresh], device=self.args.device)
                bad, watch.fresh = self.accelerator.reduce(told).tolist()
                watch.bad_loss = bool(bad)
            return norm

        def _save_checkpoint(self, *args: Any, **more: Any) -> None:
            super()._save_checkpoint(*args, **more)
            self.accelerator.wait_for_everyone()
            if self.is_world_process_zero():
                _mark_whole(folder / f"checkpoint-{self.state.global_step}", watch)

    class Watching(TrainerCallback):
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            # Between a resumed run and its sampler stand wrappers that do not always pass it on.
            order.set_epoch(state.global_step // each_epoch)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            watch.before_step(more["model"], state.global_step)
            control.should_training_stop |= bool(watch.diverged)

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            watch.logged(state.global_step, state.max_steps, more["logs"])

    if knobs.packing:
        check_apart(model)
    on_cpu = next(model.parameters()).device.type == "cpu"
    data = [{"item": item, "name": name, "input_ids": item.ids} for name, item, _ in rows]
    micro, accumulation = _shares(knobs, micro)
    # By the first micro: after a halving the steps still hold the rows that they would have held.
    order = Alike(
        [len(row.item.ids) for row in rows], _shares(knobs, knobs.micro)[0], knobs.seed,
        parts=list(Counter(row.part for row in rows).values()),
    )  # fmt: skip
    each_epoch = math.ceil(len(data) / (micro * accumulation * knobs.processes))
    steps = knobs.steps or math.ceil(each_epoch * knobs.epochs)
    watch = Watch(micro, progress)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        learning_rate=knobs.learning_rate,
        max_steps=steps,
        warmup_steps=max(1, round(knobs.warmup * steps)),
        lr_scheduler_type="cosine",
        weight_decay=knobs.weight_decay,
        adam_beta2=knobs.beta2,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        logging_strategy="steps",
        logging_steps=max(1, min(10, steps // 20)),
        save_strategy="steps",
        save_steps=knobs.save_every,
        save_total_limit=2,
        seed=knobs.seed,
        data_seed=knobs.seed,
        use_cpu=on_cpu,
        bf16=knobs.bf16,
        activation_checkpointing=knobs.gradient_checkpointing,
        dataloader_pin_memory=not on_cpu,
        report_to="none",
        disable_tqdm=True,
    )

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        items = [r["item"] for r in some]
        if knobs.packing:
            batch = packed(items, prompt_weight=knobs.prompt_weight)
        else:
            batch = padded(items, pad, prompt_weight=knobs.prompt_weight)
            # Padding stands on the right, where no token that counts looks: causal attention needs
            # no mask, and without one it is computed by faster kernels.
            batch.pop("attention_mask")
            batch["counted"] = 1 if knobs.prompt_weight else min(item.prompt for item in items)
        tokens = sum(len(item.ids) for item in items)
        return batch | {"names": [r["name"] for r in some], "tokens": tokens}

    trainer = Guarded(
        model=model, args=arguments, train_dataset=data, data_collator=collate,
        callbacks=[Watching()],
    )  # fmt: skip
    # The loss is ours, so the count of what it is divided by can be had for any architecture.
    trainer.model_accepts_loss_kwargs = True
    trainer.remove_callback(PrinterCallback)
    return trainer, watch


def _loss(model: Any, inputs: dict[str, Any], answered: Any) -> Any:
    """Cross entropy summed over the tokens that count, divided by the answer tokens of the step.

    The first `counted` tokens of every row do not count, or those in the places `counted` alone
    do; nothing is computed of what the model would say in the others' place: of a large
    vocabulary that would be most of the memory.
    """
    import torch

    counted, weights = inputs.pop("counted"), inputs.pop("loss_weights", None)
    labels = inputs.pop("labels")
    places = slice(counted, None) if isinstance(counted, int) else counted
    wanted = (labels if weights is None else inputs["input_ids"])[:, places]
    if isinstance(counted, int):
        last = wanted.shape[1] + 1
        logits = model(**inputs, use_cache=False, logits_to_keep=last).logits[:, -last:-1].float()
    else:
        logits = model(**inputs, use_cache=False, logits_to_keep=counted - 1).logits.float()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="none"
    )
    if weights is not None:
        losses = losses * weights[:, places].flatten()
    return losses.sum() / answered


def _mark_whole(checkpoint: Path, watch: Watch) -> None:
    watch.keep(checkpoint)
    for file in (p for p in checkpoint.rglob("*") if p.is_file()):
        to_disk(file)
    (checkpoint / "DONE").write_text(json.dumps({"at": time.time()}), encoding="utf-8")
    to_disk(checkpoint / "DONE")


def _peak_rss_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
