"""What training costs beside a bare peft and torch loop, on the same rows in the same run.

    python -m benchmarks.throughput [--shapes offline,small] [--device cpu] [--rounds 5] [--rows N]
    python -m benchmarks.throughput --shapes qwen3-4b --device cuda

Arms take turns: ours (`training.learner`, as `scarwise train` calls it), a bare loop with the
model's own loss, the same loop with our loss, and on a GPU ours and a bare one whose rows are
packed into one without padding. All have the same rows in the same order, the same LoRA, optimizer
and schedule. A rate counts real tokens, from the end of the first step to the end of the last;
what comes before and after it is told apart. Results go to benchmarks/results/throughput.json, of
a GPU to throughput-cuda.json.
"""

import argparse
import gc
import json
import math
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.results import keep, table
from training import fit, recipe
from training.base import Shape, vocabulary
from training.batches import Alike, Item, padded, tokenised
from training.learner import LEARNED, learned
from training.mixture import Lesson, mixture
from training.model import Loaded, load_base
from training.packing import packed
from training.recipe import Recipe

AIM = 0.95  # of the bare loop with the model's own loss
LOOP = Path("benchmarks/.cache/loop")
# What a card does at most in bfloat16 without sparsity, FLOP/s, by its maker's data sheet.
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
SHAPES = {
    "small": {"hidden_size": 384, "intermediate_size": 1_152, "num_hidden_layers": 6,
              "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64,
              "vocab_size": 4_096},
    "qwen3-4b": {"hidden_size": 2_560, "intermediate_size": 9_728, "num_hidden_layers": 36,
                 "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
                 "vocab_size": 151_936},
}  # fmt: skip

Clock = Callable[[], None]


@dataclass(frozen=True)
class Work:
    """What every arm does: these rows for this base."""

    base: Loaded
    lessons: list[Lesson]
    recipe: Recipe

    @cached_property
    def items(self) -> list[Item]:
        told = self.base.tokenizer
        return [tokenised(told, w.prompt, w.answer, self.recipe.longest) for w in self.lessons]

    @cached_property
    def order(self) -> list[int]:
        return list(Alike([len(i.ids) for i in self.items], self.recipe.micro, self.recipe.seed))


@dataclass(frozen=True, slots=True)
class Lap:
    """One arm once: `cpu_s` and `wall_s` of all steps but the first, `around_cpu_s` of the rest."""

    tokens: int
    cpu_s: float
    wall_s: float
    around_cpu_s: float
    peak_mb: float  # of the GPU: what tensors held
    reserved_mb: float  # and what torch's allocator had taken for them


def ours(work: Work, folder: Path, clock: Clock) -> None:
    learned(work.base, None, work.lessons, work.recipe, folder, progress=lambda step: clock())


def ours_packed(work: Work, folder: Path, clock: Clock) -> None:
    packing = work.recipe.model_copy(update={"packing": True})
    ours(replace(work, recipe=packing), folder, clock)


def bare(loss: Callable[[Any, Sequence[Item], int, Work], Any]) -> Any:
    """A loop with this loss, as one writes it without a Trainer."""

    def loop(work: Work, folder: Path, clock: Clock) -> None:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import get_cosine_schedule_with_warmup

        base, knobs, items, order = work.base, work.recipe, work.items, work.order
        torch.manual_seed(knobs.seed)
        config = LoraConfig(
            r=knobs.rank, lora_alpha=round(knobs.rank * knobs.alpha_over_rank),
            target_modules="all-linear", task_type="CAUSAL_LM",
        )  # fmt: skip
        model = get_peft_model(base.model, config)
        model.train()
        if knobs.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        trained = [w for w in model.parameters() if w.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=knobs.learning_rate, weight_decay=knobs.weight_decay, fused=True
        )
        steps = math.ceil(len(order) / knobs.batch)
        warmup = max(1, round(knobs.warmup * steps))
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, steps)
        for start in range(0, len(order), knobs.batch):
            rows = [items[n] for n in order[start : start + knobs.batch]]
            answered = sum(len(i.ids) - i.prompt for i in rows)
            for first in range(0, len(rows), knobs.micro):
                with torch.autocast(base.device, torch.bfloat16, enabled=base.dtype == "bfloat16"):
                    value = loss(model, rows[first : first + knobs.micro], answered, work)
                value.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            clock()
        model.save_pretrained(folder / LEARNED)
        model.activation_checkpointing_disable()
        base.model = model.unload()
        base.model.eval().requires_grad_(False)

    return loop


