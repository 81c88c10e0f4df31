"""The fields in which public incident archives are collected: one JSON object per incident.

Titles, symptoms, updates and reports keep the operator's words. What the archive is sure of is
that these incidents are over, so their status is `resolved` also where nobody noted the time.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ingest.file import File
from ingest.incident import Incident
from ingest.refusal import Refusal
from ingest.sources.native import first_names, objects

KIND = "archive"
SENTENCE = (
    "a public archive's JSON Lines: id, source, source_url, company, updates, postmortem, ..."
)
SUFFIXES = frozenset({".jsonl", ".ndjson", ".json"})

_OWN_NAMES = {"source_url", "company", "postmortem", "text_origin", "dup_group"}
_LONGEST_TITLE = 160

# What our fields are called there, so that a refusal speaks of the file as it is.
_CALLED = {
    "source_id": "id",
    "url": "source_url",
    "summary": "postmortem",
    "services": "components",
}


def sniff(path: Path, head: str) -> bool:
    """Whether its first object has an `id` and two fields that only such an archive has."""
    names = first_names(head)
    return "id" in names and "source_id" not in names and len(names & _OWN_NAMES) >= 2


def read(file: File) -> Iterator[Incident | Refusal]:
    """Each record as an incident or as a refusal; a field that we do not know is left out."""
    for record in objects(file):
        if isinstance(record, Refusal):
            yield record
        else:
            fields = _fields(record.fields)
            yield file.admit(fields, line=record.line, called=_CALLED, within=record.within)


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    updates = record.get("updates") or []
    return {
        "source": record.get("source"),
        "source_id": record.get("id"),
        "url": record.get("source_url"),
        "title": record.get("title") or _title(record),
        "summary": record.get("postmortem"),
        "services": record.get("components") or _one(record.get("service")),
        "severity": record.get("severity"),
        "status": "resolved",
        "started_at": record.get("started_at"),
        "resolved_at": record.get("resolved_at"),
        "symptoms": record.get("symptoms") or _first_said(updates),
        "updates": [_update(u) for u in updates] if isinstance(updates, list) else updates,
        "root_cause": record.get("root_cause"),
        "resolution": record.get("resolution"),
        "lessons": record.get("lessons"),
        "labels": _labels(record),
    }


def _title(record: Mapping[str, Any]) -> str | None:
    """The first sentence of what was written, for the few that were published without a title."""
    for text in (record.get("symptoms"), record.get("postmortem")):
        if isinstance(text, str) and text.strip():
            sentence = " ".join(text.split()).split(". ")[0].rstrip(".")
            return sentence if len(sentence) <= _LONGEST_TITLE else _cut(sentence)
    return None


def _cut(sentence: str) -> str:
    return sentence[:_LONGEST_TITLE].rsplit(" ", 1)[0] + "…"


def _one(value: Any) -> Any:
    return [value] if value else None


def _first_said(updates: Any) -> str | None:
    """The first update, unless it already tells how the incident ended."""
    match updates:
        case [{"text": str(text), "status": status}, *_] if status not in (
            "resolved",
            "postmortem",
        ):
            return text
    return None


def _update(update: Any) -> Any:
    """The text behind the status it came with; a clock time without a day stays in the text."""
    if not isinstance(update, dict) or not isinstance(update.get("text"), str):
        return update
    status, clock = update.get("status"), update.get("clock")
    said = [str(part) for part in (clock, status) if part and part != "update"]
    return {
        "at": update.get("at"),
        "text": f"[{', '.join(said)}] {update['text']}" if said else update["text"],
    }


def _labels(record: Mapping[str, Any]) -> dict[str, Any]:
    """Taxonomies, and what somebody who lends these texts out must know."""
    origin, provenance = record.get("text_origin"), record.get("provenance")
    labels = {
        "company": record.get("company"),
        "duplicates": record.get("dup_group"),
        "licence": record.get("licence"),
        "text_origin": None if origin == "operator" else origin,
        "collected_from": provenance.get("repo") if isinstance(provenance, dict) else None,
    }
    marked = record.get("labels")
    for name, values in marked.items() if isinstance(marked, dict) else ():
        labels[name] = "; ".join(filter(_is_text, values)) if isinstance(values, list) else values
    return {name: value for name, value in labels.items() if value}


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
