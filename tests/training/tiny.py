"""A model small enough for a test: random, of the Qwen3 architecture, with a template of its own;
rows for it, and adapters of it that need no training."""

import gc
from pathlib import Path

from retrieval.prompt import SYSTEM, Choice, Prompt, Reply, prompt_hash, written
from training import adapters
from training.base import Lesson, Shape, vocabulary
from training.model import Loaded, fingerprint, load_base
from training.rows import Row

CAUSES = {
    "disk": ("The log volume was full.", "Rotate the logs."),
    "lease": ("The lease was never renewed.", "Restart the holder."),
    "quota": ("A quota of the zone ran out.", "Raise the quota."),
}
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def row(n: int, family: str = "disk", task: str = "closed_book", **instead) -> Row:
    """Row `n` of this family, made up."""
    cause, fix = CAUSES.get(family, (f"It was {family}.", "Fix it."))
    answers = {
        "choose": Choice(cites=[1]),
        "unseen": Reply(status="novel"),
        "unseen_closed_book": Reply(status="novel"),
    }
    shown = task in ("context", "unseen", "choose")
    user = f"alert: {family} alarm {n} on host-{n % 7}\n" + ("1. as before" if shown else "none")
    told = {
        "id": f"inc-{family}-{n}/{task}",
        "task": task,
        "incident_id": f"inc-{family}-{n}",
        "version": 1,
        "family": family,
        "source": "pager",
        "started_at": f"2030-01-01T00:{n % 60:02}:00+00:00",
        "in_base": False,
        "system": SYSTEM["choose" if task == "choose" else "diagnose"],
        "user": user,
        "answer": written(answers.get(task, Reply(status="known", cause=cause, fix=fix))),
        "precedents": (("inc-before", 1),) if shown else (),
    }
    return Row(**{**told, **instead})


def rows(each: int = 12) -> list[Row]:
    """So many closed-book rows of each of three families."""
    return [row(n, family) for family in CAUSES for n in range(each)]


def tokenizer():
    """The tokenizer of the tiny base: trained on its own rows."""
    lessons = [Lesson(r.id, r.prompt, r.answer) for r in rows()]
    made = vocabulary(lessons, Shape(vocabulary=420))
    made.chat_template = TEMPLATE
    return made


def tokenizer_of(base: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def base(folder: Path, *, width: int = 32, context: int = 1024) -> Path:
    """A Qwen3 with random weights in `folder`, and its tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    told = tokenizer()
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=len(told), hidden_size=width, intermediate_size=width * 3 // 2,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=width // 4,
        max_position_embeddings=context, eos_token_id=told.eos_token_id,
        pad_token_id=told.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    told.save_pretrained(folder)
    # accelerate collects garbage before each fit: among all that is imported, half a second.
    gc.freeze()
    return folder


def loaded(folder: Path) -> Loaded:
    return load_base(str(folder), device="cpu")


def adapter(base: Path, folder: Path, *, seed: int, rank: int = 4, size: float = 0.5) -> Path:
    """A sealed adapter with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight.data, std=size / rank)
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    seal(folder, base)
    return folder


def seal(folder: Path, base: Path, **instead) -> adapters.Manifest:
    told = {"base_hash": fingerprint(base), "prompt_hash": prompt_hash(), "dataset": None}
    return adapters.seal(folder, **{**told, "parent": None, **instead})


def prompts() -> list[Prompt]:
    """Questions of very different lengths and of several forms."""
    words = " ".join(f"host-{n} is slow" for n in range(40))
    long = [row(n, user=f"alert: {words[: 40 * n]}\nnone").prompt for n in (1, 9)]
    asked = [row(1).prompt, row(2, "lease", "context").prompt, row(3, "quota", "choose").prompt]
    return [*asked, *long]