def models_own(model: Any, items: Sequence[Item], answered: int, work: Work) -> Any:
    batch = {k: v.to(work.base.device) for k, v in padded(items, 0).items()}
    return model(**batch, use_cache=False, num_items_in_batch=answered).loss


def our_loss(model: Any, items: Sequence[Item], answered: int, work: Work) -> Any:
    batch: dict[str, Any] = {k: v.to(work.base.device) for k, v in padded(items, 0).items()}
    batch.pop("attention_mask")
    batch["counted"] = min(item.prompt for item in items)
    return fit._loss(model, batch, answered)


def packed_loss(model: Any, items: Sequence[Item], answered: int, work: Work) -> Any:
    batch = {k: v.to(work.base.device) for k, v in packed(items).items()}
    return fit._loss(model, batch, answered)


ARMS = {
    "ours": ours,
    "ours, packed": ours_packed,
    "bare loop": bare(models_own),
    "bare loop, our loss": bare(our_loss),
    "bare loop, packed": bare(packed_loss),
}
BESIDE = {"bare loop": "ours", "bare loop, our loss": "ours", "bare loop, packed": "ours, packed"}


def lap(arm: Any, work: Work, folder: Path) -> Lap:
    """The arm once, in a folder of its own."""
    import torch

    gpu = work.base.device == "cuda"
    ends: list[tuple[float, float]] = []

    def clock() -> None:
        if gpu:
            torch.cuda.synchronize()
        ends.append((time.process_time(), time.perf_counter()))

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    gc.collect()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    began = time.process_time()
    arm(work, folder, clock)
    whole = time.process_time() - began
    items, order = work.items, work.order
    tokens = sum(len(items[n].ids) for n in order[work.recipe.batch :])
    cpu_s, wall_s = (ends[-1][n] - ends[0][n] for n in (0, 1))
    each = cpu_s / (len(ends) - 1)
    peak = torch.cuda.max_memory_allocated() / 2**20 if gpu else 0.0
    reserved = torch.cuda.max_memory_reserved() / 2**20 if gpu else 0.0
    return Lap(tokens, cpu_s, wall_s, whole - cpu_s - each, peak, reserved)


def offline(rows: int) -> Work:
    """The base of the loop's first world with what it learns in its first era."""
    from benchmarks.loop import World

    world = World((LOOP / "seed-7").absolute(), 7, 4)
    chosen = recipe.read("tiny").model_copy(update={"seed": 7})
    mixed = mixture(
        world.exports[0].rows(), taught=world.known_before(1), recipe=chosen, seed=chosen.seed
    )
    world.store.close()
    lessons = [replace(w, epoch=0) for w in random.Random(7).sample(mixed.lessons, rows)]
    return Work(load_base(str(world.base.folder), device="cpu"), lessons, chosen)


