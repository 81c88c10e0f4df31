"""What the console says and how it looks: times, what changed, and colours that can be read."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from ingest.incident import Incident
from serving.console import wording
from serving.console.pages import static_file
from serving.console.revisions import Revision, Span, revisions
from tests.serving.conftest import incident


def test_a_revision_shows_the_words_that_went_and_came():
    before = Incident(**incident(severity="low"))
    after = Incident(**incident(root_cause="A release doubled the pool size of every basket pod."))

    changed = revisions(before, after)

    assert changed == [
        Revision("severity", [Span("gone", "low")]),
        Revision(
            "root_cause",
            [
                Span("same", "A "),
                Span("gone", "deploy"),
                Span("new", "release"),
                Span("same", " doubled the pool size of every "),
                Span("gone", "checkout"),
                Span("new", "basket"),
                Span("same", " pod."),
            ],
        ),
    ]


def test_a_revision_of_a_very_long_field_is_compared_by_lines():
    lines = [f"line {n} of a long log" for n in range(1000)]
    edited = [*lines[:500], "another line", *lines[501:]]
    before, after = (Incident(**incident(summary="\n".join(text))) for text in (lines, edited))

    [changed] = revisions(before, after)

    told = [s for s in changed.spans if s.kind != "same"]
    assert told == [Span("gone", "line 500 of a long log\n"), Span("new", "another line\n")]
    assert sum(len(s.text) for s in changed.spans) < 1000


def test_times_are_said_as_people_say_them():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    ages = [
        wording.age(now - timedelta(**by), now)
        for by in ({"seconds": 9}, {"hours": 30}, {"days": 700})
    ]

    assert ages == ["just now", "30 hours ago", "22 months ago"]
    assert wording.lasted(now, now + timedelta(hours=29, minutes=1)) == "1 d 5 h"
    assert wording.moment("2030-01-01T01:00:00+01:00") == "1 Jan 2030 00:00 UTC"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(scheme):
    light, dark = re.findall(r":root \{(.*?)\}", static_file("console.css").decode(), re.S)
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", light if scheme == "light" else dark))

    pairs = [(text, ground) for text in ("ink", "quiet", "link") for ground in ("paper", "panel")]
    pairs += [
        (kind, ground)
        for kind in ("good", "warn", "bad")
        for ground in (f"{kind}-bg", "paper", "panel")
    ]
    pairs += [
        ("on-main", "main"),
        ("on-mark", "mark"),
        ("link", "link-bg"),
        ("ink", "link-bg"),
        ("quiet", "link-bg"),
    ]
    faint = {p: round(contrast(*(colours[c] for c in p)), 2) for p in pairs}

    assert {p: c for p, c in faint.items() if c < 4.5} == {}  # WCAG 2.2 AA
    assert contrast(colours["line-strong"], colours["paper"]) >= 3
    assert contrast(colours["focus"], colours["paper"]) >= 3


def contrast(one, other):
    """The contrast ratio of two colours, as WCAG 2.2 defines it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
