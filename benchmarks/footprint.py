"""How much memory and time LoRA on Qwen3-4B takes on one GPU, estimated from what can be counted.

    python -m benchmarks.footprint [--skip-check] [--incidents 1000]

Weights, live tensors and FLOPs of a training step, of the product's own loss, are counted op by op
on tensors without data (torch's meta device) at the true shape. The same count for a few layers of
the true width is checked against what torch's allocator held in a real step on the CPU, and what
the whole process took is told beside it; while that check falls short, the memory is a guess. What
a GPU adds (its context, what its allocator wastes, its kernels' workspace) is assumed. Hours are
arithmetic: FLOPs / (peak * MFU). Nothing here ran on a GPU.
Results go to benchmarks/results/footprint.json.
"""

import argparse
import multiprocessing
import resource
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks.results import keep, table
from training import fit

GB = 1e9
RANK, ANSWER = 16, 80  # tokens that are answered: cause and fix in a Qwen-like vocabulary
CONTEXT, UNEVEN = 0.6, 1.1  # GB of CUDA itself, and what an allocator wastes: usual, not measured
NF4_BITS = 4.127  # a weight and its share of the scales, scaled again: QLoRA's blocks of 64 and 256
WITHIN = 0.15  # of the memory that the allocator held
CARDS = {"H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
MFU = (0.2, 0.3, 0.4)
# Rows at a time, their tokens, and whether the layers' insides are computed again.
TRIED = (
    (1, 1_024, True), (2, 1_024, True), (4, 1_024, True), (1, 2_048, True), (4, 2_048, True),
    (1, 1_024, False), (4, 1_024, False),
)  # fmt: skip


def config_of(layers: int = 36, vocabulary: int = 151_936) -> Any:
    """Qwen3-4B, or fewer layers of it."""
    from transformers import Qwen3Config

    return Qwen3Config(
        hidden_size=2_560, intermediate_size=9_728, num_hidden_layers=layers,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=vocabulary,
        max_position_embeddings=262_144, tie_word_embeddings=True,
    )  # fmt: skip


def flash(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    """Attention by the kernel that a GPU takes; on meta tensors torch would choose another."""
    import torch

    out = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, True, scale=more.get("scaling")
    )[0]
    return out.transpose(1, 2).contiguous(), None


def learner(config: Any, device: str) -> Any:
    """A model of this shape in bfloat16 with LoRA on every linear layer but the head."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AttentionInterface, AutoModelForCausalLM

    AttentionInterface.register("counted", flash)
    kind = "counted" if device == "meta" else "sdpa"
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=kind
        )
        model.requires_grad_(False)
        lora = LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
        # As autocast computes on a GPU: the products of LoRA in bfloat16. Its weights are counted
        # in float32 below.
        learned = get_peft_model(model, lora, autocast_adapter_dtype=False)
    learned.train()
    return learned


def step(model: Any, micro: int, length: int, device: str) -> None:
    """Forward and backward of one micro-batch, as the product does it."""
    import torch

    ids = torch.zeros(micro, length, dtype=torch.long, device=device)
    batch: dict[str, Any] = {"input_ids": ids, "labels": ids.clone(), "counted": length - ANSWER}
    if device == "meta":
        # Whether a mask is needed is read from numbers, of which there are none.
        batch["attention_mask"] = {"full_attention": None}
    fit._loss(model, batch, 100).backward()


def flops_per_token(config: Any, length: int) -> float:
    """Of a forward and a backward pass through frozen weights, nothing computed twice."""
    from torch.utils.flop_counter import FlopCounterMode

    model = learner(config, "meta")
    with FlopCounterMode(display=False) as counted:
        step(model, 1, length, "meta")
    return float(counted.get_total_flops()) / length


def peak_of_step(config: Any, micro: int, length: int, *, checkpointing: bool = True) -> int:
    """Bytes of live tensors at the worst moment of a step, weights and inputs not counted."""
    model = learner(config, "meta")
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    live = live_tensors()
    with live:
        step(model, micro, length, "meta")
    return int(live.peak)


def live_tensors() -> Any:
    """A mode of torch under which every storage is counted from its making to its end."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Live(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self._seen: set[int] = set()

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            import torch

            before = {
                id(t.untyped_storage())
                for t in tree_leaves((args, kwargs or {}))
                if isinstance(t, torch.Tensor)
            }
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    held = tensor.untyped_storage()
                    if id(held) not in before and id(held) not in self._seen:
                        self._seen.add(id(held))
                        self.now += held.nbytes()
                        weakref.finalize(held, self._gone, id(held), held.nbytes())
            self.peak = max(self.peak, self.now)
            return out

        def _gone(self, name: int, size: int) -> None:
            self._seen.discard(name)
            self.now -= size

    return Live()


def counted(config: Any) -> dict[str, int]:
    """Weights by what becomes of them in four bits: linear layers do, embeddings and norms not."""
    model = learner(config, "meta")
    lora = sum(p.numel() for p in model.parameters() if p.requires_grad)
    whole = sum(p.numel() for p in model.parameters()) - lora
    linear = sum(p.numel() for n, p in model.named_parameters() if n.endswith("base_layer.weight"))
    return {"base": whole, "linear": linear, "other": whole - linear, "lora": lora}


def taken(layers: int, vocabulary: int, micro: int, length: int, pipe: Any) -> None:
    """In a process of its own: bytes that a step takes above the weights' own, of the process and
    of torch's allocator. The first has what the CPU's kernels copy for themselves, too."""
    import torch

    torch.set_num_threads(1)
    model = learner(config_of(layers, vocabulary), "cpu")
    step(model, 1, ANSWER + 8, "cpu")  # what the libraries take once
    model.zero_grad()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    before, peak, over = _resident(), [0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            peak[0] = max(peak[0], _resident())

    looking = threading.Thread(target=look)
    looking.start()
    step(model, micro, length, "cpu")
    over.set()
    looking.join()
    model.zero_grad()
    pipe.send((peak[0] - before, allocated(lambda: step(model, micro, length, "cpu"))))


def allocated(work: Callable[[], None]) -> int:
    """The most bytes that torch's allocator held at once for this work, by its profiler."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        work()
    assert told.profiler
    events = told.profiler.kineto_results.events()
    memory = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(accumulate(size for _, size in memory))


def _resident() -> int:
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * resource.getpagesize()


def checked(layers: int, vocabulary: int, micro: int, length: int) -> dict[str, Any]:
    """What was counted for these layers beside what a process took."""
    here, there = multiprocessing.Pipe(duplex=False)
    running = multiprocessing.get_context("spawn").Process(
        target=taken, args=(layers, vocabulary, micro, length, there)
    )
    running.start()
    there.close()
    process, real = here.recv()
    running.join()
    told = peak_of_step(config_of(layers, vocabulary), micro, length)
    return {"layers": layers, "vocabulary": vocabulary, "micro": micro, "tokens": length,
            "counted": told, "allocated": real, "process": process,
            "off": told / real - 1}  # fmt: skip


def memory(weights: dict[str, int], peak: int) -> dict[str, float]:
    """GB of a run in bfloat16 and in four bits, with what a GPU usually adds."""
    # float32 weights of LoRA, their gradients and two moments; the step held bfloat16 gradients.
    lora = weights["lora"] * (4 + 4 + 8) - weights["lora"] * 2
    plain = weights["base"] * 2
    nf4 = weights["linear"] * NF4_BITS / 8 + weights["other"] * 2
    # One layer at a time is brought back to bfloat16, and only for as long as it computes.
    largest = 2_560 * 9_728 * 2
    return {
        "bf16": ((plain + lora + peak) * UNEVEN) / GB + CONTEXT,
        "four bits": ((nf4 + lora + peak + largest) * UNEVEN) / GB + CONTEXT,
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--skip-check", action="store_true", help="count only: seconds, no memory")
    words.add_argument("--incidents", type=int, default=1_000)
    asked = words.parse_args()
    config = config_of()
    weights = counted(config)
    print(f"weights: {weights}", flush=True)
    checks = [] if asked.skip_check else [checked(*c) for c in (
        (1, 4_096, 1, 384), (2, 4_096, 1, 384), (3, 65_536, 2, 384),
    )]  # fmt: skip
    for one in checks:
        print(f"check: {one}", flush=True)
    peaks: list[dict[str, Any]] = []
    for micro, length, on in TRIED:
        peak = peak_of_step(config, micro, length, checkpointing=on)
        peaks.append({"micro": micro, "tokens": length, "checkpointing": on, "step_gb": peak / GB,
                      **memory(weights, peak)})  # fmt: skip
        print(f"peak: {peaks[-1]}", flush=True)
    flops = flops_per_token(config, 1_024)
    # The first pass is computed again in the backward one: a third of what is then computed.
    repeated = flops + 2 * (weights["linear"])
    length = 900  # tokens of a row with three precedents, by 3.6 characters a token
    rows = asked.incidents * 2.2 * 2 * 2  # tasks of an incident; rehearsed as many; two epochs
    total = rows * length * repeated
    print_tables(peaks, checks, flops, repeated, rows, length, total)
    keep("footprint", "python -m benchmarks.footprint", {
        "weights": weights, "checks": checks, "peaks": peaks, "flops_per_token": flops,
        "flops_per_token_with_checkpointing": repeated, "rows": rows, "tokens_per_row": length,
        "hours": hours(total),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
    })  # fmt: skip
    short = [f"{c['layers']} layers: off by {c['off']:+.0%}" for c in checks
             if abs(c["off"]) > WITHIN]  # fmt: skip
    print("falls short: " + "; ".join(short) if short else "all aims hold")
    sys.exit(bool(short))


def hours(flops: float) -> dict[str, dict[str, float]]:
    return {
        card: {f"{mfu:.0%}": flops / (peak * mfu) / 3_600 for mfu in MFU}
        for card, peak in CARDS.items()
    }


def print_tables(
    peaks: Sequence[dict[str, Any]], checks: Sequence[dict[str, Any]], flops: float,
    repeated: float, rows: float, length: int, total: float,
) -> None:  # fmt: skip
    print("\nGPU memory of LoRA on Qwen3-4B, rank 16, GB, estimated")
    print(table(("micro", "tokens", "checkpointing", "a step's tensors", "bf16", "four bits"), [
        (p["micro"], p["tokens"], "on" if p["checkpointing"] else "off", f"{p['step_gb']:.1f}",
         f"{p['bf16']:.1f}", f"{p['four bits']:.1f}") for p in peaks
    ]))  # fmt: skip
    if checks:
        print("\nThe count beside a real step on the CPU, MB")
        print(table(("layers", "vocabulary", "rows", "tokens", "counted", "allocated",
                     "whole process", "off"), [
            (c["layers"], c["vocabulary"], c["micro"], c["tokens"], *(round(c[k] / 2**20)
             for k in ("counted", "allocated", "process")), f"{c['off']:+.0%}") for c in checks
        ]))  # fmt: skip
    print(f"\nHours for {rows:,.0f} rows of {length} tokens, by arithmetic: "
          f"{flops / 1e9:.1f} GFLOP a token, {repeated / 1e9:.1f} with checkpointing")  # fmt: skip
    print(table(("card", *(f"at {m:.0%} MFU" for m in MFU)), [
        (card, *(f"{told:.1f}" for told in held.values())) for card, held in hours(total).items()
    ]))  # fmt: skip


if __name__ == "__main__":
    main()
