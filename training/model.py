"""A causal language model: loaded from a folder or by name, asked, and scored; adapters beside it.

Only weights in safetensors are read, code that comes with a model is never run, and a name on the
hub needs its commit pinned.

    ModelUnsound            (Refused) this base or this adapter cannot be used as it is
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retrieval.prompt import Prompt, grammar
from training.batches import IGNORED, LONGEST, end_of_turn, padded, question_ids, tokenised
from training.constrained import Constrained
from training.soundness import NF4, check_folder, check_tokenizer, first_line
from training.soundness import ModelUnsound as ModelUnsound
from training.soundness import base_folder as base_folder
from training.soundness import fingerprint as fingerprint

Stop = Callable[[], bool]

_SMALL = 20_000_000  # weights
_TOKENS_AT_ONCE = 8_192  # whose logits are held at once


@dataclass
class Loaded:
    """A base in memory with the adapters that were put beside it; used by one thread at a time."""

    name: str
    tokenizer: Any
    model: Any
    base_hash: str
    device: str
    dtype: str
    folder: Path
    four_bit: bool = False
    adapters: set[str] = field(default_factory=set)
    grammars: Any = None  # llguidance's view of the tokenizer, made when it is first needed


def load_base(
    name_or_path: str,
    *,
    revision: str = "",
    device: str = "auto",
    dtype: str = "auto",
    four_bit: bool = False,
) -> Loaded:
    """The base, ready to answer. Raises `ModelUnsound` with what is wrong and what to do.

    `auto` is the GPU when there is one, bfloat16 there and float32 on a CPU. With `four_bit` its
    weights are held in NF4 (QLoRA, Dettmers et al. 2023); adapters stay as they are, and fit no
    other base: it answers otherwise than the one in 16 bits, so its hash is another.
    """
    import torch

    quiet()
    folder = base_folder(name_or_path, revision)
    check_folder(folder, name_or_path)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelUnsound("training.device is cuda, but torch sees no GPU here; set it to auto")
    if four_bit and find_spec("bitsandbytes") is None:
        raise ModelUnsound(
            "the recipe's four_bit needs bitsandbytes, which is not installed: "
            "pip install 'scarwise[four-bit]', or set four_bit = false"
        )
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    tokenizer, model = _read(folder, name_or_path, device, dtype, four_bit)
    check_tokenizer(tokenizer, name_or_path)
    known = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > known:
        raise ModelUnsound(
            f"{name_or_path}: its tokenizer writes {len(tokenizer)} tokens and its weights know "
            f"{known}; they do not belong together"
        )
    tokenizer.padding_side = "left"
    tokenizer.eos_token = end_of_turn(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    # What a base says of sampling is for chatting; here every answer is the likeliest one.
    for knob in ("temperature", "top_p", "top_k"):
        setattr(model.generation_config, knob, None)
    model.generation_config.do_sample = False
    model.eval().requires_grad_(False)
    made = fingerprint(folder) + (NF4 if four_bit else "")
    return Loaded(name_or_path, tokenizer, model, made, device, dtype, folder, four_bit)


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer of the base in this folder, without its weights. Raises `ModelUnsound`."""
    from transformers import AutoTokenizer

    quiet()
    check_folder(folder, folder.name)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    check_tokenizer(tokenizer, folder.name)
    return tokenizer


