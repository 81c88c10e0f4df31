"""Times as people and tools write them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.moments import leading_moment, order_of, read_moment


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-03-01", "2024-03-01T00:00"),
        ("2024-03-01T10:00:00Z", "2024-03-01T10:00"),
        ("2024-03-01 10:00:00.5+02:00", "2024-03-01T08:00:00.500000"),
        ("2024-03-01T10:00:00.123456789Z", "2024-03-01T10:00:00.123456"),
        ("2024-03-01 10:00:00.1 +0000 UTC", "2024-03-01T10:00:00.100000"),
        ("29-02-2016 01:16", "2016-02-29T01:16"),
        ("3/25/21 4:10 PM", "2021-03-25T16:10"),
        ("25/Mar/21 12:10 AM", "2021-03-25T00:10"),
        ("12 Mar 2021", "2021-03-12T00:00"),
        ("March 12th, 2021 at 16:00 UTC", "2021-03-12T16:00"),
        ("Fri, 12 Mar 2021 10:00:00 GMT", "2021-03-12T10:00"),
        ("2021-03-12 10:00 CET", "2021-03-12T09:00"),
        ("1709991285", "2024-03-09T13:34:45"),
        ("1709991285873", "2024-03-09T13:34:45"),
    ],
)
def test_common_ways_to_write_a_time_are_read(written, meant):
    assert read_moment(written) == datetime.fromisoformat(meant).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "written",
    [
        "yesterday", "", "10:00", "03/04/2021", "2021-13-01", "2021-02-30", "2021-01-01 25:00",
        "2021-01-01 10:00 IST", "2021-01-01 13:00 PM", "0001-01-01T00:00:00Z", "20202-01-16",
        "2021-01-01T10:00+99:99", "5 Foo 2021", "2021-01-01 10:00 or so",
    ],
)  # fmt: skip
def test_what_is_no_time_or_might_be_another_is_not_read(written):
    assert read_moment(written) is None


def test_the_order_of_a_column_settles_its_ambiguous_dates():
    order = order_of(["03/04/2021", "25/04/2021"])

    assert order == "day first"
    assert read_moment("03/04/2021", order=order) == datetime(2021, 4, 3, tzinfo=UTC)
    assert order_of(["03/04/2021"]) is order_of(["25/04/2021", "04/25/2021"]) is None


def test_a_time_that_no_zone_is_clear_for_does_not_swallow_the_words_behind_it():
    stamp = leading_moment("10:05 DNS answers again", day=datetime(2024, 1, 1, tzinfo=UTC))

    assert stamp is not None
    assert (stamp.at, stamp.rest) == (datetime(2024, 1, 1, 10, 5, tzinfo=UTC), "DNS answers again")


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda at: at.year > 1900))
def test_every_iso_time_is_read_as_the_standard_library_reads_it(at):
    assert read_moment(at.isoformat()) == at


@given(st.text("0123456789-/.: TZAPM+CET,", max_size=30) | st.text(max_size=20))
def test_whatever_the_text_the_answer_is_a_time_in_utc_or_none(text):
    at = read_moment(text)

    assert at is None or at.tzinfo is UTC
