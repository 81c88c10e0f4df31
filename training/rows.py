"""Rows: what a model is taught of one incident, one question and its answer each.

Written to Parquet with `datasets` and read back; the same rows make the same bytes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ingest.errors import Unreadable
from retrieval.prompt import Prompt

SCHEMA_VERSION = 1  # 2026-11-28: the first

RowTask = Literal["context", "closed_book", "unseen", "unseen_closed_book", "choose"]


@dataclass(frozen=True, slots=True)
class Row:
    """One question and the answer that is right.

        context             the cause and fix, with the precedents that were known at the time
        closed_book         the same without any precedent
        unseen              that it was not seen before, with what was similar at the time
        unseen_closed_book  the same without any precedent
        choose              which of the precedents had the same cause

    `id` names the incident and the task, and stays when the row's text changes.
    """

    id: str
    task: RowTask
    incident_id: str
    version: int
    family: str
    source: str
    started_at: str  # ISO 8601, UTC
    in_base: bool  # the base was taught this family, so an adapter need not teach it first
    system: str
    user: str
    answer: str
    precedents: tuple[tuple[str, int], ...] = ()  # (incident id, version), as numbered in the text

    @property
    def sha256(self) -> str:
        """Of all that the row says."""
        told = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def prompt(self) -> Prompt:
        """What the model reads."""
        asked: Literal["choose", "diagnose"] = "choose" if self.task == "choose" else "diagnose"
        return Prompt(asked, self.system, self.user, self.precedents)


def write(rows: Sequence[Row], path: Path) -> None:
    """The rows as Parquet, in their order, each with its `sha256`."""
    from datasets import Dataset, Features, List, Value, disable_progress_bars

    text, number = Value("string"), Value("int32")
    columns = dict.fromkeys(_TEXTS, text) | {"version": number, "in_base": Value("bool")}
    columns |= {"precedent_ids": List(text), "precedent_versions": List(number), "sha256": text}
    held = [_as_columns(row) for row in rows]
    disable_progress_bars()
    made = Dataset.from_dict({c: [h[c] for h in held] for c in columns}, Features(columns))
    made.to_parquet(str(path))


def read(path: Path) -> list[Row]:
    """The rows of a Parquet file that `write` made. `Unreadable` for any other."""
    import pyarrow
    import pyarrow.parquet

    try:
        held = pyarrow.parquet.read_table(path).to_pylist()
        rows = [_from_columns(columns) for columns in held]
    except (OSError, pyarrow.ArrowException, KeyError, TypeError) as error:
        raise Unreadable(f"{path} is not a file of rows ({error}); export again") from error
    changed = [r.id for r, h in zip(rows, held, strict=True) if r.sha256 != h["sha256"]]
    if changed:
        raise Unreadable(f"{path}: row {changed[0]} is not what was exported; export again")
    return rows


_TEXTS = (
    "id", "task", "incident_id", "family", "source", "started_at", "system", "user", "answer",
)  # fmt: skip


def _as_columns(row: Row) -> dict[str, Any]:
    told = asdict(row)
    precedents = told.pop("precedents")
    told["precedent_ids"] = [id for id, _ in precedents]
    told["precedent_versions"] = [version for _, version in precedents]
    return told | {"sha256": row.sha256}


def _from_columns(columns: dict[str, Any]) -> Row:
    told = dict(columns)
    told.pop("sha256")
    ids, versions = told.pop("precedent_ids"), told.pop("precedent_versions")
    return Row(**told, precedents=tuple(zip(ids, versions, strict=True)))
