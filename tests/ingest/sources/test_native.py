"""Our own JSON and JSON Lines."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.file import LONGEST_LINE_BYTES, File
from ingest.incident import Action, Incident, Update
from ingest.refusal import Refusal
from ingest.sources import archive, native

GOOD = {"source": "ops", "source_id": "1", "title": "Checkout is slow"}


def lines(*records: object) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def said(records: list[Incident | Refusal]) -> list[str]:
    """Each record: an incident's id in its source, or the refusal as a person sees it."""
    return [r.source_id if isinstance(r, Incident) else str(r) for r in records]


def test_every_field_of_an_incident_is_read(read_text):
    record = GOOD | {
        "started_at": "2026-03-01T10:00:00+01:00",
        "resolved_at": "2026-03-01T11:00:00Z",
        "services": ["checkout"],
        "updates": [{"text": "Looking", "at": "2026-03-01T09:05:00Z"}],
        "actions": ["Restarted the pool"],
        "labels": {"team": "payments"},
    }

    [incident] = read_text("a.jsonl", lines(record))

    assert incident == Incident(
        source="ops",
        source_id="1",
        title="Checkout is slow",
        started_at=datetime(2026, 3, 1, 9, tzinfo=UTC),
        resolved_at=datetime(2026, 3, 1, 11, tzinfo=UTC),
        status="resolved",
        services=["checkout"],
        updates=[Update(text="Looking", at=datetime(2026, 3, 1, 9, 5, tzinfo=UTC))],
        actions=[Action(text="Restarted the pool")],
        labels={"team": "payments"},
    )


def test_a_bad_line_is_refused_with_its_place_and_the_rest_goes_in(read_text):
    content = lines(GOOD, GOOD | {"source_id": "2", "started_at": "yesterday"}, GOOD)

    assert said(read_text("a.jsonl", content)) == [
        "1",
        "a.jsonl:2: started_at: expected an ISO 8601 time such as 2026-03-01T10:00:00Z, "
        "got 'yesterday'",
        "1",
    ]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"titel": "x"}, "titel: not a field of an incident; did you mean 'title'?"),
        ({"title": None}, "title: missing; every incident needs a title"),
        ({"title": "  "}, "title: expected text, got nothing"),
        ({"title": 7}, "title: expected text, got 7"),
        ({"title": "x" * 501}, "title: at most 500 characters, got 501; shorten it"),
        ({"services": "api"}, "services: expected a list, got 'api'"),
        ({"services": ["api", 3]}, "services[1]: expected text, got 3"),
        (
            {"status": "on fire"},
            "status: expected one of 'open', 'acknowledged', 'mitigated' or 'resolved', "
            "got 'on fire'",
        ),
        (
            {"updates": [{"text": "a", "when": "b"}]},
            "updates[0].when: not a field here; known are text, at, author. "
            "Put it under labels, or leave it out",
        ),
        ({"updates": [{"at": "2026-01-01"}]}, "updates[0].text: missing"),
        ({"updates": [5]}, "updates[0]: expected an object with a `text`, got 5"),
        ({"labels": {"a": 1}}, "labels.a: expected text, got 1"),
        ({"labels": ["a"]}, "labels: expected an object of names and texts, got a list"),
        ({"actions": ["x"] * 201}, "actions: at most 200 of them, got 201"),
        (
            {"started_at": "2026-01-02T00:00:00Z", "resolved_at": "2026-01-01T00:00:00Z"},
            "resolved_at: 2026-01-01T00:00:00+00:00 is before started_at "
            "2026-01-02T00:00:00+00:00; correct one of them, or leave resolved_at out",
        ),
        (
            {"started_at": "0001-01-01T00:00:00+14:00"},
            "started_at: expected an ISO 8601 time such as 2026-03-01T10:00:00Z, "
            "got '0001-01-01T00:00:00+14:00'",
        ),
        (
            {"titel": "x", "severity": 1, "url": 2},
            "titel: not a field of an incident; did you mean 'title'?; also url: expected text, "
            "got 2; also severity: expected text, got 1",
        ),
    ],
)
def test_what_is_wrong_with_a_field_is_said_in_plain_words(read_text, fields, told):
    assert said(read_text("a.jsonl", lines(GOOD | fields))) == [f"a.jsonl:1: {told}"]


def test_an_incident_of_the_future_is_refused_on_its_line(read_text):
    now = datetime(2026, 1, 1, tzinfo=UTC)
    content = lines(GOOD, GOOD | {"started_at": "2026-02-01T00:00:00Z"})

    assert said(read_text("a.jsonl", content, now=now)) == [
        "1",
        "a.jsonl:2: started_at 2026-02-01T00:00:00+00:00 is in the future "
        "(it is 2026-01-01T00:00:00+00:00 here); correct it",
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"title": "a"', "not JSON: expecting ',' delimiter at column 14"),
        ('{"a": 1, "a": 2}', "the field 'a' is there twice; keep one of them"),
        ('{"a": NaN}', "NaN is not JSON; write null"),
        ('{"a": ' + "9" * 5000 + "}", "a whole number of 5000 digits"),
        ("{} {}", "more behind the object on this line; write one per line"),
        ("[1]", "expected an object with the fields of an incident, got a list"),
        ("[" * 100_000, "nested too deeply to be an incident"),
        (
            '{"a": 1}'[:4] + "\0\0\0",
            "NUL bytes where JSON was expected; the file is damaged or no text",
        ),
    ],
)
def test_a_line_that_is_no_json_object_is_refused_and_the_next_is_read(read_text, line, told):
    content = line + "\n" + lines(GOOD)

    assert said(read_text("a.jsonl", content)) == [f"a.jsonl:1: {told}", "1"]


