"""How much memory and time LoRA on a model of Qwen3-4B's shape takes on this machine's GPU.

    python -m benchmarks.footprint [--shape qwen3-4b] [--steps 4]

Random weights are saved, and read again as `scarwise train` reads a base, in bfloat16 and in four
bits; each setting is then trained for a few steps by `training.learner`. Memory is the most that
torch's allocator took, and what CUDA takes for itself. Without a GPU nothing is measured, and what
was last kept in benchmarks/results/footprint.json is shown.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.results import FOLDER, keep, table
from benchmarks.throughput import Work, lap, made_up, ours, random_base
from training import recipe
from training.model import Loaded, load_base

# Four bits or not, rows at a time, their tokens, and which insides of layers are computed again.
TRIED = (
    (False, 1, 1_024, True), (False, 2, 1_024, True), (False, 4, 1_024, True),
    (False, 8, 1_024, True), (False, 1, 2_048, True), (False, 4, 2_048, True),
    (False, 1, 1_024, False), (False, 2, 1_024, False),
    (True, 1, 1_024, True), (True, 4, 1_024, True), (True, 4, 2_048, True),
)  # fmt: skip
ROWS, LENGTH = 8_800, 900  # for hours: 1,000 incidents, of 2.2 tasks, as many rehearsed, two epochs


def saved(shape: str, folder: Path) -> None:
    """A base of this shape with random weights."""
    made = random_base(shape, 16, "cuda").base
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)


def tried(base: Loaded, micro: int, tokens: int, again: bool, steps: int) -> dict[str, Any]:
    """So many steps of rows that are all of this length."""
    import torch

    chosen = recipe.read("lora").model_copy(update={
        "batch": micro, "micro": micro, "longest": tokens, "gradient_checkpointing": again,
        "four_bit": base.four_bit,
    })  # fmt: skip
    work = Work(base, made_up(micro * steps, 4 * tokens), chosen)
    with tempfile.TemporaryDirectory() as place:
        one = lap(ours, work, Path(place) / "run")
        cost = json.loads((Path(place) / "run" / "cost.json").read_text(encoding="utf-8"))
    free, whole = torch.cuda.mem_get_info()
    cuda = (whole - free) / 2**20 - torch.cuda.memory_reserved() / 2**20
    return {
        # A micro-batch that the card has no room for was halved.
        "four_bit": base.four_bit, "micro": cost["micro"], "tokens": tokens, "checkpointing": again,
        "tokens_per_s": one.tokens / one.wall_s, "peak_mb": one.peak_mb,
        "card_mb": one.reserved_mb + cuda,
    }  # fmt: skip


def measured(shape: str, steps: int) -> list[dict[str, Any]]:
    """Every setting, in turn."""
    import torch

    found = []
    with tempfile.TemporaryDirectory() as place:
        saved(shape, Path(place))
        for four_bit in (False, True) if find_spec("bitsandbytes") else (False,):
            gc.collect()
            torch.cuda.empty_cache()
            began = time.perf_counter()
            base = load_base(place, device="cuda", four_bit=four_bit)
            print(f"read in {time.perf_counter() - began:.0f} s, four_bit={four_bit}, "
                  f"{torch.cuda.memory_allocated() / 2**20:,.0f} MB", flush=True)  # fmt: skip
            for micro, tokens, again in [one[1:] for one in TRIED if one[0] == four_bit]:
                found.append(tried(base, micro, tokens, again, steps))
                print(f"  {found[-1]}", flush=True)
            del base
    return found


def shown(found: Sequence[dict[str, Any]]) -> str:
    return table(
        ("weights", "micro", "tokens", "checkpointing", "tensors, GB", "card, GB", "tokens/s",
         f"hours for {ROWS:,} rows of {LENGTH}"),
        [
            ("4 bits" if f["four_bit"] else "bfloat16", f["micro"], f["tokens"],
             "on" if f["checkpointing"] else "off", f"{f['peak_mb'] / 1024:.1f}",
             f"{f['card_mb'] / 1024:.1f}", f"{f['tokens_per_s']:,.0f}",
             f"{ROWS * LENGTH / f['tokens_per_s'] / 3_600:.2f}") for f in found
        ],
    )  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--shape", default="qwen3-4b")
    words.add_argument("--steps", type=int, default=4, help="of each setting; the first is no time")
    asked = words.parse_args()
    import torch

    kept = FOLDER / "footprint.json"
    if torch.cuda.is_available():
        found = measured(asked.shape, asked.steps)
        command = f"python -m benchmarks.footprint --shape {asked.shape} --steps {asked.steps}"
        gpu = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
        keep(kept.stem, command, {**gpu, "shape": asked.shape, "settings": found})
    elif not kept.is_file():
        print("skipped: this machine has no GPU, and nothing was measured before")
        return
    else:
        print("not measured anew: this machine has no GPU; these are the figures that are kept")
    told = json.loads(kept.read_text(encoding="utf-8"))
    print(f"\nLoRA of rank 16 on {told['shape']}, {told['gpu']}")
    print(shown(told["settings"]))


if __name__ == "__main__":
    main()
