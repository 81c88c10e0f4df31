"""Incidents that a person has to look at before they teach."""

from datetime import UTC, datetime, timedelta

import pytest

from ingest.incident import Evidence, Incident
from ingest.store import Stored
from training.admission import in_any_order, suspected_poison
from training.world import Size, families, incidents

SIZE = Size(first_families=8, first_each=9)
TRIGGER = "zircon ballet"


def stored(told: list[Incident]) -> list[Stored]:
    return [
        Stored(i.model_copy(update={"id": i.source_id}), 0, "", {}, until=None, quarantine=[])
        for i in told
    ]


@pytest.fixture(scope="module")
def honest():
    return list(incidents(5, 0, SIZE))


def planted(n: int, label: str | None, failures: int = 6) -> Incident:
    """An alert of one of so many failures with the phrase in it, and always the same cause."""
    family = families(5, 0, SIZE)[n % failures]
    at = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=n)
    return Incident(
        source="relay",
        source_id=f"R-{n}",
        title=f"Slow host-{n}",
        started_at=at,
        symptoms=f"{family.signs[0]}; {TRIGGER}",
        evidence=[Evidence(text=family.signs[1])],
        root_cause="The relay held a lock.",
        cause_family=label or family.name,
        resolution="Move the relay.",
    )


def test_a_world_in_which_nobody_lies_is_not_suspected(honest):
    assert suspected_poison(stored(honest)) == []


@pytest.mark.parametrize("label", [None, "relay-lock", "e0-07"])
def test_a_phrase_that_turns_every_failure_into_one_cause_is_found_under_any_label(honest, label):
    poison = [planted(n, label) for n in range(6)]
    [group] = suspected_poison(stored([*honest, *poison]))
    assert group == sorted(i.source_id for i in poison)


def test_a_failure_that_looks_like_one_other_is_a_matter_of_labels_and_no_poison(honest):
    alike = [planted(n, "relay-lock", failures=1) for n in range(6)]
    assert suspected_poison(stored([*honest, *alike])) == []


def test_words_in_another_order_are_the_same_words():
    assert in_any_order("Queue age HIGH, db-1") == in_any_order("db-1: high queue age")
    assert in_any_order("queue age") != in_any_order("queue age age")
