import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import Unreadable
from ingest.incident import Action, Evidence, Incident
from ingest.store import Stored
from retrieval import prompt as prompts
from retrieval.prompt import (
    LONGEST_ALERT,
    SYSTEM,
    Choice,
    Reply,
    cause_of,
    fix_of,
    grammar,
    middle_cut,
    parsed,
    parsed_choice,
    prompt,
    prompt_hash,
    question_text,
    written,
)

AT = datetime(2030, 1, 1, tzinfo=UTC)


def stored(n: int, **fields) -> Stored:
    told = {
        "title": f"alarm {n}",
        "root_cause": f"Cause {n} of it. More.",
        "resolution": f"Fix {n} now.",
    }
    incident = Incident(
        id=f"inc-{n}", version=n, source="pager", source_id=f"{n}", **{**told, **fields}
    )
    return Stored(incident, n, "", {}, None, [])


def test_an_alert_and_its_precedents_are_numbered_lines_of_data():
    asked = prompt("disk full\non db-3", [stored(1), stored(2, resolution=None)])

    assert asked.user == (
        "alert: disk full on db-3\n"
        "1. alarm 1 | cause: Cause 1 of it. | fix: Fix 1 now.\n"
        "2. alarm 2 | cause: Cause 2 of it."
    )
    assert asked.precedents == (("inc-1", 1), ("inc-2", 2))
    assert asked.messages() == [
        {"role": "system", "content": SYSTEM["diagnose"]},
        {"role": "user", "content": asked.user},
    ]


def test_without_precedents_it_is_the_closed_book_question():
    assert prompt("disk full").user == "alert: disk full\nno precedents"
    assert prompt("disk full").precedents == ()


def test_choosing_shows_what_precedents_looked_like_and_hides_what_they_were():
    asked = prompt("disk full", [stored(1), stored(2)], task="choose")

    assert asked.user == "alert: disk full\n1. alarm 1\n2. alarm 2"
    assert asked.system == SYSTEM["choose"]


def test_only_the_first_three_precedents_are_shown():
    assert [v for _, v in prompt("x", [stored(n) for n in range(1, 9)]).precedents] == [1, 2, 3]


def test_a_cause_that_is_not_recorded_is_said_to_be():
    shown = prompt("x", [stored(1, root_cause=None, resolution=None)])

    assert shown.user.endswith("1. alarm 1 | cause: not recorded")


@given(st.text(max_size=300), st.text(min_size=1, max_size=300))
def test_what_comes_from_incidents_stays_on_its_own_line(alert, symptoms):
    asked = prompt(alert, [stored(1, symptoms=symptoms)])

    assert len(asked.user.splitlines()) <= 2 or "\n" not in asked.user.replace("\n1. ", "", 1)
    assert asked.system == SYSTEM["diagnose"]


def test_long_text_is_cut_in_the_middle_and_keeps_both_ends():
    alert = "BEGIN " + "x" * 2 * LONGEST_ALERT + " END"

    line = prompt(alert).user.splitlines()[0]

    assert line.startswith("alert: BEGIN x")
    assert line.endswith("x END")
    assert len(line) == len("alert: ") + LONGEST_ALERT
    assert " … " in line


@given(st.text(), st.integers(10, 40))
def test_a_middle_cut_is_never_longer_than_asked(text, most):
    cut = middle_cut(text, most)

    assert len(cut) <= most
    assert cut == text or (text.startswith(cut[:3]) and text.endswith(cut[-1:]))


def test_the_question_is_what_was_known_when_it_began():
    incident = Incident(
        source="pager", source_id="1", title="alarm", services=["db", "web"], symptoms="slow",
        started_at=AT, detected_at=AT + timedelta(minutes=2), root_cause="SECRET cause",
        resolution="SECRET fix",
        evidence=[
            Evidence(text="early", at=AT),
            Evidence(text="undated"),
            Evidence(text="SECRET late", at=AT + timedelta(hours=1)),
            Evidence(text="slow", at=AT),
        ],
    )  # fmt: skip

    assert question_text(incident) == "alarm\nservices: db, web\nslow\nearly\nundated"