def random_base(shape: str, rows: int, device: str) -> Work:
    """A Qwen3 of this shape with random weights, and made-up rows of a real history's lengths."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    large = shape == "qwen3-4b"
    lessons = made_up(rows, 290 if large else 60)
    tokenizer = vocabulary(lessons, Shape(vocabulary=1_024))
    config = Qwen3Config(**SHAPES[shape], max_position_embeddings=4_096, tie_word_embeddings=True)
    torch.manual_seed(7)
    dtype = "bfloat16" if device == "cuda" else "float32"
    torch.set_default_dtype(getattr(torch, dtype))
    with torch.device(device):
        model = Qwen3ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.eval().requires_grad_(False)
    base = Loaded(shape, tokenizer, model, shape, device, dtype, Path(shape))
    # Fewer rows at a time leave an H100 waiting for the one thread that tells it what to do.
    large_one, small_one = {"batch": 16, "micro": 8}, {"batch": 8, "gradient_checkpointing": False}
    read = recipe.read("lora").model_copy(update=(large_one if large else small_one) | {"seed": 7})
    return Work(base, lessons, read)


def made_up(rows: int, words: int) -> list[Lesson]:
    """Alerts of so many words in the median, as uneven as alerts are."""
    from retrieval.prompt import Reply, prompt, written

    rng = random.Random(7)
    known = [f"{a}{b}{n}" for a in ("db", "node", "api", "disk") for b in "-_" for n in range(40)]
    answer = written(
        Reply(status="known", cause="The log volume was full.", fix="Rotate the logs.")
    )
    texts = [
        " ".join(rng.choices(known, k=max(20, round(rng.lognormvariate(0, 0.5) * words))))
        for _ in range(rows)
    ]
    return [Lesson(f"row-{n}", prompt(text), answer) for n, text in enumerate(texts)]


def measured(work: Work, arms: Sequence[str], rounds: int, name: str) -> dict[str, Any]:
    """Every arm in every round, each round in another order; ratios are taken within a round."""
    gpu = work.base.device == "cuda"
    laps: dict[str, list[Lap]] = {arm: [] for arm in arms}
    with tempfile.TemporaryDirectory() as place:
        for n in range(rounds + gpu):
            turn = n % len(arms)
            for arm in (*arms[turn:], *arms[:turn]):
                laps[arm].append(lap(ARMS[arm], work, Path(place) / arm))
                done = laps[arm][-1]
                print(f"  {name}, round {n + 1} of {rounds + gpu}, {arm}: "
                      f"{done.tokens / done.cpu_s:.0f} tokens per CPU-s, "
                      f"{done.tokens / done.wall_s:.0f} per s", flush=True)  # fmt: skip
        apart = {arm: difference(Path(place) / BESIDE[arm], Path(place) / arm)
                 for arm in arms if arm in BESIDE}  # fmt: skip
    # A GPU loads kernels for each shape that it meets first: the first round is of no use.
    laps = {arm: held[gpu:] for arm, held in laps.items()}
    items, order, micro = work.items, work.order, work.recipe.micro
    lengths = [
        [len(items[n].ids) for n in order[k : k + micro]] for k in range(0, len(order), micro)
    ]
    tokens = sum(map(sum, lengths))
    return {
        "weights": work.base.model.num_parameters(),
        "rows": len(items),
        "tokens": tokens,
        "padding": 1 - tokens / sum(len(some) * max(some) for some in lengths),
        "batch": work.recipe.batch,
        "micro": micro,
        "largest difference of an adapter's weight": apart,
        "laps": {arm: [asdict(one) for one in held] for arm, held in laps.items()},
        "ratios": {
            arm: {u: ratio(laps[BESIDE[arm]], laps[arm], u) for u in ("cpu_s", "wall_s")}
            for arm in arms
            if arm in BESIDE
        },
    }


def ratio(one: Sequence[Lap], other: Sequence[Lap], unit: str) -> dict[str, float]:
    """How fast the one is beside the other: the geometric mean over rounds, and Student's 95 %."""
    from scipy.stats import t

    logs = [math.log(getattr(b, unit) / getattr(a, unit)) for a, b in zip(one, other, strict=True)]
    mean = statistics.fmean(logs)
    half = t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"ratio": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def difference(one: Path, other: Path) -> float:
    """Between two adapters: by rounding alone, when both loops did the same."""
    from safetensors.torch import load_file

    a, b = (load_file(p / LEARNED / "adapter_model.safetensors") for p in (one, other))
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def with_mfu(found: dict[str, Any], work: Work) -> dict[str, Any]:
    """Beside the figures of a GPU, the share of its peak."""
    import torch

    name = torch.cuda.get_device_name()
    peak = next((flops for card, flops in PEAK.items() if card in name), None)
    flops = flops_per_token(work)
    rates = {arm: sum(one["tokens"] for one in held) / sum(one["wall_s"] for one in held)
             for arm, held in found["laps"].items()}  # fmt: skip
    mfu = {arm: rate * flops / peak for arm, rate in rates.items()} if peak else None
    return found | {"gpu": name, "flops_per_token": flops, "mfu": mfu}


