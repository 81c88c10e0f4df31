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
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ingest.errors import Refused, Unavailable
from training.batches import IGNORED, Alike, Item, padded

log = logging.getLogger(__name__)

STRIKES = 3
SETTLED = 20  # steps before a norm can be called unusual
SPIKE = 10.0  # times the running median of the gradient's norm
MOST_LOST = 0.01  # of the rows
HALVINGS = 3  # of the micro-batch, after it did not fit into memory


class Diverged(Unavailable):
    """The loss or the gradients left the finite numbers for good."""


class RowsLost(Refused):
    """More rows than the limit do not fit into the context."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a fit is: `left_s` guesses from the steps so far."""

    step: int
    steps: int
    loss: float
    tokens_per_s: float
    left_s: float


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a fit can be told; `batch` is the effective one, `micro` what is in memory at once."""

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
    save_every: int = 50
    steps: int = 0  # 0: as many as the epochs take


@dataclass
class Fitted:
    """What a fit did and cost; `skipped` holds each skipped step with its reason and row ids."""

    steps: int
    tokens: int  # real ones that went through the model, prompts too, in this process
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
    progress: Callable[[Step], None] | None = None,
) -> Fitted:
    """Fit the trainable weights of `model` to the answers of `items`, named by `ids`, in place.

    Resumes from the newest whole checkpoint in `folder`; on a CPU the end is the same, bit for
    bit, as without the interruption. Out of memory halves `micro` and keeps `batch`.
    """
    import torch

    lost = [name for name, item in zip(ids, items, strict=True) if item.lost]
    if len(lost) > MOST_LOST * len(items):
        raise RowsLost(
            f"{len(lost)} of {len(items)} rows have an answer that does not fit into the context "
            f"({', '.join(lost[:5])}); raise the recipe's longest, or shorten the incidents"
        )
    kept = [(n, i) for n, i in zip(ids, items, strict=True) if not i.lost]
    micro = min(knobs.micro, knobs.batch)
    for attempt in range(HALVINGS + 1):
        try:
            return _fit(model, kept, pad, knobs, micro, folder, progress)
        except torch.OutOfMemoryError:
            if attempt == HALVINGS or micro == 1:
                raise Diverged(
                    f"out of memory at {micro} rows at a time; choose a smaller base, a smaller "
                    "longest, or gradient_checkpointing in the recipe"
                ) from None
        micro = max(1, micro // 2)
        log.warning("fit.out_of_memory micro=%d", micro)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    raise AssertionError("unreachable")


def whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [p for p in folder.glob("checkpoint-*") if (p / "DONE").is_file()]
    return max(found, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def _fit(
    model: Any,
    rows: Sequence[tuple[str, Item]],
    pad: int,
    knobs: Knobs,
    micro: int,
    folder: Path,
    progress: Callable[[Step], None] | None,
) -> Fitted:
    import torch

    trainer, watch = _trainer(model, rows, pad, knobs, micro, folder, progress)
    resume = whole_checkpoint(folder)
    cpu, wall = time.process_time(), time.perf_counter()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if watch.diverged:
        raise Diverged(watch.diverged)
    check_finite(model)
    return Fitted(
        steps=trainer.state.global_step,
        tokens=watch.tokens,
        loss=watch.curve[-1]["loss"] if watch.curve else math.nan,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
        peak_rss_mb=_peak_rss_mb(),
        peak_gpu_mb=torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0,
        micro=micro,
        resumed_at=int(resume.name.rpartition("-")[2]) if resume else 0,
        skipped=watch.skipped,
        curve=watch.curve,
    )


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
    rows: Sequence[tuple[str, Item]],
    pad: int,
    knobs: Knobs,
    micro: int,
    folder: Path,
    progress: Callable[[Step], None] | None,
) -> tuple[Any, "_Watch"]:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Guarded(Trainer):
        """The Trainer, with a loss that weighs prompts and a step that cannot poison weights."""

        def compute_loss(  # type: ignore[override]
            self, model: Any, inputs: Any, **more: Any
        ) -> Any:
            names = inputs.pop("names")
            loss = _loss(model, inputs, more.get("num_items_in_batch"))
            watch.saw(names, inputs, loss)
            return loss

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return Alike([len(item.ids) for _, item in rows], micro, knobs.seed)

        def _clip_grad_norm(self, model: Any) -> Any:
            norm = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
            watch.norm = float(norm)
            return norm

        def _save_checkpoint(self, *args: Any, **more: Any) -> None:
            super()._save_checkpoint(*args, **more)
            _mark_whole(folder / f"checkpoint-{self.state.global_step}")

    class Watching(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            watch.before_step(more["model"], state.global_step)
            control.should_training_stop |= bool(watch.diverged)

        def on_log(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            watch.logged(state.global_step, state.max_steps, more["logs"])

    on_cpu = next(model.parameters()).device.type == "cpu"
    data = [{"item": item, "name": name, "input_ids": item.ids} for name, item in rows]
    accumulation = max(1, knobs.batch // micro)
    steps = knobs.steps or math.ceil(
        math.ceil(math.ceil(len(data) / micro) / accumulation) * knobs.epochs
    )
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
        logging_nan_inf_filter=False,
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
    watch = _Watch(progress)

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        batch = padded([r["item"] for r in some], pad, prompt_weight=knobs.prompt_weight)
        return batch | {"names": [r["name"] for r in some]}

    trainer = Guarded(
        model=model, args=arguments, train_dataset=data, data_collator=collate,
        callbacks=[Watching()],
    )  # fmt: skip
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    return trainer, watch


class _Watch:
    """What went on: tokens, curve, and the steps that were skipped."""

    def __init__(self, progress: Callable[[Step], None] | None) -> None:
        self.tokens = 0
        self.curve: list[dict[str, float]] = []
        self.skipped: list[dict[str, Any]] = []
        self.diverged: str | None = None
        self._progress = progress
        self._began = time.perf_counter()
        self._names: list[str] = []
        self._bad_loss = False
        self._strikes = 0
        self._norms: deque[float] = deque(maxlen=50)
        self.norm = 0.0

    def saw(self, names: Sequence[str], inputs: Any, loss: Any) -> None:
        self.tokens += int(inputs["attention_mask"].sum())
        self._names += names
        self._bad_loss |= not math.isfinite(float(loss.detach()))

    def before_step(self, model: Any, step: int) -> None:
        """Skip this step when its loss or its gradients cannot be trusted."""
        why = self._flaw()
        if why:
            self.skipped.append({"step": step, "why": why, "rows": list(self._names)})
            log.warning("fit.skipped step=%d why=%r rows=%s", step, why, self._names[:4])
            # Without gradients the optimizer leaves weights and moments as they are.
            for weight in model.parameters():
                weight.grad = None
        else:
            self._norms.append(self.norm)
        self._strikes = self._strikes + 1 if why else 0
        if self._strikes >= STRIKES:
            named = ", ".join(dict.fromkeys(n for s in self.skipped[-STRIKES:] for n in s["rows"]))
            self.diverged = (
                f"{STRIKES} steps in a row had a {why}; nothing of this run is kept. "
                f"Look at rows {named[:200]}, or lower the recipe's learning_rate"
            )
        self._names, self._bad_loss = [], False

    def _flaw(self) -> str | None:
        if self._bad_loss:
            return "loss that is not finite"
        if not math.isfinite(self.norm):
            return "gradient that is not finite"
        usual = median(self._norms) if len(self._norms) >= SETTLED else math.inf
        if self.norm > SPIKE * usual:
            return f"gradient of norm {self.norm:.3g} where {usual:.3g} is usual"
        return None

    def logged(self, step: int, steps: int, logs: dict[str, Any]) -> None:
        if "loss" not in logs:
            return
        took = time.perf_counter() - self._began
        rate = self.tokens / took if took else 0.0
        point = {"step": step, "loss": float(logs["loss"]), "tokens_per_s": round(rate, 1)}
        point |= {k: float(logs[k]) for k in ("grad_norm", "learning_rate") if k in logs}
        self.curve.append(point)
        if self._progress:
            each = took / max(1, step)
            self._progress(Step(step, steps, point["loss"], rate, each * (steps - step)))


def _loss(model: Any, inputs: dict[str, Any], items: Any) -> Any:
    """Cross entropy summed over the tokens that count, for each answer token of the whole batch."""
    import torch

    weights = inputs.pop("loss_weights", None)
    labels = inputs.pop("labels")[:, 1:]
    wanted = labels if weights is None else inputs["input_ids"][:, 1:]
    logits = model(**inputs).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )
    if weights is not None:
        losses = losses * weights[:, 1:]
    count = items if items is not None else (labels != IGNORED).sum()
    return losses.sum() / count


def _mark_whole(checkpoint: Path) -> None:
    with (checkpoint / "DONE").open("w", encoding="utf-8") as file:
        file.write(json.dumps({"at": time.time()}))
        file.flush()
        os.fsync(file.fileno())


def _peak_rss_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
