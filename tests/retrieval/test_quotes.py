"""Sentences as they stand: split where a reader would, and always a span of the text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.incident import Incident
from retrieval.quotes import LONGEST_QUOTE, clipped, fields, sentences, stems

REPORT = """## Root cause
The pool was exhausted, e.g. by slow queries at approx. 300 req/s. See https://x.example/a.b?c=1.
It took Dr. No 5 min. to find out! "Really?" asked the team.

- First item. With two sentences.
- A second item
  that is wrapped
1. Restarted db-3
> **Impact:** v1.2.3 was bad at 10:00 a.m. PST.
| time | event |
| --- | --- |
2030-01-01T00:00:00Z ERROR pool.Manager: gave up. Retrying. Bye
A paragraph whose first line is so long that it was wrapped by the editor
Into a second one. Next steps:
"""


def test_a_report_is_split_where_a_reader_would_split_it():
    assert sentences(REPORT) == [
        "The pool was exhausted, e.g. by slow queries at approx. 300 req/s.",
        "See https://x.example/a.b?c=1.",
        "It took Dr. No 5 min. to find out!",
        '"Really?" asked the team.',
        "First item.",
        "With two sentences.",
        "A second item\n  that is wrapped",
        "Restarted db-3",
        "v1.2.3 was bad at 10:00 a.m. PST.",
        "time | event",
        "2030-01-01T00:00:00Z ERROR pool.Manager: gave up. Retrying. Bye",
        "A paragraph whose first line is so long that it was wrapped by the editor\n"
        "Into a second one.",
        "Next steps:",
    ]


def test_a_phrase_in_brackets_is_not_split():
    text = "It holds a lock (SELECT ... FOR UPDATE) while it calls out. Then (as ever) it waits."

    assert sentences(text) == [
        "It holds a lock (SELECT ... FOR UPDATE) while it calls out.",
        "Then (as ever) it waits.",
    ]


@pytest.mark.parametrize("text", ["", " \n\t\n", "...", "## Heading", "---", "**Timeline**"])
def test_what_says_nothing_has_no_sentence(text):
    assert [s for s in sentences(text) if any(c.isalnum() for c in s)] == []


def test_sentences_without_blanks_between_them_are_split_too():
    assert sentences("磁盘已满。服务恢复了！") == ["磁盘已满。", "服务恢复了！"]


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet=st.sampled_from("aB1 .!?\n\t-*#|`>:。é"), max_size=120))
def test_every_sentence_is_a_span_of_the_text_in_its_order(text):
    at = 0

    for sentence in sentences(text):
        assert sentence == sentence.strip()
        at = text.index(sentence, at) + len(sentence)


def test_a_long_sentence_is_cut_where_a_clause_ends():
    long = "The first clause says it, " * 10 + "and then " + "it goes on " * 40

    cut = clipped(long)

    assert len(cut) <= LONGEST_QUOTE
    assert long.startswith(cut)
    assert cut.endswith("says it")


def test_forms_of_a_word_share_a_stem():
    assert stems("Restarting the connections") == stems("restarted a connection")


def test_fields_come_in_the_order_asked_for_and_absent_ones_not_at_all():
    incident = Incident(
        source="pager", source_id="A", title="t", updates=[{"text": "u0"}, {"text": "u1"}]
    )

    found = list(fields(incident, ("updates", "root_cause", "title")))

    assert found == [("updates[0].text", "u0"), ("updates[1].text", "u1"), ("title", "t")]
