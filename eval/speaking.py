"""Who answers an evaluation: a base in this process or one at an endpoint, adapters beside it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.probes import Nll
from eval.replay import DECODE, Answer
from training import adapters
from training.endpoint import Endpoint
from training.model import Loaded, generate, nll, with_adapter, without_adapter

AT_ONCE = 64
Decode = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The base at an endpoint, known here as `base_hash`.

    `tokenizer` is a copy of its own; without one, and from a server that tells no likelihoods,
    what rests on them is unscored: the gate then proves no canary unknown, and passes nothing.
    `decode` keeps answers of one way to be asked apart from those of another.
    """

    endpoint: Endpoint
    base_hash: str
    tokenizer: Any
    decode: Decode

    @classmethod
    def found(cls, endpoint: Endpoint, base_hash: str, tokenizer: Any) -> "Elsewhere":
        """What the server can do is asked, once. Raises `NotReached`, `ServerRefuses`."""
        known = endpoint.found()
        decode = {
            **DECODE,
            "constrained": endpoint.keeps_form(),
            "endpoint": known.told,
            "likelihoods": known.host.tells_likelihoods and tokenizer is not None,
        }
        return cls(endpoint, base_hash, tokenizer, decode)


Base = Loaded | Elsewhere


@dataclass(frozen=True, slots=True)
class Speaker:
    """One model that is asked; `nll` is None where nothing tells how likely an answer is."""

    answer: Answer
    nll: Nll | None


def decode_of(base: Base) -> Decode:
    """How answers of this base and of its adapters are made."""
    return base.decode if isinstance(base, Elsewhere) else DECODE


@contextmanager
def speaking(base: Base, name: str, folder: Path | None) -> Iterator[Speaker]:
    """The adapter in this folder beside the base for as long as it is asked; None, the base.

    At an endpoint it is loaded under its own name, for good names are never given twice, and let
    go again unless it was there before.
    """
    if isinstance(base, Loaded):
        with _beside(base, folder) as adapter:
            yield Speaker(
                lambda prompts: generate(base, prompts, adapter=adapter, batch_size=AT_ONCE),
                lambda prompts, answers: nll(
                    base, prompts, answers, adapter=adapter, batch_size=AT_ONCE
                ),
            )
        return
    endpoint, there = base.endpoint, name if folder else None
    is_new = folder is not None and endpoint.take(name, folder)
    try:
        yield Speaker(
            lambda prompts: endpoint.generate(prompts, adapter=there),
            (lambda prompts, answers: endpoint.nll(
                prompts, answers, adapter=there, tokenizer=base.tokenizer
            )) if base.decode["likelihoods"] else None,
        )  # fmt: skip
    finally:
        if is_new:
            endpoint.drop(name)


@contextmanager
def _beside(base: Loaded, folder: Path | None) -> Iterator[str | None]:
    if folder is None:
        yield None
        return
    name = f"examined-{adapters.manifest(folder).sha256[:12]}"
    with_adapter(base, folder, name=name)
    try:
        yield name
    finally:
        without_adapter(base, name)