def flops_per_token(work: Work) -> int:
    """Of a forward and a backward pass through frozen linear layers. Attention, LoRA and the head,
    which is asked for the answers only, are not counted, nor what checkpointing computes again."""
    from torch.nn import Linear

    held = work.base.model.named_modules()
    return 4 * sum(m.weight.numel() for n, m in held if isinstance(m, Linear) and n != "lm_head")


def shown(found: dict[str, dict[str, Any]]) -> str:
    lines = []
    for shape, told in found.items():
        for arm, held in told["laps"].items():
            rates = [statistics.median(one["tokens"] / one[u] for one in held)
                     for u in ("cpu_s", "wall_s")]  # fmt: skip
            around = statistics.median(one["around_cpu_s"] for one in held)
            peak = max(one["peak_mb"] for one in held)
            beside = told["ratios"].get(arm, {}).get("cpu_s" if not peak else "wall_s")
            mfu = (told.get("mfu") or {}).get(arm)
            lines.append((
                f"{shape}, {told['weights'] / 1e6:.1f} M", arm, *(f"{r:,.0f}" for r in rates),
                f"{around:.1f}", f"{peak:,.0f}" if peak else "-", f"{mfu:.0%}" if mfu else "-",
                f"{beside['ratio']:.2f} [{beside['low']:.2f}, {beside['high']:.2f}]"
                if beside else "-",
            ))  # fmt: skip
    return table(
        ("base", "arm", "tokens/CPU-s", "tokens/s", "around, CPU-s", "GPU MB", "MFU", "beside it"),
        lines,
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--shapes", default="offline,small")
    words.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--rows", type=int, default=0, help="0: 320 offline, 48 small, 256 of 4 B")
    asked = words.parse_args()
    import torch

    torch.set_num_threads(1)
    found: dict[str, dict[str, Any]] = {}
    for shape in asked.shapes.split(","):
        rows = asked.rows or {"offline": 320, "small": 48, "qwen3-4b": 256}[shape]
        if shape == "offline" and not (LOOP / "seed-7" / "exports.json").exists():
            print("offline: skipped, its rows are made by `python -m benchmarks.loop`", flush=True)
            continue
        work = offline(rows) if shape == "offline" else random_base(shape, rows, asked.device)
        arms = [arm for arm in ARMS if "packed" not in arm or asked.device == "cuda"]
        found[shape] = measured(work, arms, asked.rounds, shape)
        if asked.device == "cuda":
            found[shape] = with_mfu(found[shape], work)
    name = "throughput" if asked.device == "cpu" else "throughput-cuda"
    command = f"python -m benchmarks.throughput --shapes {asked.shapes} --device {asked.device}"
    keep(
        name,
        f"{command} --rounds {asked.rounds} --rows {asked.rows}",
        {"aim": AIM, "shapes": found},
    )
    print("\nTokens through training, and how fast ours is beside each loop of its kind (95 %)")
    print(shown(found))
    print(json.dumps({s: {"padding": round(f["padding"], 4)} for s, f in found.items()}))
    unit = "cpu_s" if asked.device == "cpu" else "wall_s"
    beside = [
        (f"{shape} beside {arm}", told["ratios"][arm][unit]["ratio"])
        for shape, told in found.items()
        for arm in ("bare loop", "bare loop, packed")
        if arm in told["ratios"]
    ]
    short = [f"{name} {value:.2f} < {AIM}" for name, value in beside if value < AIM]
    print("falls short: " + "; ".join(short) if short else "all aims hold")
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
