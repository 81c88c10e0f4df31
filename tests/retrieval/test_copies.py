"""One event told several times is one hit; a sentence used for two events is not."""

import json
import math
import random
from collections import defaultdict
from datetime import datetime
from itertools import combinations
from pathlib import Path

import pytest

from retrieval.copies import KEPT, fold, same_event, sketch

PUBLIC = Path(__file__).parents[3] / "shared" / "data" / "dev"
HOUR, DAY = 3600.0, 86400.0
POST = (
    "Delayed webhooks. We are investigating delays of outgoing webhooks for some customers in "
    "Europe. The queue is draining and deliveries will catch up within the hour."
)
BOILERPLATE = "Elevated errors. We are investigating elevated errors."


def prose(seed, length):
    rng = random.Random(seed)
    return " ".join(rng.choices([f"word{n}" for n in range(800)], k=length))


def same(one, other, apart=0.0):
    return same_event(sketch(one), sketch(other), 1e9, 1e9 + apart)


def test_a_post_on_two_pages_at_once_is_one_event_also_when_one_page_holds_more_updates():
    assert same(POST, POST, apart=HOUR)
    assert same(POST, f"{POST} {prose(1, 60)}", apart=HOUR)
    assert same(POST.upper().replace(" ", "\n"), POST)


def test_the_same_short_text_on_another_day_is_another_event():
    assert not same(BOILERPLATE, BOILERPLATE, apart=26 * HOUR)
    assert not same(POST, POST, apart=26 * HOUR)
    assert same(BOILERPLATE, BOILERPLATE, apart=HOUR / 2)


def test_a_long_report_is_one_event_though_an_archive_has_the_day_wrong():
    report = prose(2, 300)

    assert same(report, f"Summary. {report}", apart=30 * HOUR)
    assert not same(report, report, apart=3 * DAY)


def test_two_texts_that_share_a_part_are_two_events():
    shared = prose(3, 40)

    assert not same(f"{shared} {prose(4, 40)}", f"{shared} {prose(5, 40)}")
    assert not same("Elevated errors in Europe", "Elevated errors in Asia")
    assert not same(BOILERPLATE, f"{BOILERPLATE} {POST}")
    assert not same("", "")


def test_without_a_time_nothing_is_a_copy():
    assert not same_event(sketch(POST), sketch(POST), math.nan, 1e9)
    assert not same_event(sketch(POST), sketch(POST), math.nan, math.nan)


@pytest.mark.parametrize("length", [600, 3_000, 20_000])
def test_texts_longer_than_a_sketch_are_told_apart_by_their_sample(length):
    text = prose(6, length)
    edited = text.split()
    for n in range(0, length, 60):  # one run in twelve changed
        edited[n] = "edited"

    assert len(sketch(text).hashes) == KEPT
    assert same(text, " ".join(edited))
    assert same(text[: len(text) // 2], text)
    assert not same(text, prose(7, length))


def test_a_row_folds_into_the_first_it_is_a_copy_of_and_the_order_stays():
    other = prose(8, 50)
    texts = [other, POST, BOILERPLATE, f"{POST} Resolved.", other]
    started = [0.0, 0.0, 0.0, HOUR, DAY]

    groups = fold([3, 0, 1, 4, 2], [sketch(t) for t in texts], started.__getitem__)

    assert groups == [[3, 1], [0], [4], [2]]


def test_posts_that_operators_made_on_several_pages_are_recognised():
    if not PUBLIC.exists():
        pytest.skip(f"no public incidents to compare on: {PUBLIC} is not there")
    with (PUBLIC / "incidents.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    told = {r["id"]: (sketch(_told(r)), _seconds(r)) for r in records}
    groups = defaultdict(list)
    for record in records:
        groups[record["dup_group"]].append(record["id"])
    groups.pop(None)

    def recognised(pairs):
        hits = [same_event(told[a][0], told[b][0], told[a][1], told[b][1]) for a, b in pairs]
        return sum(hits) / len(hits)

    with (PUBLIC / "same_incident_pairs.jsonl").open(encoding="utf-8") as lines:
        archived = [(p["a"], p["b"]) for p in map(json.loads, lines)]

    assert recognised([p for ids in groups.values() for p in combinations(ids, 2)]) > 0.95
    assert recognised(archived) > 0.9


def _told(record):
    parts = [record["title"], record["symptoms"], *(u["text"] for u in record["updates"])]
    parts += [record["root_cause"], record["resolution"], record["lessons"]]
    return "\n".join(part for part in parts if part)


def _seconds(record):
    at = record["started_at"]
    return datetime.fromisoformat(at).timestamp() if at else math.nan