def test_a_truncated_last_line_is_recognised(read_text):
    assert said(read_text("a.jsonl", lines(GOOD) + '{"source": "ops", "sou')) == [
        "1",
        "a.jsonl:2: not JSON: unterminated string starting at at column 19; "
        "the file ends in this line, so it may be cut off",
    ]


def test_a_line_of_ten_megabytes_is_refused_and_the_next_is_read(read_text):
    assert LONGEST_LINE_BYTES < 10_000_000

    content = lines(GOOD | {"summary": "x" * 10_000_000}, GOOD)

    assert said(read_text("a.jsonl", content)) == [
        "a.jsonl:1: longer than 8 MiB; one line holds one record",
        "1",
    ]


def test_a_line_that_is_not_utf8_is_refused_and_the_next_is_read(read_text):
    bad = json.dumps(GOOD | {"title": "caf\u00e9"}, ensure_ascii=False).encode("latin-1")

    [refusal, incident] = read_text("a.jsonl", bad + b"\n" + lines(GOOD).encode())

    assert str(refusal).startswith("a.jsonl:1: not UTF-8: byte 0xe9 at position ")
    assert incident.source_id == "1"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_the_encoding_is_found_by_itself(read_text, encoding, name):
    content = lines(GOOD | {"title": "caf\u00e9 \u65e5\u672c"}).encode(encoding)

    [incident] = read_text(name, content)

    assert incident.title == "caf\u00e9 \u65e5\u672c"


def test_a_document_and_a_list_are_read_as_well(read_text):
    pretty = json.dumps(GOOD, indent=2)

    assert said(read_text("one.json", pretty)) == ["1"]
    assert said(read_text("list.json", f"[{pretty},\n{pretty}]")) == ["1", "1"]
    assert said(read_text("lines.json", lines(GOOD, GOOD))) == ["1", "1"]


def test_an_item_of_a_list_is_refused_with_its_line_and_number(read_text):
    items = [json.dumps(GOOD), '{"titel": "x"}', "7", '{"a": 1, "a": 2}', json.dumps(GOOD)]

    records = read_text("a.json", "[\n" + ",\n".join(items) + "\n]", kind="native")

    assert said(records) == [
        "1",
        "a.json:3: [1].titel: not a field of an incident; did you mean 'title'?; also "
        "source: missing; every incident needs a source; also source_id: missing; every "
        "incident needs a source_id; also title: missing; every incident needs a title",
        "a.json:4: [2]: expected an object with the fields of an incident, got 7",
        "a.json:5: [3]: the field 'a' is there twice; keep one of them",
        "1",
    ]


def test_a_document_that_says_a_field_twice_is_refused(read_text):
    assert said(read_text("a.json", '\n{"a": 1,\n"a": 2}')) == [
        "a.json:2: the field 'a' is there twice; keep one of them"
    ]


def test_what_stands_before_the_break_in_a_list_goes_in(read_text):
    assert said(read_text("a.json", f"[{json.dumps(GOOD)}, {{", kind="native")) == [
        "1",
        "a.json:1: not JSON: expecting property name enclosed in double quotes at column 69",
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "[]", "\ufeff"])
def test_a_file_without_an_incident_says_so(read_text, content):
    assert said(read_text("a.json", content)) == ["a.json: empty: there is no incident in it"]


def test_a_refusal_carries_nothing_that_a_terminal_would_obey(read_text):
    [refusal] = read_text("a.jsonl", lines(GOOD | {"started_at": "\x1b[31m\u202enow"}))

    assert "'␛[31m\ufffdnow'" in str(refusal)


def test_a_head_that_is_one_endless_text_is_looked_at_in_linear_time():
    assert native.first_names('{"title": "' + '\\"' * 30_000) == {"title"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*Incident.model_fields, "id", "postmortem", "components", "company"])
            | st.text(max_size=8),
            inner,
            max_size=6,
        )
    ),
    max_leaves=25,
)
texts = (
    st.binary(max_size=300)
    | json_values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.lists(json_values, max_size=4).map(lambda records: lines(*records).encode())
    | st.text("[]{}\",:\\u0d8 \n\0-1eE.tnf'", max_size=120).map(str.encode)
)


@settings(deadline=None, max_examples=200)
@given(content=texts, name=st.sampled_from(["fuzz.json", "fuzz.jsonl"]))
def test_whatever_the_bytes_only_incidents_and_refusals_come_out(tmp_path_factory, content, name):
    path = Path(tmp_path_factory.getbasetemp(), name)
    path.write_bytes(content)

    for source in (native, archive):
        for record in source.read(File(path, name)):
            assert isinstance(record, (Incident, Refusal))
            str(record).encode()
