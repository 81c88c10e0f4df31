"""What a base must be before anything of it is used; each flaw gets one line.

ModelUnsound            (Refused) this base or this adapter cannot be used as it is
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from ingest.errors import Refused
from retrieval.prompt import Prompt
from training.batches import end_of_turn, question_ids

NF4 = "-nf4"  # ends the hash of a base whose weights are held in four bits: they are others
LEAST_CONTEXT = 256  # tokens: the instruction, one line of alert and an answer

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_WEIGHTS = (".safetensors", ".jinja", ".model")
_TOLD = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_HASHED_WHOLE = 64 * 2**20  # bytes; of larger files the ends and the size are hashed
_END = 2**20


class ModelUnsound(Refused):
    """This base or this adapter cannot be used as it is."""


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
    if not re.fullmatch("[0-9a-f]{40}", revision):
        why = f"{revision} is no commit" if revision else "training.revision is empty"
        raise ModelUnsound(
            f"{name_or_path} is a name on the hub, and {why}; pin its commit there (40 hex "
            "digits), so that the weights cannot change under the adapters"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    try:
        return Path(snapshot_download(name_or_path, revision=revision, allow_patterns=patterns))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelUnsound(
            f"{name_or_path} at {revision} is neither in the hub's cache nor can it be fetched "
            f"({first_line(error)}); download it elsewhere and give its folder"
        ) from error


def base_here(name_or_path: str, revision: str = "") -> Path | None:
    """Where the base lies on this machine; None where it does not, for nothing is fetched."""
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name_or_path, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def fingerprint(folder: Path) -> str:
    """What the base is, 16 hex digits: its configuration, tokenizer and weights.

    Files above 64 MiB count by their size and the MiB at either end.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in _WEIGHTS or path.name in _TOLD):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(_bytes_of(path))
    return digest.hexdigest()[:16]


def check_folder(folder: Path, name: str) -> None:
    """Raise `ModelUnsound` unless it holds a causal LM in safetensors; no weight is read."""
    if not (folder / "config.json").is_file():
        raise ModelUnsound(f"{name} holds no config.json, so it is no model; see training.base")
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in PICKLED)
    if pickled:
        raise ModelUnsound(
            f"{name} holds pickled files ({', '.join(pickled[:3])}), which can run code when they "
            "are read; keep only safetensors in the folder"
        )
    if not any(folder.glob("*.safetensors")):
        raise ModelUnsound(f"{name} holds no *.safetensors weights; convert them, then try again")
    _check_config(folder, name)


def _check_config(folder: Path, name: str) -> None:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING as WRITERS
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as NAMES

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        if "custom code" in str(error):
            raise ModelUnsound(
                f"{name} needs code of its own, and code is never run that comes with a model; "
                "choose an architecture that transformers knows"
            ) from error
        raise ModelUnsound(f"{name}: config.json cannot be used: {first_line(error)}") from error
    # Some encoders are in the mapping too, as decoders that nobody trained.
    made_as = set(config.architectures or ())
    if type(config) not in WRITERS or (made_as and not made_as & set(NAMES.values())):
        kind = getattr(config, "model_type", "unknown")
        raise ModelUnsound(f"{name} is a {kind} model, not a causal LM; choose one that writes")
    told = config.get_text_config()
    if any((getattr(told, count, None) or 0) > 1 for count in _EXPERTS):
        raise ModelUnsound(
            f"{name} is a mixture of experts, whose weights plain LoRA does not reach; "
            "choose a dense model"
        )
    context = int(getattr(told, "max_position_embeddings", LEAST_CONTEXT))
    if context < LEAST_CONTEXT:
        raise ModelUnsound(
            f"{name} takes {context} tokens, and an alert with its answer needs {LEAST_CONTEXT}"
        )


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Raise `ModelUnsound` unless it can write a conversation and end it."""
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ModelUnsound(
            f"{name} has no chat template; choose its instruct version, or add chat_template.jinja"
        )
    if tokenizer.eos_token_id is None or not tokenizer.is_fast:
        raise ModelUnsound(f"{name} needs a fast tokenizer with an end-of-text token")
    try:
        asked = tokenizer.decode(question_ids(tokenizer, Prompt("diagnose", "told", "asked")))
        end_of_turn(tokenizer)
    except (TemplateError, TypeError, ValueError) as error:
        raise ModelUnsound(
            f"{name}: its chat template cannot be used: {first_line(error)}"
        ) from error
    if "told" not in asked or "asked" not in asked:
        raise ModelUnsound(f"{name}: its chat template leaves out what the model is to read")


def _bytes_of(path: Path) -> bytes:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _HASHED_WHOLE:
            return hashlib.sha256(file.read()).digest()
        head = file.read(_END)
        file.seek(size - _END)
        return hashlib.sha256(head + file.read(_END)).digest()


def first_line(error: BaseException) -> str:
    """What an error says first, for a sentence of ours."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
