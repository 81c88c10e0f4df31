"""Bases of the architectures that people bring, small and with random weights, each with a chat
template built as its family's are: what a template, a vocabulary or a head can differ in."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.training import tiny

QWEN3 = """\
{%- if tools %}{{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '\\n</tools><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set said = message.content.split('</think>')[-1].lstrip('\\n') %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
        {{- said }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + (call | tojson) + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}
        {{- '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

# As of a model that always thinks: it opens the thought itself.
THINKER = """\
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{- messages[0].content }}{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{- '<|User|>' + message.content }}
    {%- elif message.role == 'assistant' %}
        {{- '<|Assistant|>' + message.content + '<|end_of_sentence|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|Assistant|><think>\\n' }}{%- endif %}"""

LLAMA3 = """\
{%- for message in messages %}
    {%- set said = '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n'
        + (message.content | trim) + '<|eot_id|>' %}
    {%- if loop.first %}{%- set said = bos_token + said %}{%- endif %}
    {{- said }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}"""

GEMMA = """\
{{ bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{ raise_exception('Roles must alternate') }}
    {%- endif %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<start_of_turn>' + role + '\\n' + (message.content | trim) + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{%- endif %}"""

# It drops the system's words without one of its own.
MISTRAL = """\
{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
    {%- elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}
    {%- endif %}
{%- endfor %}"""


@dataclass(frozen=True)
class Family:
    """One architecture with its template; `begins` and `ends` are what stands around a question."""

    kind: str  # of its configuration in transformers
    template: str
    specials: tuple[str, ...]
    eos: str
    closes: str  # an answer
    asked: str  # the whole of the question, with {system} and {user}
    bos: str | None = None
    own: dict[str, Any] = field(default_factory=dict)
    beyond: int = 0  # rows of the embeddings that no token has


FAMILIES = {
    "qwen3": Family(
        "Qwen3", QWEN3, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "<|im_end|>", "<|im_end|>",
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n",
        own={"head_dim": 16, "tie_word_embeddings": True}, beyond=37,
    ),
    "thinker": Family(
        "Qwen3", THINKER, ("<|bos|>", "<|User|>", "<|Assistant|>", "<|end_of_sentence|>"),
        "<|end_of_sentence|>", "<|end_of_sentence|>",
        "<|bos|>{system}<|User|>{user}<|Assistant|><think>\n\n</think>\n\n",
        bos="<|bos|>", own={"head_dim": 16, "tie_word_embeddings": False},
    ),
    "llama3": Family(
        "Llama", LLAMA3,
        ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>", "<|eot_id|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{user}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        bos="<|begin_of_text|>", own={"tie_word_embeddings": False, "rope_theta": 500_000.0},
    ),
    "gemma": Family(
        "Gemma", GEMMA, ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "<eos>", "<end_of_turn>",
        "<bos><start_of_turn>user\n{system}\n\n{user}<end_of_turn>\n<start_of_turn>model\n",
        bos="<bos>", own={"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True},
    ),
    "mistral": Family(
        "Mistral", MISTRAL, ("<s>", "</s>", "[INST]", "[/INST]"), "</s>", "</s>",
        "<s>[INST] {system}\n\n{user} [/INST]",
        bos="<s>", own={"sliding_window": 64, "tie_word_embeddings": False},
    ),
}  # fmt: skip


def tokenizer(family: Family) -> Any:
    """Byte-level BPE, putting the beginning of text before whatever it is given, as theirs do."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(family.specials), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    texts = [text for r in tiny.rows() for text in (r.user, r.answer, r.system)]
    made.train_from_iterator(texts, trainer)
    if family.bos:
        begin = (family.bos, made.token_to_id(family.bos))
        made.post_processor = processors.TemplateProcessing(f"{family.bos} $A", None, [begin])
    told = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=family.eos, bos_token=family.bos
    )
    told.chat_template = family.template
    return told


def base(name: str, folder: Path, *, dtype: str = "float32", shards: str = "20KB") -> Path:
    """A model of this family with random weights, in several files."""
    import torch
    import transformers

    family = FAMILIES[name]
    told = tokenizer(family)
    torch.manual_seed(7)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2,
             "initializer_range": 0.15}  # fmt: skip
    config = getattr(transformers, f"{family.kind}Config")(
        vocab_size=len(told) + family.beyond, max_position_embeddings=1024,
        bos_token_id=told.bos_token_id, eos_token_id=told.eos_token_id, pad_token_id=None,
        **{**shape, **family.own},
    )  # fmt: skip
    model = getattr(transformers, f"{family.kind}ForCausalLM")(config)
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shards)
    told.save_pretrained(folder)
    return folder
