"""A fit for the tests of fits, and for the process that one of them kills."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.training import tiny
from training.batches import tokenised
from training.fit import Fitted, Knobs, fit

KNOBS = Knobs(learning_rate=3e-2, epochs=4, batch=4, micro=4, seed=5, save_every=5)
KILLED_AT = 13  # of 20: in the third epoch, three steps after a checkpoint


def learner(base: Path, *, dropout: float = 0.1, dtype=None):
    """The base with an adapter that has learned nothing yet."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), config)


def items(base: Path, count: int = 18):
    """So many rows as token ids, with their names."""
    told = tiny.tokenizer_of(base)
    some = tiny.rows()[::2][:count]
    return [tokenised(told, r.prompt, r.answer) for r in some], [r.id for r in some]


def fitted(base: Path, folder: Path, *, model=None, count: int = 18, progress=None, **knobs):
    """The model after the fit, and what the fit says of itself."""
    model = model or learner(base)
    taught, names = items(base, count)
    told: Fitted = fit(
        model, taught, names, pad=0, knobs=replace(KNOBS, **knobs), folder=folder,
        progress=progress,
    )  # fmt: skip
    return model, told


def saved(model, folder: Path) -> bytes:
    """The adapter as a file."""
    model.save_pretrained(folder)
    return (folder / "adapter_model.safetensors").read_bytes()


def killed(base: Path, folder: Path) -> None:
    """A fit whose process dies after some steps, without a word."""
    import torch

    torch.set_num_threads(1)

    def die(step) -> None:
        if step.step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    fitted(base, folder, progress=die)


if __name__ == "__main__":
    killed(Path(sys.argv[1]), Path(sys.argv[2]))
