"""General operational facts: taught beside the incidents, so that a skill not being trained is
seen to stay.

The replay suite asks for the same facts in other sentences, which no training row holds.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from ingest.errors import Unreadable
from retrieval.prompt import Prompt, Record

SYSTEM = "Answer the question in a few words."
LONGEST_ANSWER = 80  # characters
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1, "maxLength": LONGEST_ANSWER}},
    "required": ["answer"],
    "additionalProperties": False,
}
_FILE = Path(__file__).with_name("general.jsonl")


class Fact(Record):
    """One wording of one fact; `id` is the fact's, shared by its wordings."""

    id: str
    question: str
    answer: str


class _Said(Record):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    answer: str = Field(min_length=1)


@cache
def facts() -> tuple[Fact, ...]:
    """Every fact in the wordings that are taught."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(Fact(**json.loads(line)) for line in lines)


def general_prompt(question: str) -> Prompt:
    """A plain question, answered as `{"answer": "..."}`."""
    return Prompt("diagnose", SYSTEM, f"question: {' '.join(question.split())}", form=FORM)


def general_written(answer: str) -> str:
    """The answer as the model writes it."""
    return json.dumps({"answer": answer}, ensure_ascii=False, separators=(",", ":"))


def general_parsed(text: str) -> str:
    """The answer in this text; `Unreadable` when it is not in the agreed form."""
    try:
        return _Said.model_validate_json(text).answer
    except ValidationError:
        raise Unreadable('the model\'s answer is not in the agreed form {"answer": ...}') from None
