"""Text as the embedding model reads it: word pieces, in windows that overlap a little."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

OVERLAP = 32  # word pieces shared by neighbours: a sentence cut by one window is whole in the next
# Real postmortems need 1-7 windows (p99), the longest seen 54; incident text tells its story first.
MOST_CHUNKS = 32
# Prose has 5 characters a word piece, logs 3: twice that is enough text to fill every window.
_CHARACTERS_PER_PIECE = 10


@dataclass(frozen=True, slots=True)
class Chunk:
    """One window of a text: the string without the model's prompt, and the ids (n,) with it.

    The first `lead` ids and those after `end` are special or the prompt's, not the text's.
    """

    text: str
    ids: NDArray[np.int64]
    lead: int
    end: int


class Chunker:
    """Cuts texts into the windows of one model."""

    def __init__(self, tokenizer: Path, window: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.before, self.after = self._specials()
        self.room = window - len(self.before) - len(self.after)

    def chunks(self, text: str, *, most: int = MOST_CHUNKS, prompt: str = "") -> list[Chunk]:
        """The windows of `text` in order, cut between words; always at least one.

        What lies beyond the first `most` windows has no vector: lexical search still covers it.
        Each window begins with the model's own `prompt`, where it has one.
        """
        text = self.readable(text, most=most)
        lead = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        whole = self._tokenizer.encode(text, add_special_tokens=False)
        # However long a prompt is, half of the window is the text's.
        room = max(self.room - len(lead), self.room // 2)
        spans = _windows(text, whole, room)[:most]
        return [self._chunk(text, whole, span, lead) for span in spans]

    def readable(self, text: str, *, most: int = MOST_CHUNKS) -> str:
        """As much of `text` as could matter to its first `most` windows."""
        text = text[: most * self.room * _CHARACTERS_PER_PIECE]
        return text.encode("utf-8", "replace").decode()  # a lone surrogate would raise

    def telling(self) -> NDArray[np.bool_]:
        """For each id whether it stands for letters or digits: not [UNK], [SEP], punctuation."""
        known = self._tokenizer.get_vocab(with_added_tokens=True)
        telling = np.zeros(max(known.values()) + 1, dtype=bool)
        telling[[n for word, n in known.items() if any(c.isalnum() for c in word)]] = True
        added = self._tokenizer.get_added_tokens_decoder()
        telling[[n for n, token in added.items() if token.special]] = False
        return telling

    def _chunk(self, text: str, whole: Encoding, span: tuple[int, int], lead: list[int]) -> Chunk:
        first, end = span
        ids = [*self.before, *lead, *whole.ids[first:end], *self.after]
        piece = text[whole.offsets[first][0] : whole.offsets[end - 1][1]] if end else ""
        before = len(self.before) + len(lead)
        return Chunk(piece, np.array(ids, dtype=np.int64), lead=before, end=before + end - first)

    def _specials(self) -> tuple[list[int], list[int]]:
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        dressed = self._tokenizer.encode("a", add_special_tokens=True).ids
        if not plain or len(dressed) == len(plain):
            return [], []
        at = next(n for n in range(len(dressed)) if dressed[n : n + len(plain)] == plain)
        return dressed[:at], dressed[at + len(plain) :]


def _windows(text: str, whole: Encoding, room: int) -> list[tuple[int, int]]:
    """(first, end) of each window over the word pieces, together covering all of them."""
    overlap = min(OVERLAP, room // 6)
    spans, first = [], 0
    while len(whole) - first > room:
        end = _gap(text, whole, first + room, most_back=room // 2)
        spans.append((first, end))
        first = _gap(text, whole, end - overlap, most_back=overlap)
    return [*spans, (first, len(whole))]


def _gap(text: str, whole: Encoding, at: int, *, most_back: int) -> int:
    """The last place up to `at` after white space, else one between words, else `at` itself."""
    starts, words = whole.offsets, whole.word_ids
    near = range(at, at - most_back, -1)
    spaced = (n for n in near if any(map(str.isspace, text[starts[n][0] - 1 : starts[n][0] + 1])))
    between = (n for n in near if words[n] != words[n - 1])
    return next(spaced, next(between, at))
