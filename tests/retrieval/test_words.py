"""What counts as a word, and which text stands for an incident."""

import pytest

from ingest.incident import Incident
from retrieval.words import forms, passage, words


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("OOMKilled", ["oomkilled", "oom", "killed"]),
        ("CrashLoopBackOff", ["crashloopbackoff", "crash", "loop", "back", "off"]),
        ("DEADLINE_EXCEEDED", ["deadline_exceeded", "deadline", "exceeded"]),
        ("ECONNREFUSED", ["econnrefused"]),
        ("DynamoDB", ["dynamodb"]),
        ("APIs", ["apis"]),
        ("28T07", ["28t07"]),
        ("6f86c56644", ["6f86c56644"]),
        ("接続エラー", ["接続エラー", "接続", "続エ", "エラ", "ラー"]),
    ],
)
def test_an_identifier_is_also_what_it_is_made_of(written, expected):
    assert forms(written) == expected


def test_a_numbered_name_is_a_word_of_its_own_beside_its_parts():
    found = words("db-3 in eu-west-1 answered http-503, v1.24.7; not 10.0.0.3 or well-known")

    assert {"db-3", "eu-west-1", "http-503", "v1.24.7"} <= set(found)
    assert {"db", "eu", "west", "http", "503", "well", "known"} <= set(found)
    assert not {"10.0.0.3", "well-known"} & set(found)


def test_a_chain_of_hyphens_as_long_as_a_text_may_be_is_read():
    assert words("a-" * 100_000) == []


def test_a_passage_says_what_was_seen_before_what_it_was():
    incident = Incident(
        source="s",
        source_id="1",
        title="Checkout is down",
        summary="Orders fail.",
        services=["checkout", "cart"],
        symptoms="502 from the gateway",
        updates=[{"text": "Rolled back."}],
        root_cause="A bad deploy",
        resolution="Rolled back.",
    )

    assert passage(incident).split("\n") == [
        "Checkout is down",
        "checkout, cart",
        "502 from the gateway",
        "Orders fail.",
        "Rolled back.",
        "A bad deploy",
    ]


def test_a_title_cut_from_the_summary_is_not_said_twice():
    incident = Incident(source="s", source_id="1", title="Orders fail", summary="Orders fail a lot")

    assert passage(incident) == "Orders fail a lot"