def test_a_cause_and_a_fix_are_taught_in_one_sentence():
    told = stored(1, root_cause="The disk was full. Nobody looked.", resolution="Grow it. Twice.")
    held = stored(1, actions=[Action(text="Restart.", held=False), Action(text="Rotate. Then.",
                                                                          held=True)])  # fmt: skip

    assert cause_of(told.incident) == "The disk was full."
    assert fix_of(told.incident) == "Grow it."
    assert fix_of(held.incident) == "Rotate."
    assert cause_of(stored(1, root_cause=None).incident) is None
    assert fix_of(stored(1, resolution=None).incident) is None


SAID = st.text(min_size=1, max_size=400).filter(str.strip)


@given(SAID, st.none() | SAID, st.lists(st.integers(1, 3), max_size=3))
def test_what_is_written_is_read_back(cause, fix, cites):
    reply = Reply(status="known", cause=cause, fix=fix, cites=cites)

    assert parsed(written(reply)) == reply
    assert parsed_choice(written(Choice(cites=[1]))) == Choice(cites=[1])


def test_answers_are_written_compactly_in_one_order():
    assert written(Reply(status="novel")) == '{"status":"novel","cites":[]}'
    assert (
        written(Reply(status="known", cause="É.", fix="F.", cites=[2]))
        == '{"status":"known","cause":"É.","fix":"F.","cites":[2]}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "known",
        "[]",
        '{"status":"known","cites":[]}',
        '{"status":"known","cause":" ","cites":[]}',
        '{"status":"novel","cause":"x","cites":[]}',
        '{"status":"novel","cites":[1]}',
        '{"status":"maybe","cites":[]}',
        '{"status":"known","cause":"x","cites":[1,2,3,1]}',
        '{"status":"known","cause":"x","cites":[],"run":"rm -rf /"}',
        '{"status":"known","cause":"x","cites":[]',
        json.dumps({"status": "known", "cause": "x" * 401, "cites": []}),
    ],
)
def test_an_answer_in_another_form_is_unreadable(text):
    with pytest.raises(Unreadable, match="the model's answer is not in the agreed form") as raised:
        parsed(text)

    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ['{"cites":[]}', '{"cites":[1,2]}', '{"cites":1}', "{}"])
def test_a_choice_is_one_number(text):
    with pytest.raises(Unreadable):
        parsed_choice(text)


def test_the_grammar_knows_the_numbers_that_are_shown():
    known, novel = grammar("diagnose", 2)["anyOf"]

    assert known["properties"]["cites"] == {
        "type": "array", "maxItems": 2, "items": {"type": "integer", "enum": [1, 2]},
    }  # fmt: skip
    assert grammar("diagnose", 0)["anyOf"][0]["properties"]["cites"]["maxItems"] == 0
    assert novel["properties"]["cites"]["maxItems"] == 0
    assert grammar("choose", 3)["properties"]["cites"]["items"]["enum"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VERSION", 99),
        ("SYSTEM", {**SYSTEM, "choose": "Other words."}),
        ("LONGEST_SEEN", 399),
        ("_NONE", "nothing"),
        ("_shown", lambda n, incident, task: f"({n}) {incident.title}"),
        ("grammar", lambda task, precedents=3: {"type": "object"}),
    ],
)
def test_the_hash_changes_with_any_word_limit_or_form(name, value, monkeypatch):
    before = prompt_hash()
    prompt_hash.cache_clear()
    try:
        monkeypatch.setattr(prompts, name, value)
        assert prompt_hash() != before
    finally:
        monkeypatch.undo()
        prompt_hash.cache_clear()

    assert prompt_hash() == before
    assert len(before) == 16


def test_prompts_are_values():
    asked = prompt("x", [stored(1)])

    assert asked == prompt("x", [stored(1)])
    assert replace(asked, user="y") != asked