def _stay_trainable(model: Any) -> None:
    """Keep bitsandbytes from repacking the weights at the first answer, as it does on processors
    with AVX512-BF16: from that layout no gradient comes back, and the next fit would learn little.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def spare_threads(model: Any) -> None:
    """One thread for a small model on a CPU: more of them wait for each other, spinning.

    With two, learning and replaying of the offline base took twice the CPU-seconds.
    """
    import torch

    if model.num_parameters() < _SMALL:
        torch.set_num_threads(1)


def quiet() -> None:
    """No progress bars and advice of libraries: ours say what there is to say."""
    from transformers.utils import logging

    # peft 0.21 asks transformers by an attribute's former name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


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
    ended, is cut where it was and may not parse; one that was not begun is empty.
    """
    texts: list[str] = [""] * len(prompts)
    # Prompts of one length side by side, so that little is padding.
    order = sorted(range(len(prompts)), key=lambda n: len(prompts[n].user))
    done = 0
    with _speaking(loaded, adapter):
        for start in range(0, len(order), batch_size):
            if stop and stop():
                break
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
    """How surprised the model is by each answer: mean negative log-likelihood, nats a token.

    NaN for an answer that alone does not fit into the context.
    """
    import torch

    room = context_of(loaded)
    pairs = zip(prompts, answers, strict=True)
    rows = [tokenised(loaded.tokenizer, asked, said, room) for asked, said in pairs]
    found: list[float] = [math.nan] * len(rows)
    order = sorted(
        (n for n, row in enumerate(rows) if not row.lost), key=lambda n: len(rows[n].ids)
    )
    with _speaking(loaded, adapter), torch.no_grad():
        for batch in _in_budget(order, [len(row.ids) for row in rows], batch_size):
            inputs = padded([rows[n] for n in batch], loaded.tokenizer.pad_token_id)
            inputs = {name: tensor.to(loaded.device) for name, tensor in inputs.items()}
            # Of the prompts' tokens no logits are needed, and of a large vocabulary they are large.
            labels = inputs.pop("labels")[:, min(rows[n].prompt for n in batch) :]
            last = labels.shape[1] + 1
            said = loaded.model(**inputs, use_cache=False, logits_to_keep=last)
            logits = said.logits[:, -last:-1].float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
            )
            counts = (labels != IGNORED).sum(1)
            for n, value in zip(batch, (losses.sum(1) / counts).tolist(), strict=True):
                found[n] = float(value)
    return found


def _in_budget(order: Sequence[int], lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Runs of rows, the shortest first, whose logits all fit into memory at once."""
    batch: list[int] = []
    for n in order:
        if batch and (len(batch) == most or (len(batch) + 1) * lengths[n] > _TOKENS_AT_ONCE):
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def context_of(loaded: Loaded) -> int:
    """How many tokens of a question with its answer the base takes, 2,048 at most."""
    config = loaded.model.config.get_text_config()
    return min(LONGEST, int(getattr(config, "max_position_embeddings", LONGEST)))


def _answers(
    loaded: Loaded, prompts: Sequence[Prompt], most: int, constrained: bool, stop: Stop | None
) -> list[str]:
    """To half of them and then to the others, where memory does not hold all at once."""
    import torch

    try:
        return _answers_at_once(loaded, prompts, most, constrained, stop)
    except torch.OutOfMemoryError as error:
        if len(prompts) == 1:
            raise ModelUnsound(
                f"{loaded.name} leaves no memory of {loaded.device} for one question; choose a "
                "smaller base, or set four_bit in the recipe"
            ) from error
    torch.cuda.empty_cache()
    half = len(prompts) // 2
    parts = (prompts[:half], prompts[half:])
    return [said for p in parts for said in _answers(loaded, p, most, constrained, stop)]


def _answers_at_once(
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


def _form(loaded: Loaded, prompts: Sequence[Prompt], begin: int) -> Constrained:
    from llguidance.hf import from_tokenizer

    if loaded.grammars is None:
        size = loaded.model.get_output_embeddings().weight.shape[0]
        loaded.grammars = from_tokenizer(loaded.tokenizer, n_vocab=size)
    schemas = [p.form or grammar(p.task, len(p.precedents)) for p in prompts]
    return Constrained(loaded.grammars, schemas, begin, loaded.tokenizer.eos_token_id)


class _Stopped:
    """Ends a generation that nobody waits for any more."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        over = self._stop()
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)


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


def _read(folder: Path, name: str, device: str, dtype: str, four_bit: bool) -> tuple[Any, Any]:
    """Its tokenizer and its weights, all of them there and in their shapes."""
    import torch
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    kind = getattr(torch, dtype)
    nf4 = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=kind,
    ) if four_bit else None  # fmt: skip
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        read: Any = AutoModelForCausalLM.from_pretrained
        model, told = read(
            folder,
            dtype=kind,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
            **({"quantization_config": nf4, "device_map": {"": device}} if nf4 else {}),
        )
        if nf4 is None:
            model.to(device)
        elif device == "cpu":
            _stay_trainable(model)
        if device == "cpu":
            spare_threads(model)
    except torch.OutOfMemoryError as error:
        raise ModelUnsound(
            f"{name} does not fit into the memory of {device}; choose a smaller base"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError,
            SafetensorError, StrictDataclassError) as error:  # fmt: skip
        raise ModelUnsound(f"{name} cannot be loaded: {first_line(error)}") from error
    missing = sorted(told["missing_keys"])
    if missing:
        # transformers fills them with random numbers and warns.
        raise ModelUnsound(
            f"{name} lacks {len(missing)} of its weights, the first {missing[0]}; fetch it again"
        )
    return tokenizer, model
