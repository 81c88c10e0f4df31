"""Postmortems in Markdown."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.file import File
from ingest.importer import find, read
from ingest.incident import Action, Incident, Update
from ingest.refusal import Refusal
from ingest.sources import markdown

DEV = Path(__file__).parents[4] / "shared" / "data" / "dev"

WITH_FRONT_MATTER = """\
---
id: PM-7
title: Queue workers stuck
date: 2024-03-05 08:00
resolvedWhen: 2024-03-05T09:30:00+01:00
severity: SEV-2
affected: [queue, mailer]
tags:
  - capacity
  - queue
author: somebody
---

## Summary

Mails were an hour late.

## Impact
Nobody got a password mail.

## Root Cause

A poison message was retried for ever.

```
# Resolution
```

### Trigger

A deploy at noon.

## Mitigation

The message was dropped.

## Actions taken

- Paused the queue
- Dropped one message

## Lessons learned

Retries need a limit.

### Mitigation

A dead-letter queue would have helped.

## Action Items

- [ ] Limit retries

<!-- Delete this line. -->

## Follow-ups

TBD
"""


def test_front_matter_and_sections_become_the_fields_of_an_incident(read_text):
    [incident] = read_text("queue.md", WITH_FRONT_MATTER)

    assert incident == Incident(
        source="markdown",
        source_id="PM-7",
        title="Queue workers stuck",
        summary="Mails were an hour late.",
        services=["queue", "mailer"],
        severity="SEV-2",
        status="resolved",
        started_at=datetime(2024, 3, 5, 8, tzinfo=UTC),
        resolved_at=datetime(2024, 3, 5, 8, 30, tzinfo=UTC),
        symptoms="Nobody got a password mail.",
        root_cause="Root Cause\nA poison message was retried for ever.\n\n"
        "```\n# Resolution\n```\n\nTrigger\nA deploy at noon.",
        resolution="The message was dropped.",
        actions=[Action(text="Paused the queue"), Action(text="Dropped one message")],
        lessons="Lessons learned\nRetries need a limit.\n\n### Mitigation\n\n"
        "A dead-letter queue would have helped.\n\nAction Items\n- [ ] Limit retries",
        labels={"tags": "capacity; queue"},
    )


def test_a_page_without_front_matter_is_read_by_its_headings(read_text, tmp_path):
    page = """\
# Postmortem: cache stampede

**Severity:** high
**Services:** cache, web
**Date:** 12 March 2024
**Owner:** the web team

It was loud.

Timeline
--------

All times in CET.

| Time | Event |
| :--- | :---- |
| 2024-03-12 23:50 | Cache nodes rebooted |
| 00:10 - 00:20 | Database at its limit |

## 2. Contributing factors (so far)

Cold caches.

## Something else

Worth knowing.

# Stats

- Time to recovery: 20 minutes
- Time to detection: ?
"""

    [incident] = read_text("stampede.md", page)

    assert incident == Incident(
        source="markdown",
        source_id=f"{tmp_path.name}/stampede.md",
        title="Postmortem: cache stampede",
        summary="It was loud.\n\nSomething else\nWorth knowing.",
        services=["cache", "web"],
        severity="high",
        status="resolved",
        started_at=datetime(2024, 3, 12, tzinfo=UTC),
        updates=[
            Update(text="Cache nodes rebooted", at=datetime(2024, 3, 12, 22, 50, tzinfo=UTC)),
            Update(text="Database at its limit", at=datetime(2024, 3, 12, 23, 10, tzinfo=UTC)),
        ],
        root_cause="Cold caches.",
        labels={"time_to_recovery": "20 minutes"},
    )


def test_dated_paragraphs_of_a_status_page_are_its_updates(read_text):
    page = """\
---
title: Login broken
resolved: false
severity: down
---
**2024-01-02 10:30:00**

We found it.

**2024-01-02 10:00:00**

