"""A causal language model: loaded from a folder or by name, asked, and scored; adapters beside it.

Only weights in safetensors are read, code that comes with a model is never run, and a name on the
hub needs its commit pinned.

    ModelUnsound            (Refused) this base or this adapter cannot be used as it is
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.errors import Refused
from retrieval.prompt import Prompt, grammar
from training.batches import LONGEST, padded, question_ids, tokenised

Stop = Callable[[], bool]

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_WEIGHTS = (".safetensors", ".jinja", ".model")
_TOLD = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
_HASHED_WHOLE = 64 * 2**20  # bytes; of larger files the ends and the size are hashed
_END = 2**20


class ModelUnsound(Refused):
    """This base or this adapter cannot be used as it is."""


@dataclass
class Loaded:
    """A base in memory with the adapters that were put beside it; used by one thread at a time."""

    name: str
    tokenizer: Any
    model: Any
    base_hash: str
    device: str
    dtype: str
    adapters: set[str] = field(default_factory=set)
    grammars: Any = None  # llguidance's view of the tokenizer, made when it is first needed


def load_base(
    name_or_path: str, *, revision: str = "", device: str = "auto", dtype: str = "auto"
) -> Loaded:
    """The base, ready to answer. Raises `ModelUnsound` with what is wrong and what to do.

    `auto` is the GPU when there is one, bfloat16 there and float32 on a CPU.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    folder = base_folder(name_or_path, revision)
    _check_folder(folder, name_or_path)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelUnsound("training.device is cuda, but torch sees no GPU here; set it to auto")
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelUnsound(f"{name_or_path} cannot be loaded: {_first_line(error)}") from error
    _check_tokenizer(tokenizer, name_or_path)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # What a base says of sampling is for chatting; here every answer is the likeliest one.
    for knob in ("temperature", "top_p", "top_k"):
        setattr(model.generation_config, knob, None)
    model.generation_config.do_sample = False
    model.to(device).eval()  # type: ignore[arg-type]
    return Loaded(name_or_path, tokenizer, model, fingerprint(folder), device, dtype)


def quiet() -> None:
    """No progress bars and advice of libraries: ours say what there is to say."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def base_folder(name_or_path: str, revision: str = "") -> Path:
    """Where the base lies; a name is looked up in (or brought to) the hub's cache at its commit."""
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name_or_path.startswith((".", "~")) or name_or_path.count("/") != 1:
        raise ModelUnsound(
            f"there is no base at {name_or_path}; give a folder with a causal LM, a name such as "
            "Qwen/Qwen3-4B-Instruct-2507, or `offline` after `scarwise base build`"
        )
    if not revision:
        raise ModelUnsound(
            f"{name_or_path} is a name on the hub, and training.revision is empty; pin its commit "
            "there, so that the weights cannot change under the adapters"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(name_or_path, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelUnsound(
            f"{name_or_path} at {revision} is neither in the hub's cache nor can it be fetched "
            f"({_first_line(error)}); download it elsewhere and give its folder"
        ) from error


def fingerprint(folder: Path) -> str:
    """What the base is, 16 hex digits: its configuration, tokenizer and weights.

    Files above 64 MiB count by their size and the MiB at either end.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in _WEIGHTS or path.name in _TOLD:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(_bytes_of(path))
    return digest.hexdigest()[:16]


def with_adapter(loaded: Loaded, folder: Path, *, name: str, trainable: bool = False) -> None:
    """Put this adapter beside the others under `name`; who calls has verified it."""
    from peft import PeftModel

    if isinstance(loaded.model, PeftModel):
        loaded.model.load_adapter(str(folder), adapter_name=name, is_trainable=trainable)
    else:
        loaded.model = PeftModel.from_pretrained(
            loaded.model, str(folder), adapter_name=name, is_trainable=trainable
        )
    if not trainable:
        loaded.model.eval()
    loaded.adapters.add(name)


def without_adapter(loaded: Loaded, name: str) -> None:
    """Let go of this adapter; the base itself when it was the last."""
    loaded.adapters.discard(name)
    if loaded.adapters:
        loaded.model.set_adapter(next(iter(loaded.adapters)))
        loaded.model.delete_adapter(name)
    elif hasattr(loaded.model, "unload"):
        loaded.model = loaded.model.unload()


def generate(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    *,
    adapter: str | None,
    max_new_tokens: int = 96,
    batch_size: int = 32,
    constrained: bool = True,
    stop: Stop | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The likeliest answer to each prompt, in order; with `constrained`, in the agreed JSON form.

    `adapter` None asks the base alone. An answer that reaches `max_new_tokens`, or that `stop`
    ended, is cut where it was and may not parse.
    """
    texts: list[str] = [""] * len(prompts)
    # Prompts of one length side by side, so that little is padding.
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n].user))
    done = 0
    with _speaking(loaded, adapter):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            some = [prompts[n] for n in batch]
            for n, text in zip(batch, _answers(loaded, some, max_new_tokens, constrained, stop),
                               strict=True):  # fmt: skip
                texts[n] = text
            done += len(batch)
            if progress:
                progress(done, len(prompts))
    return texts


