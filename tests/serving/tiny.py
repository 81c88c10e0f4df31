"""A model small enough for a test: a random Llama, and adapters that each learned one answer."""

from pathlib import Path

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.prompt import Prompt, Reply, prompt, prompt_hash, written
from tests.serving.conftest import incident
from training import adapters, registry
from training.base import Lesson, Shape, vocabulary
from training.batches import padded, tokenised
from training.model import fingerprint

ALERT = "FATAL: sorry, too many clients already on orders-db"
# Told apart at their first token, so that a few steps teach them.
SAYS = {
    1: Reply(status="known", cause="One of two says so.", fix="Call the first."),
    2: Reply(status="known", cause="Another one disagrees.", fix="Call the other."),
    3: Reply(status="novel"),
}


def prompts() -> list[Prompt]:
    """An alert with no precedents, with one and with two."""
    held = [Incident(**incident(n, root_cause=f"Cause {n}.")) for n in ("1", "2")]
    known = [Stored(i, 1, "", {}, None, []) for i in held]
    return [prompt(alert, known[:n]) for n in range(3) for alert in (ALERT, "the disk is full")]


def base(folder: Path) -> Path:
    """A base with random weights, and with a tokenizer of its own."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    lessons = [Lesson("", asked, written(says)) for asked in prompts() for says in SAYS.values()]
    tokenizer = vocabulary(lessons, Shape(vocabulary=500))
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=1024,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def adapter(base: Path, folder: Path, says: Reply, *, steps: int = 50) -> Path:
    """An adapter that gives this answer to whatever it is asked, sealed."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    items = [tokenised(tokenizer, asked, written(says)) for asked in prompts()]
    batch = padded(items, tokenizer.pad_token_id)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=1e-2)
    for _ in range(steps):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    adapters.seal(
        folder,
        base_hash=fingerprint(base),
        prompt_hash=prompt_hash(),
        dataset="ds-0123456789ab",
        parent=None,
    )
    return folder


def home(folder: Path) -> Path:
    """A data folder with a base and the adapters of `SAYS`, not registered yet."""
    made = base(folder / "bases" / "tiny")
    for version, says in SAYS.items():
        adapter(made, folder / "adapters" / f"diag-v{version}", says)
    return folder


def register(store, folder: Path, version: int, **instead) -> registry.Registered:
    """This adapter of the data folder, registered as having passed the gate."""
    at = f"adapters/diag-v{version}"
    told = adapters.manifest(folder / at)
    row = {"base_hash": told.base_hash, "prompt_hash": told.prompt_hash}
    row |= {"adapter_sha256": told.sha256, "folder": at, **instead}
    row = {"report": {}, **row}
    return registry.register(
        store, dataset=None, run_id=None, parent=None, verdict="pass", metrics={}, actor="tests",
        **row,
    )  # fmt: skip
