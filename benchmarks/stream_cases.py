"""The streams as they are read: cases in eras, as published and as plain lines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.stream_models import plain


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    era: int
    text: str
    plain: str
    answer: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream, read: what is learned and what is asked, in the order of the eras."""

    name: str
    eras: tuple[str, ...]
    train: tuple[Case, ...]
    test: tuple[Case, ...]

    @property
    def answers(self) -> list[str]:
        return sorted({case.answer for case in self.train})

    def upto(self, era: int) -> list[Case]:
        return [case for case in self.train if case.era <= era]


def read(folder: Path) -> Stream:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    eras = tuple(era["name"] for era in manifest["eras"])
    parts: dict[str, list[Case]] = {"train": [], "test": []}
    for part, cases in parts.items():
        for era in range(1, len(eras) + 1):
            lines = (folder / f"era{era}_{part}.jsonl").read_text(encoding="utf-8").splitlines()
            cases += [_case(json.loads(line), era) for line in lines]
    return Stream(folder.name, eras, tuple(parts["train"]), tuple(parts["test"]))


def _case(told: dict[str, Any], era: int) -> Case:
    choices = tuple(told.get("choices") or ())
    return Case(told["id"], era, told["input"], plain(told["input"]), told["answer"], choices)