def nll(
    loaded: Loaded,
    prompts: Sequence[Prompt],
    answers: Sequence[str],
    *,
    adapter: str | None,
    batch_size: int = 32,
) -> list[float]:
    """How surprised the model is by each answer: mean negative log-likelihood, nats a token."""
    import torch

    room = context_of(loaded)
    found: list[float] = [0.0] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n].user))
    with _speaking(loaded, adapter), torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            items = [tokenised(loaded.tokenizer, prompts[n], answers[n], room) for n in batch]
            inputs = padded(items, loaded.tokenizer.pad_token_id)
            inputs = {name: tensor.to(loaded.device) for name, tensor in inputs.items()}
            labels = inputs.pop("labels")[:, 1:]
            inputs.pop("loss_weights", None)
            logits = loaded.model(**inputs).logits[:, :-1].float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
            )
            counts = (labels != -100).sum(1)
            for n, value in zip(batch, (losses.sum(1) / counts).tolist(), strict=True):
                found[n] = float(value)
    return found


def context_of(loaded: Loaded) -> int:
    """How many tokens of a question with its answer the base takes, 2,048 at most."""
    config = loaded.model.config
    return min(LONGEST, int(getattr(config, "max_position_embeddings", LONGEST)))


def _answers(
    loaded: Loaded, prompts: Sequence[Prompt], most: int, constrained: bool, stop: Stop | None
) -> list[str]:
    import torch
    from transformers import StoppingCriteriaList

    tokenizer = loaded.tokenizer
    room = context_of(loaded) - most
    rows = [question_ids(tokenizer, p, room) for p in prompts]
    longest = max(len(row) for row in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    processors = [_form(loaded, prompts, longest)] if constrained else []
    ends = StoppingCriteriaList([_Stopped(stop)] if stop else [])
    with torch.no_grad():
        out = loaded.model.generate(
            input_ids=ids.to(loaded.device),
            attention_mask=mask.to(loaded.device),
            max_new_tokens=most,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
            logits_processor=processors,
            stopping_criteria=ends,
        )
    said = tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
    return [text.strip() for text in said]


class _Stopped:
    """Ends a generation that nobody waits for any more."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        over = self._stop()
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)


def _form(loaded: Loaded, prompts: Sequence[Prompt], begin: int) -> Any:
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    if loaded.grammars is None:
        size = loaded.model.get_output_embeddings().weight.shape[0]
        loaded.grammars = from_tokenizer(loaded.tokenizer, n_vocab=size)
    compact: Any = {"whitespace_flexible": False}
    schemas = [p.form or grammar(p.task, len(p.precedents)) for p in prompts]
    matchers = [
        LLMatcher(loaded.grammars, LLMatcher.grammar_from_json_schema(s, overrides=compact))
        for s in schemas
    ]
    return _Constrained(matchers, begin, loaded.tokenizer.eos_token_id)


class _Constrained:
    """A logits processor that lets only those tokens through that keep an answer in its form."""

    def __init__(self, matchers: list[Any], begin: int, end_token: int) -> None:
        self._matchers = matchers
        self._begin = begin
        self._end_token = end_token
        self._bits: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        # Its torch twin imports the compiler, which costs seconds and 110 MB.
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        if self._bits is None:
            self._bits = allocate_token_bitmask(len(self._matchers), scores.shape[1])
        written = input_ids.shape[1] - self._begin
        for row, matcher in enumerate(self._matchers):
            if written and not matcher.is_stopped():
                matcher.consume_token(int(input_ids[row, -1]))
            if matcher.is_stopped():
                self._bits[row] = 0
                self._bits[row, self._end_token // 32] = _one_bit(self._end_token % 32)
            else:
                fill_next_token_bitmask(matcher, self._bits, row)
        places = torch.arange(32, dtype=torch.int32)
        bits = torch.from_numpy(self._bits)
        allowed = ((bits.unsqueeze(-1) >> places) & 1).flatten(1)[:, : scores.shape[1]]
        return scores.masked_fill(allowed.to(scores.device) == 0, float("-inf"))


def _one_bit(place: int) -> int:
    return 1 << place if place < 31 else -(1 << 31)


class _speaking:
    """Who answers: one adapter, or the base with all of them off."""

    def __init__(self, loaded: Loaded, adapter: str | None) -> None:
        self._loaded = loaded
        self._adapter = adapter
        self._off: Any = None

    def __enter__(self) -> None:
        if self._adapter is not None:
            if self._adapter not in self._loaded.adapters:
                raise ModelUnsound(f"no adapter {self._adapter} is loaded beside the base")
            self._loaded.model.set_adapter(self._adapter)
        elif self._loaded.adapters:
            self._off = self._loaded.model.disable_adapter()
            self._off.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._off is not None:
            self._off.__exit__(*error)


def _check_folder(folder: Path, name: str) -> None:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if not (folder / "config.json").is_file():
        raise ModelUnsound(f"{name} holds no config.json, so it is no model; see training.base")
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLED)
    if pickled:
        raise ModelUnsound(
            f"{name} holds pickled files ({', '.join(pickled[:3])}), which can run code when they "
            "are read; keep only safetensors in the folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelUnsound(f"{name} holds no *.safetensors weights; convert them, then try again")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelUnsound(f"{name}: config.json cannot be used: {_first_line(error)}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = getattr(config, "model_type", "unknown")
        raise ModelUnsound(f"{name} is a {kind} model, not a causal LM; choose one that writes")


def _check_tokenizer(tokenizer: Any, name: str) -> None:
    if not tokenizer.chat_template:
        raise ModelUnsound(
            f"{name} has no chat template; choose its instruct version, or add chat_template.jinja"
        )
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ModelUnsound(f"{name} needs a fast tokenizer with an end-of-text token")


def _bytes_of(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            return hashlib.sha256(file.read()).digest()
        head = file.read(_END)
        file.seek(size - _END)
        return hashlib.sha256(head + file.read(_END)).digest()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
