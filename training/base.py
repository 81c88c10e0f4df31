"""The offline base: a small Llama with a tokenizer of its own, taught from an export.

It needs no download and proves the machinery, no more: what it can do says nothing about a model
that anybody would use. It is made once and cached by the hash of all that goes into it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingest.store import Store
from retrieval.embed import Embedder
from retrieval.index import Index
from retrieval.prompt import SYSTEM, prompt_hash
from training.batches import tokenised
from training.dataset import export
from training.fit import Knobs, Step, fit
from training.folders import in_our_words
from training.mixture import Lesson, caution_lessons, general_lessons
from training.model import ModelUnsound, quiet, spare_threads
from training.rows import SCHEMA_VERSION
from training.split import freeze
from training.world import Size, incidents

NAME = "offline"
VERSION = 1
GENERAL_TIMES = 5  # a fact has four wordings and an incident family two dozen incidents
WORLD, MADE, ACTOR = "world", "made.json", "base build"

_SPECIAL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# What every answer has in common is one token each: this vocabulary is made for these answers.
_FORMS = (
    '{"status":"known","cause":"The ', '","fix":"', '","cites":[', '{"status":"novel","cites":[]}',
    '{"cites":[', '{"answer":"', '"}', ']}', " | cause: The ", " | fix: ",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the base is and how long it learns."""

    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int = 320
    vocabulary: int = 1_280
    context: int = 1_024
    steps: int = 560
    batch: int = 32
    micro: int = 16
    learning_rate: float = 3e-3
    prompt_weight: float = 0.1  # of the loss; research: without it the prompts' noise dominates
    seed: int = 0


SHAPE, SIZE, SEED = Shape(), Size(), 7


@dataclass(frozen=True, slots=True)
class Base:
    """A finished base: its folder holds the model, and the store that it was taught from."""

    hash: str
    folder: Path
    dataset: str  # of its own store: what it was taught
    families: list[str]
    cost: dict[str, Any]

    @property
    def world(self) -> Path:
        """The SQLite file of the store that it was taught from."""
        return self.folder / WORLD / "scarwise.db"

    @property
    def datasets(self) -> Path:
        return self.folder / WORLD / "datasets"


def named(bases: Path, shape: Shape = SHAPE, size: Size = SIZE, seed: int = SEED) -> Path:
    """Where the base of this configuration is, or will be."""
    told = [VERSION, asdict(shape), asdict(size), seed, prompt_hash(), SCHEMA_VERSION]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return bases / f"{NAME}-{digest[:12]}"


def opened(folder: Path) -> Base:
    """The base in this folder. `ModelUnsound` when it was not finished."""
    try:
        told = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnsound(
            f"the offline base is not made yet ({folder.name}); `scarwise base build` makes it"
        ) from error
    return Base(folder.name, folder, told["dataset"], told["families"], told["cost"])


def build(
    bases: Path,
    embedder: Embedder | None,
    *,
    shape: Shape = SHAPE,
    size: Size = SIZE,
    seed: int = SEED,
    note: Callable[[str, int, int], None] = lambda what, done, total: None,
    progress: Callable[[Step], None] | None = None,
) -> Base:
    """The offline base, made when it is not there: incidents of the invented world are stored,
    its newest put under embargo, the rest exported, and only the export is learned.

    Killed, the next call goes on where it was; two at once wait for each other.
    """
    from filelock import FileLock

    folder = named(bases, shape, size, seed)
    with in_our_words(folder):
        bases.mkdir(parents=True, exist_ok=True)
        with FileLock(bases / f".{folder.name}.lock"):
            if not (folder / MADE).is_file():
                _build(folder, embedder, shape, size, seed, note, progress)
    return opened(folder)


def _build(
    folder: Path,
    embedder: Embedder | None,
    shape: Shape,
    size: Size,
    seed: int,
    note: Callable[[str, int, int], None],
    progress: Callable[[Step], None] | None,
) -> None:
    draft = folder.with_name(folder.name + ".draft")
    (draft / WORLD).mkdir(parents=True, exist_ok=True)
    store = Store.open(f"sqlite:///{draft / WORLD / 'scarwise.db'}")
    try:
        told = list(incidents(seed, 0, size))
        note("storing", 0, len(told))
        store.put(told, actor=ACTOR)
        index = embedded(store, embedder, note)
        freeze(store, index, era=0, suite=1, actor=ACTOR)
        data = export(
            store, index, draft / WORLD / "datasets", actor=ACTOR,
            progress=lambda done, total: note("exporting", done, total),
        )  # fmt: skip
    finally:
        store.close()
    rows = data.rows()
    lessons = [Lesson(row.id, row.prompt, row.answer) for row in rows]
    fixed = [*general_lessons() * GENERAL_TIMES, *caution_lessons()]
    cost = _taught([*lessons, *fixed], draft, shape, progress)
    families = sorted({row.family for row in rows if row.task == "closed_book"})
    made = {"dataset": data.name, "families": families, "seed": seed, "shape": asdict(shape),
            "size": asdict(size), "prompt_hash": prompt_hash(), "cost": cost}  # fmt: skip
    (draft / MADE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def embedded(
    store: Store,
    embedder: Embedder | None,
    note: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Index:
    """The index over this store, with everything in it embedded."""
    index = Index(store)
    if embedder is not None:
        index.use(embedder)
    index.follow()
    index.embed_all(lambda done, total: note("embedding", done, total))
    return index


def _taught(
    lessons: Sequence[Lesson],
    folder: Path,
    shape: Shape,
    progress: Callable[[Step], None] | None,
) -> dict[str, Any]:
    """Teach a new model these lessons and save it in `folder`; what that cost."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    quiet()
    tokenizer = vocabulary(lessons, shape)
    torch.manual_seed(shape.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.width,
            intermediate_size=shape.inner,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=shape.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    spare_threads(model)
    items = [tokenised(tokenizer, w.prompt, w.answer, shape.context) for w in lessons]
    knobs = Knobs(
        learning_rate=shape.learning_rate, epochs=1, steps=shape.steps, batch=shape.batch,
        micro=shape.micro, weight_decay=0.05, beta2=0.95, prompt_weight=shape.prompt_weight,
        seed=shape.seed, save_every=100,
    )  # fmt: skip
    told = fit(
        model, items, [w.id for w in lessons], pad=tokenizer.pad_token_id, knobs=knobs,
        folder=folder / "checkpoints", progress=progress,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return {k: v for k, v in asdict(told).items() if k not in ("curve", "skipped")}


def vocabulary(lessons: Sequence[Lesson], shape: Shape) -> Any:
    """A byte-level BPE of what the lessons say, with a chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for w in lessons for text in (w.prompt.user, w.answer))
    backend.train_from_iterator(texts, trainer)
    systems = dict.fromkeys([*SYSTEM.values(), *(w.prompt.system for w in lessons)])
    backend.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in systems])
    backend.add_tokens([AddedToken(s, special=False, normalized=False) for s in _FORMS])
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|end|>"
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer
