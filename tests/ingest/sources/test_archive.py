"""The fields of public incident archives."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.importer import find, read
from ingest.incident import Incident, Update
from ingest.refusal import Refusal

DEV = Path(__file__).parents[4] / "shared" / "data" / "dev"

RECORD = {
    "id": "acme-17",
    "source": "acme-status",
    "source_url": "https://status.example.com/17",
    "company": "Acme",
    "service": "API, Web",
    "title": "Slow answers",
    "started_at": "2024-05-01T10:00:00Z",
    "resolved_at": None,
    "severity": "minor",
    "symptoms": None,
    "updates": [
        {"at": "2024-05-01T10:01:00Z", "status": "investigating", "text": "Answers are slow."},
        {"at": None, "clock": "3:35 PM PST", "status": "update", "text": "Still slow."},
    ],
    "root_cause": None,
    "resolution": None,
    "lessons": None,
    "postmortem": "A cache was emptied. It filled again.",
    "components": ["API", "Web"],
    "labels": {"cause": ["cache", "deploy"], "empty": []},
    "text_origin": "operator",
    "licence": "MIT",
    "provenance": {"repo": "acme/history", "path": "x.json", "commit": "0"},
    "dup_group": "dup1",
    "split": "dev",
}


def test_a_record_becomes_an_incident_in_the_operators_words(read_text):
    [incident] = read_text("a.jsonl", json.dumps(RECORD))

    assert incident == Incident(
        source="acme-status",
        source_id="acme-17",
        url="https://status.example.com/17",
        title="Slow answers",
        summary="A cache was emptied. It filled again.",
        services=["API", "Web"],
        severity="minor",
        status="resolved",
        started_at=datetime(2024, 5, 1, 10, tzinfo=UTC),
        symptoms="Answers are slow.",
        updates=[
            Update(
                text="[investigating] Answers are slow.",
                at=datetime(2024, 5, 1, 10, 1, tzinfo=UTC),
            ),
            Update(text="[3:35 PM PST] Still slow."),
        ],
        labels={
            "company": "Acme",
            "duplicates": "dup1",
            "licence": "MIT",
            "collected_from": "acme/history",
            "cause": "cache; deploy",
        },
    )


def test_a_first_update_that_tells_the_end_is_no_symptom(read_text):
    told = [{"at": None, "status": "resolved", "text": "We restarted it."}]

    [incident] = read_text("a.jsonl", json.dumps(RECORD | {"updates": told}))

    assert incident.symptoms is None


def test_a_record_without_a_title_is_called_by_its_first_sentence(read_text):
    [incident] = read_text("a.jsonl", json.dumps(RECORD | {"title": None}))

    assert incident.title == "A cache was emptied"


def test_nulls_are_fine_and_a_refusal_speaks_of_the_fields_in_the_file(read_text):
    bare = dict.fromkeys(RECORD) | {"id": "1", "source": "s", "title": "t"}

    records = read_text(
        "a.jsonl",
        "\n".join(
            json.dumps(record)
            for record in (bare, bare | {"id": None}, bare | {"components": 3, "updates": "none"})
        ),
    )

    assert [str(r) for r in records[1:]] == [
        "a.jsonl:2: id: missing; every incident needs a source_id",
        "a.jsonl:3: components: expected a list, got 3; also updates: expected a list, got 'none'",
    ]
    assert records[0] == Incident(source="s", source_id="1", title="t", status="resolved")


def test_an_end_before_the_start_is_refused(read_text):
    [refusal] = read_text("a.jsonl", json.dumps(RECORD | {"resolved_at": "2024-04-30T10:00:00Z"}))

    assert str(refusal) == (
        "a.jsonl:1: resolved_at: 2024-04-30T10:00:00+00:00 is before started_at "
        "2024-05-01T10:00:00+00:00; correct one of them, or leave resolved_at out"
    )


def test_the_public_archive_goes_in_but_for_four_that_end_before_they_start():
    if not DEV.is_dir():
        pytest.skip("the public incidents (shared/data/dev) are not beside this checkout")

    [file], _ = find([str(DEV / "incidents.jsonl")])
    records = list(read(file))

    refused = [record for record in records if isinstance(record, Refusal)]
    assert file.kind == "archive"
    assert (len(records), len(refused)) == (5122, 4)
    assert all("is before started_at" in refusal.why for refusal in refused)
