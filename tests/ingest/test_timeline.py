"""Timelines in tables and lists."""

from datetime import UTC, datetime

from ingest.timeline import Entry, entries

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def at(hour: int, minute: int, day: int = 1) -> datetime:
    return datetime(2024, 5, day, hour, minute, tzinfo=UTC)


def test_a_table_gives_an_entry_for_each_row_and_knows_who():
    text = """\
| Date | Time (CEST) | Who | What |
|------|-------------|-----|------|
| 2024-05-01 | 10:00 | on call | Paged |
| 2024-05-01 | soon after | | Looked at \\| pipes |
"""

    assert entries(text) == [
        Entry("Paged", at(8, 0), "on call"),
        Entry("soon after | Looked at \\| pipes", datetime(2024, 4, 30, 22, 0, tzinfo=UTC)),
    ]


def test_a_list_of_clock_times_runs_over_midnight():
    text = "- 22:10 - Slow\n- **23:50 UTC**: Slower\n  - worse in eu-1\n- [00:20] Over\n"

    assert entries(text, day=DAY) == [
        Entry("Slow", at(22, 10)),
        Entry("Slower\n  - worse in eu-1", at(23, 50)),
        Entry("Over", at(0, 20, day=2)),
    ]


def test_clock_times_without_a_day_stay_in_the_text():
    assert entries("- 22:10 - Slow\n") == [Entry("22:10 - Slow")]


def test_a_clock_time_of_a_place_is_not_taken_for_utc():
    text = "- 22:10 Denver - Slow\n- 22:20 Slow again\n"

    assert entries(text, day=DAY) == [
        Entry("22:10 Denver - Slow"),
        Entry("Slow again", at(22, 20)),
    ]


def test_lines_that_begin_with_a_time_need_no_bullet():
    text = "It went like this.\n\n10:00 Slow\nand slower\n10:30 Over\n"

    assert entries(text, day=DAY) == [
        Entry("Slow\nand slower", at(10, 0)),
        Entry("Over", at(10, 30)),
    ]


def test_prose_is_no_timeline():
    assert entries("First it was slow, then it was dead.\n", day=DAY) == []
