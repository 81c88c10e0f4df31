"""Decoding that cannot leave a JSON schema, on llguidance's matchers."""

from collections.abc import Sequence
from typing import Any


class Constrained:
    """A logits processor that lets only those tokens through that keep an answer in its form.

    Row n of a batch follows `schemas[n]`; `begin` is where the answers start in `input_ids`.
    """

    def __init__(
        self, grammars: Any, schemas: Sequence[dict[str, Any]], begin: int, end_token: int
    ) -> None:
        from llguidance import LLMatcher

        compact: Any = {"whitespace_flexible": False}
        self._matchers = [
            LLMatcher(grammars, LLMatcher.grammar_from_json_schema(s, overrides=compact))
            for s in schemas
        ]
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
