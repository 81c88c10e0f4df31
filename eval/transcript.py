"""The transcript: all that one model answered, kept so that any two can be compared later."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from eval.score import SCORES_VERSION, Arm, Prediction, Record, Slice
from ingest.errors import Refused, Unavailable, Unreadable
from training.folders import in_our_words


class Header(Record):
    """Under what a transcript was made; `adapter_sha256` is None for the base itself."""

    model: str
    base_hash: str
    adapter_sha256: str | None
    suite: str
    suite_hash: str
    prompt_hash: str
    decode: dict[str, str | int | float | bool]
    scores_version: int = SCORES_VERSION


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that one model answered under one header; a case stands in it once for each arm."""

    header: Header
    predictions: tuple[Prediction, ...]

    def __post_init__(self) -> None:
        seen: set[tuple[str, Arm]] = set()
        for p in self.predictions:
            if (p.case, p.arm) in seen:
                raise Refused(f"{self.header.model} answers case {p.case} twice in arm {p.arm}")
            if p.suite != self.header.suite:
                raise Refused(f"case {p.case} is of suite {p.suite}, not {self.header.suite}")
            seen.add((p.case, p.arm))

    def of(self, wanted: Slice) -> "Transcript":
        """The same without the predictions of other slices."""
        return Transcript(self.header, tuple(p for p in self.predictions if p.slice == wanted))

    def joined(self, *others: "Transcript") -> "Transcript":
        """One transcript of several files of a model; `Refused` when their headers differ."""
        for other in others:
            if other.header != self.header:
                raise Refused(
                    f"transcripts of {self.header.model} and {other.header.model} were made under "
                    "different headers and cannot be joined; replay the suite again"
                )
        return Transcript(self.header, tuple(p for t in (self, *others) for p in t.predictions))

    @property
    def digest(self) -> str:
        """The SHA-256 of the header and of all predictions, in whatever order they were made."""
        lines = [self.header.model_dump_json(), *self._lines()]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Keep it as JSON lines, the header first; a reader finds all of it or no file."""
        told = {
            "header": self.header.model_dump(),
            "predictions": len(self.predictions),
            "digest": self.digest,
        }
        text = "\n".join([json.dumps(told, ensure_ascii=False), *self._lines(), ""])
        draft = path.with_name(f"{path.name}.draft")
        try:
            with in_our_words(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)
        except OSError as error:
            raise Unavailable(f"the transcript {path} cannot be written: {error}") from error

    def _lines(self) -> list[str]:
        ordered = sorted(self.predictions, key=lambda p: (p.arm, p.case))
        return [p.model_dump_json() for p in ordered]


def read_transcript(path: Path) -> Transcript:
    """The transcript kept in this file; `Unreadable` says what is wrong with it."""
    try:
        # Not splitlines: what a model wrote may hold a U+2028, which ends no line of JSON.
        first, *lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        told = json.loads(first)
        header = Header.model_validate(told["header"])
        transcript = Transcript(header, tuple(_predictions(lines)))
        complete = told["digest"] == transcript.digest
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unreadable(f"the transcript {path} cannot be read ({why}); replay it") from error
    if not complete:
        raise Unreadable(f"the transcript {path} is not what was written there; replay it")
    return transcript


def _predictions(lines: Sequence[str]) -> Iterator[Prediction]:
    for n, line in enumerate(lines, 2):
        try:
            yield Prediction.model_validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise Unreadable(f"line {n}: {first['msg']}") from None