Login is broken.
"""

    [incident] = read_text("2024-01-02-login.md", page)

    assert incident.status == "open"
    assert incident.started_at == datetime(2024, 1, 2, 10, tzinfo=UTC)
    assert incident.updates == [
        Update(text="We found it.", at=datetime(2024, 1, 2, 10, 30, tzinfo=UTC)),
        Update(text="Login is broken.", at=datetime(2024, 1, 2, 10, tzinfo=UTC)),
    ]


def test_a_timeline_without_times_is_not_lost(read_text):
    [incident] = read_text(
        "a.md", "# A\n\n## Timeline\n\nFirst slow, then dead.\n\n## Impact\nAll\n"
    )

    assert incident.summary == "First slow, then dead."


def test_the_day_in_the_file_name_and_the_name_itself_serve_where_nothing_else_is(read_text):
    [incident] = read_text("2024-05-06-disk_full.md", "No heading at all.\n", kind="markdown")

    assert incident.title == "disk full"
    assert incident.started_at == datetime(2024, 5, 6, tzinfo=UTC)
    assert incident.summary == "No heading at all."


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("---\ntitle: a\ndate: someday\n---\n", "3: date: expected a time such as "
         "2026-03-01T10:00:00Z, got 'someday'"),
        ("---\ntitle: a\ntitle: b\n---\n", "3: 'title' is there twice; keep one of them"),
        ("---\ntitle: [a\nb: c\n---\n", "3: the front matter is not YAML: expected ',' or ']', "
         "but got ':'"),
        ("---\n- a\n- b\n---\n", "2: the front matter is not a list of `key: value`"),
        ("---\ntitle: a\nstarted: 2024-01-02\nresolvedWhen: 2024-01-01\n---\n",
         "4: resolvedwhen: 2024-01-01T00:00:00+00:00 is before started_at "
         "2024-01-02T00:00:00+00:00; correct one of them, or leave resolved_at out"),
        ("---\ntitle: a\nstatus: unsure\n---\n", "3: status: expected one of 'open', "
         "'acknowledged', 'mitigated' or 'resolved', got 'unsure'"),
        ("\n", " empty: there is no incident in it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_the_line_and_the_key(read_text, page, told):
    assert [str(r) for r in read_text("a.md", page, kind="markdown")] == [f"a.md:{told}"]


def test_front_matter_is_text_as_written(read_text):
    page = "---\nid: 007\ntitle: 1e3\nseverity: no\nservices: a, b\nurl: ~\n---\nBody\n"

    [incident] = read_text("a.md", page)

    assert (incident.source_id, incident.title, incident.severity) == ("007", "1e3", "no")
    assert (incident.services, incident.url) == (["a", "b"], None)


def test_other_markdown_in_a_folder_is_passed_over(tmp_path):
    tmp_path.joinpath("README.md").write_text("# Tool\n\n## Usage\n\n## Background\n\nText\n")
    tmp_path.joinpath("post.md").write_text("---\ntitle: Hello\ndate: 2024-01-01\n---\nA post.\n")
    tmp_path.joinpath("down.md").write_text("# Down\n\n## Impact\nx\n\n## Root cause\ny\n")

    found, left_out = find([str(tmp_path)])

    assert [file.path.name for file in found] == ["down.md"]
    assert [(Path(r.path).name, r.skipped) for r in left_out] == [
        ("README.md", True),
        ("post.md", True),
    ]


@pytest.mark.parametrize(
    "page",
    [
        "<!--" * 100_000 + "\n## Impact\nx",
        "# " + " " * 200_000 + "x\n",
        "|" + " -" * 100_000 + "\n",
        "- " * 100_000,
        "[" * 200_000 + "\n===\n",
        "---\na: " + "[" * 16_000 + "\n---\n",
        "---\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 999)) + "---\n",
        "## Timeline\n" + "- 10:00 a\n" * 3000,
    ],
    ids=["comments", "blanks", "rule", "bullets", "brackets", "nested", "aliases", "long"],
)
def test_a_hostile_page_is_read_or_refused_in_linear_time(read_text, page):
    [record] = read_text("a.md", page, kind="markdown")

    assert isinstance(record, (Incident, Refusal))


def test_the_public_postmortems_go_in_but_for_two_that_end_before_they_start():
    if not DEV.is_dir():
        pytest.skip("the public exports (shared/data/dev) are not beside this checkout")

    found, _ = find(
        [str(DEV / "exports" / "markdown_postmortems"), str(DEV / "exports" / "cstate")]
    )
    records = [record for file in found for record in read(file)]

    refused = [record for record in records if isinstance(record, Refusal)]
    assert {file.kind for file in found} == {"markdown"}
    assert (len(records), len(refused)) == (63, 2)
    assert all("is before started_at" in refusal.why for refusal in refused)


fragments = st.sampled_from(
    [
        "---", "...", "title: a", "date: 2024-01-01", "date: 99", "resolved: true", "services:",
        "  - x", "# A", "## Timeline", "## Root cause", "**Impact**", "| a | b |", "|---|---|",
        "| 10:00 | x |", "- 10:00 CET - y", "```", "~~~", "<!--", "-->", "===", "\t", "> q",
        "**2024-01-01 10:00**", "Severity: high", "- 2024-13-01 x", "a: &b [*b]", "%YAML 9", "\0",
        "\u2028", "- 9999-12-31 23:59 -0900 z", "99:99", "!!python/object:os.system x",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(
    content=st.binary(max_size=200)
    | st.lists(fragments | st.text(max_size=12), max_size=14).map(
        lambda parts: "\n".join(parts).encode("utf-8", "replace")
    )
)
def test_whatever_the_page_only_incidents_and_refusals_come_out(tmp_path_factory, content):
    path = Path(tmp_path_factory.getbasetemp(), "fuzz.md")
    path.write_bytes(content)

    markdown.sniff(path, content.decode(errors="replace"))
    [record] = markdown.read(File(path, "fuzz.md"))

    assert isinstance(record, (Incident, Refusal))
