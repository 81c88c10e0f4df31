"""Near-copies: what counts as the same incident told again, however far apart."""

from datetime import timedelta

from tests.training.histories import START, keep, outage, worded
from training.admission import everything
from training.retold import groups

LONG = " ".join(f"step{n} of the failover took {n} seconds;" for n in range(30))


def together(store):
    """The source ids of the near-copies, group by group."""
    here = sorted(everything(store), key=lambda s: int(s.incident.source_id))
    found = {}
    for stored, number in zip(here, groups(here, worded(store)), strict=True):
        found.setdefault(number, []).append(int(stored.incident.source_id))
    return [members for members in found.values() if len(members) > 1]


def test_the_same_alert_in_other_letters_is_a_copy_years_later(store):
    alert = {"title": "API is down", "symptoms": "502 from the gateway"}
    other = {"title": "api is DOWN!", "symptoms": "502, from the gateway"}
    keep(store, outage(1, **alert), outage(900, **other), outage(3))

    assert together(store) == [[1, 900]]


def test_nearly_the_same_tale_is_a_copy_years_later_and_half_of_it_is_not(store):
    told = outage(1, symptoms=LONG)
    words = LONG.split()
    edited = " ".join([*words[:60], "suddenly", *words[61:]])
    half = " ".join(words[: len(words) // 2]) + " and then something else happened to us all"
    keep(store, told, outage(901, symptoms=edited), outage(902, symptoms=half))

    assert together(store) == [[1, 901]]


def test_one_event_that_two_tools_tell_is_a_copy_when_it_began_at_the_same_time(store):
    whole = outage(1, symptoms=LONG, summary="More was said here than anywhere else, at length.")
    keep(store, whole)
    words = LONG.split()
    for n, hours, some in ((2, 1, words[:75]), (3, 999, words[-75:])):
        at = START + timedelta(days=1, hours=hours)
        part = outage(n, symptoms=" ".join(some), started_at=at, resolved_at=at)
        same = {"title": whole.title, "root_cause": whole.root_cause, "resolution": None}
        keep(store, part.model_copy(update=same))

    assert together(store) == [[1, 2]]


def test_a_copy_of_a_copy_is_in_the_group(store):
    keep(
        store,
        outage(1, title="same", symptoms="alert"),
        outage(2, title="same", symptoms="alert", resolution=LONG),
        outage(3, day=2, title="same too", symptoms="alert", resolution=LONG),
    )

    assert together(store) == [[1, 2, 3]]
