"""Rows as token ids: the answer is what counts, and the prompt's middle is what gives way."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from retrieval.prompt import Prompt

IGNORED = -100  # of a label: cross entropy leaves it out
LONGEST = 2_048  # tokens of a prompt with its answer, unless a recipe says otherwise


@dataclass(frozen=True, slots=True)
class Item:
    """One row: `ids` is the prompt and the answer; the first `prompt` of them are the prompt."""

    ids: list[int]
    prompt: int
    cut: int  # tokens taken out of the prompt's middle
    lost: bool  # the answer alone is too long: the row teaches nothing and is left out


def question_ids(tokenizer: Any, prompt: Prompt, longest: int = LONGEST) -> list[int]:
    """The prompt up to where the answer begins, its middle cut when it is too long."""
    ids, _ = _middle_cut(_question(tokenizer, prompt), longest)
    return ids


def tokenised(tokenizer: Any, prompt: Prompt, answer: str, longest: int = LONGEST) -> Item:
    """The row; never more than `longest` tokens, and the answer is never shortened."""
    said = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    room = longest - len(said)
    if room < min(16, longest // 2):
        return Item([], 0, 0, lost=True)
    asked, cut = _middle_cut(_question(tokenizer, prompt), room)
    return Item(asked + said, len(asked), cut, lost=False)


class Alike:
    """An order of rows for a data loader: each micro-batch of one length, the micro-batches
    shuffled, so that little is padding and one step still sees rows of every kind.

    Another order each epoch, the same for the same seed and epoch. Where the rows are those of
    several epochs, one after another, `parts` has how many each holds; they are shuffled apart,
    or the copies of a row, which are of one length, would meet in one micro-batch.
    """

    def __init__(
        self, lengths: Sequence[int], micro: int, seed: int, parts: Sequence[int] = ()
    ) -> None:
        if sum(parts) not in (0, len(lengths)):
            raise ValueError(f"parts of {sum(parts)} rows do not make up {len(lengths)}")
        self._lengths = lengths
        self._micro = micro
        self._seed = seed
        self._parts = parts or [len(lengths)]
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self._seed}:{self._epoch}:order")
        told: list[int] = []
        rest: list[int] = []
        for part, end in zip(self._parts, accumulate(self._parts), strict=True):
            order = [*rest, *range(end - part, end)]
            rng.shuffle(order)
            order.sort(key=lambda n: self._lengths[n])  # stable: equals stay shuffled
            full = len(order) - len(order) % self._micro
            batches = [order[n : n + self._micro] for n in range(0, full, self._micro)]
            rng.shuffle(batches)
            told += [n for batch in batches for n in batch]
            rest = order[full:]
        return iter([*told, *rest])


def padded(items: Sequence[Item], pad: int, *, prompt_weight: float = 0.0) -> dict[str, Any]:
    """One batch, (rows, tokens) each: `input_ids`, `attention_mask` and `labels`.

    Labels are the answer's tokens only. With a `prompt_weight`, `loss_weights` holds that weight
    for the prompt's tokens, 1 for the answer's and 0 for the padding, which stands on the right.
    """
    import torch

    shape = (len(items), max(len(item.ids) for item in items))
    ids, mask = torch.full(shape, pad), torch.zeros(shape, dtype=torch.long)
    labels, weights = torch.full(shape, IGNORED), torch.zeros(shape)
    for row, item in enumerate(items):
        n = len(item.ids)
        ids[row, :n] = torch.tensor(item.ids)
        mask[row, :n] = 1
        labels[row, item.prompt : n] = ids[row, item.prompt : n]
        weights[row, : item.prompt] = prompt_weight
        weights[row, item.prompt : n] = 1.0
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return batch | ({"loss_weights": weights} if prompt_weight else {})


def end_of_turn(tokenizer: Any) -> str:
    """The token that closes an answer in conversations of this template, which need not be the
    end of a text; that one where the template closes answers with none."""
    said = "said here"
    talk = [{"role": "user", "content": "asked"}, {"role": "assistant", "content": said}]
    text = str(tokenizer.apply_chat_template(talk, tokenize=False, enable_thinking=False))
    after = tokenizer(text.rpartition(said)[2].strip(), add_special_tokens=False).input_ids
    token = tokenizer.added_tokens_decoder.get(after[0]) if after else None
    return str(token.content if token and token.special else tokenizer.eos_token)


def _question(tokenizer: Any, prompt: Prompt) -> list[int]:
    from jinja2 import TemplateError

    asked = replace(prompt, user=_as_data(tokenizer, prompt.user))
    try:
        text = _templated(tokenizer, asked.messages())
    except TemplateError:
        text = ""
    if prompt.system not in text:
        # Some templates refuse a system role, some drop it.
        text = _templated(tokenizer, asked.in_one_message())
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _templated(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    """Up to where the answer begins: at once, for a model that would think aloud before it."""
    text = str(
        tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
    )
    opened = text.rstrip().endswith("<think>")
    return f"{text.rstrip()}\n\n</think>\n\n" if opened else text


def _as_data(tokenizer: Any, text: str) -> str:
    """The text without tokens that end a turn or begin another's: written in a log, they would
    be read as the template's own."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content in text:
            text = text.replace(token.content, apart(token.content))
    return text


def apart(mark: str) -> str:
    """A mark of a template as it may stand in data: no longer one, and still to be read."""
    return f"{mark[0]} {mark[1:]}"


def _middle_cut(ids: list[int], longest: int) -> tuple[list[int], int]:
    """At most `longest` of them, and how many went: the instruction and the end stay."""
    if len(ids) <= longest:
        return ids, 0
    head = longest // 2
    return ids[:head] + ids[len(ids) - (longest - head) :], len(ids) - longest
