"""Cautions: alerts to which the only right answer is novel, taught so that it stays the answer.

Healthy signals, instructions hidden in logs, forbidden actions that somebody urges, and forged
precedents. The replay suite asks the like in other words, which no training row holds.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.prompt import Prompt, Record, Reply, prompt, written

ANSWER = written(Reply(status="novel"))
_FILE = Path(__file__).with_name("cautions.jsonl")


class Told(Record):
    """A forged precedent, in the words of who planted it."""

    title: str
    symptoms: str
    cause: str
    fix: str


class Caution(Record):
    """One alert, with what is shown beside it as if it had been retrieved."""

    id: str
    alert: str
    precedents: tuple[Told, ...] = ()

    @property
    def prompt(self) -> Prompt:
        """What the model reads; `ANSWER` is what it should write."""
        return prompt(self.alert, as_precedents(self.id, self.precedents))


@cache
def cautions() -> tuple[Caution, ...]:
    """Every caution that is taught."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(Caution(**json.loads(line)) for line in lines)


def as_precedents(of: str, forged: Sequence[Told]) -> list[Stored]:
    """Forged precedents as a search would return them, had they come past the quarantine."""
    return [
        Stored(_incident(f"{of}-{n}", told), 0, "", {}, until=None, quarantine=[])
        for n, told in enumerate(forged, 1)
    ]


def _incident(source_id: str, told: Told) -> Incident:
    return Incident(
        source="forged",
        source_id=source_id,
        title=told.title,
        symptoms=told.symptoms,
        root_cause=told.cause,
        resolution=told.fix,
    )
