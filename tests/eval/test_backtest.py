"""A replayed history: only what was known is used, and only what is known is scored."""

import hashlib
import json
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import pytest

from eval.backtest import Voice, chosen
from eval.backtest_page import About, lead, page
from eval.backtest_scores import figures
from eval.precedents import Precedents, families_of
from ingest.errors import Refused
from ingest.feedback import Feedback, give
from ingest.store import Store
from retrieval.prompt import Reply, question_text
from retrieval.search import Question, search
from tests import chromium
from tests.eval.frozen import index_of
from tests.eval.history import DISK, DNS, JANUARY, POOL, incident, replayed, store_with, year
from tests.serving.browser import Seen
from training.world import Size, incidents

ABOUT = About(
    command="scarwise backtest", version="0", at=JANUARY, incidents=9, versions=9, revision=9,
    embedder=None, label=None, model="No model is champion here.",
)  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = store_with(tmp_path_factory.mktemp("year"), year())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def cases(store):
    return replayed(store)


def page_of(cases):
    return page(figures(list(cases.values())), ABOUT)


def test_what_was_seen_what_was_new_and_what_nobody_can_say_are_told_apart(cases):
    told = {name: (case.rule, case.seen) for name, case in cases.items()}

    assert told == {
        "pool-1": ("family", False), "disk-1": ("family", False), "pool-2": ("family", True),
        "disk-2": ("family", True), "dns-1": ("family", False), "odd-1": (None, None),
        "odd-2": ("recurrence", True), "pool-3": ("family", True), "pool-4": ("family", True),
    }  # fmt: skip


def test_a_cause_that_had_been_seen_is_quoted_and_judged_by_its_family(cases):
    right, wrong = cases["pool-2"].said, cases["pool-3"].said

    assert (right.status, right.right, right.cited_families) == ("known", True, (POOL,))
    assert (wrong.status, wrong.right, wrong.cited_families) == ("known", False, (DISK,))
    assert wrong.cause == "Log rotation had been switched off on the host."


def test_what_is_new_is_called_so_and_nothing_is_claimed_of_it(cases):
    said = cases["dns-1"].said

    assert (said.status, said.cause, said.right) == ("novel", None, None)


def test_each_ranking_is_the_one_that_a_search_as_of_then_gives(tmp_path):
    store = store_with(tmp_path, list(incidents(7, 0, Size(6, 12, 2, 12))))
    index = index_of(store)
    precedents = Precedents(store, index)
    asked = chosen(precedents)
    found = replayed(store)

    for known in asked[:: max(1, len(asked) // 25)]:
        now = store.get(known.incident_id).incident
        question = Question(question_text(now), as_of=known.started_at, limit=10)
        hits = search(question, index, query_id="").hits
        same = [any(s.incident.cause_family == now.cause_family for s in (h.stored, *h.copies))
                for h in hits]  # fmt: skip
        place = same.index(True) + 1 if True in same else None
        case = found[now.source_id]
        assert case.places.get("scarwise") == (place if case.seen else None)
        assert case.memory == len(store.page(limit=500, as_of=known.started_at))
    store.close()


def test_nothing_that_came_later_changes_an_answer(store, cases, tmp_path):
    other = store_with(tmp_path, year())
    last = other.find("pager", "pool-4")
    later = [
        incident("pool-9", 300, POOL),
        incident("dns-9", 301, DNS, root_cause="Something else entirely."),
        # An edit, known when it is made: what the source says of it now.
        incident("dns-1", 30, DNS, symptoms="FATAL: sorry, too many clients already"),
        incident("disk-1", 5, DISK, root_cause="Somebody filled it by hand."),
    ]
    other.put(later, actor="tests")
    with other.transaction("tests") as writing:
        give(writing, Feedback(incident_id=last.incident.id, verdict="wrong"))
    again = replayed(other)
    other.close()

    # The edits change by what it is judged today, not what was asked, found and answered.
    answered = {"asked_as_of", "memory", "precedents", "seen", "places", "said"}
    for name, case in cases.items():
        assert again[name].model_dump(include=answered) == case.model_dump(include=answered)
    assert again["disk-1"].cause == "Somebody filled it by hand."


def test_an_incident_that_was_on_record_before_it_began_does_not_find_itself(tmp_path):
    early = incident("early", 50, POOL, known_at=JANUARY + timedelta(days=40))
    store = store_with(tmp_path, [incident("pool-1", 1, POOL), early])
    case = replayed(store)["early"]
    store.close()

    assert case.asked_as_of == JANUARY + timedelta(days=40)
    assert (case.memory, case.precedents) == (1, 1)
    assert case.said.cited_title == "orders-db refuses connections, pool-1"


def test_another_record_of_the_same_event_is_no_precedent(tmp_path):
    told_twice = {"title": "orders-db refuses connections", "hours": 0.1}
    first, second = (incident(n, d, POOL, **told_twice) for n, d in (("a", 9), ("b", 9.03)))
    store = store_with(tmp_path, [first, second])
    case = replayed(store)["b"]
    store.close()

    assert (case.memory, case.precedents, case.seen) == (1, 0, False)


def test_families_can_be_taken_from_a_label_that_names_several():
    said = incident("x", 1, POOL, labels={"cause": "Network; ; unknown ;DNS"})

    assert families_of(said, "cause") == {"network", "dns"}
    assert families_of(said, "other") == frozenset()
    assert families_of(said) == {POOL}


def test_the_baselines_are_asked_the_same(cases):
    # pool-3 looks like a disk; its service is still that of its own family.
    assert cases["pool-3"].places == {"scarwise": 3, "words": 3, "recent": 1, "frequent": 1}


def test_without_any_label_everything_is_unscored_and_nothing_is_zero(tmp_path):
    unlike = [("a", "kafka rebalance"), ("b", "certificate of the gateway"), ("c", "slow disk io")]
    alone = [incident(n, d, None, title=t) for d, (n, t) in enumerate(unlike)]
    store = store_with(tmp_path, alone)
    cases = replayed(store)
    store.close()

    found, text = figures(list(cases.values())), Seen(page_of(cases)).text
    assert (found.rules, found.recall, found.seen, found.novel) == ({"unscored": 3}, [], 0, 0)
    a = found.answers
    assert (a.accuracy, a.trust, a.abstained, a.missed) == (None, None, None, None)
    assert text.count("unscored") >= 4
    assert "not how much of it was right" in " ".join(lead(found))


def test_the_figures_of_a_year_add_up(cases):
    found = figures(list(cases.values()))

    a, [ours] = found.answers, [
        r for r in found.recall if (r.rule, r.arm) == ("family", "scarwise")
    ]  # fmt: skip
    assert (a.seen.n, a.seen.right, a.seen.wrong) == (4, 3, 1)
    assert (a.novel.n, a.novel.named, a.recurring.n, a.unscored.n) == (3, 0, 1, 1)
    assert (ours.n, ours.at[1].mean, ours.at[3].mean) == (4, 0.75, 1.0)
    assert ours.at[1].low < 0.75 < ours.at[1].high
    assert [case.source_id for case in found.wrong] == ["pool-3"]
    assert sum(group.n for group in found.periods) == found.n == 9


def test_time_saved_is_bounded_and_chance_adds_up_to_nothing(cases):
    saved = figures(list(cases.values())).saved

    # pool-2 3 h after 4 h; disk-2 1 h after 2 h; pool-4 2 h after 4, 3 and 5 h: all were quicker.
    assert (saved.n, saved.took_s, saved.most_s) == (3, 6 * 3600, 0)
    assert saved.typical_s == -4 * 3600


def test_a_model_is_asked_only_of_what_it_cannot_have_learned(store):
    asked = []

    def answer(prompts):
        asked.extend(prompts)
        return [Reply(status="known", cause="The moon was full."), *[None] * (len(prompts) - 1)]

    since = JANUARY + timedelta(days=65)
    cases = replayed(store, voice=Voice({"name": "diag-v1"}, since, answer))

    assert len(asked) == 2
    assert {n for n, case in cases.items() if case.model} == {"pool-3", "pool-4"}
    own = cases["pool-3"].model
    assert (own.hypothesis, own.hypothesis_right) == ("The moon was full.", False)
    assert cases["pool-4"].model == cases["pool-4"].said  # it gave no answer: as without it
    found = figures(list(cases.values()))
    assert (found.model.n, found.beside_model.n) == (2, 2)
    assert "which no precedent states" in Seen(page_of(cases)).text


def test_running_a_backtest_leaves_the_knowledge_base_byte_identical(tmp_path):
    store = store_with(tmp_path, year())
    store.close()
    file = tmp_path / "scarwise.db"
    before = hashlib.sha256(file.read_bytes()).hexdigest()

    store = Store.open(f"sqlite:///{file}")
    replayed(store)
    store.close()

    assert hashlib.sha256(file.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    ("made", "window", "why"),
    [
        ([], {}, "nothing to replay yet"),
        ([incident("a", 1, POOL, started_at=None, resolved_at=None)], {}, "none of the 1"),
        (
            [incident("a", 1, POOL)],
            {"since": datetime(2025, 1, 1, tzinfo=UTC)},
            "began from 2025-01-01; those here began from 2024-01-02 to 2024-01-02",
        ),
    ],
)
def test_when_there_is_nothing_to_replay_it_says_why(tmp_path, made, window, why):
    store = store_with(tmp_path, made)
    precedents = Precedents(store, index_of(store))
    store.close()

    with pytest.raises(Refused, match=why):
        chosen(precedents, **window)


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror='a()'>\" ' & ]]> {{ 7*7 }}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A history in which every text is somebody's attempt, and the page of it."""
    folder = tmp_path_factory.mktemp("hostile")
    evil = {"title": f"disk {HOSTILE}\u202egnp.exe", "services": [HOSTILE[:150]]}
    cause = f"Rotation was off. {HOSTILE}"
    made = [
        incident(str(n), 9 * n, DISK, **evil, root_cause=f"{HOSTILE} {cause}",
                 cause_family=f"{n % 2}{HOSTILE[:100]}")
        for n in range(6)
    ]  # fmt: skip
    store = store_with(folder, made)
    for stored in store.page(limit=50, trust="quarantined"):
        store.release(stored.incident.id, actor="tests", reason="tests")
    cases = replayed(store)
    store.close()
    place = folder / "page.html"
    place.write_text(page_of(cases), encoding="utf-8")
    return cases, place


def test_a_strangers_text_is_only_ever_text(hostile):
    cases, place = hostile
    html = place.read_text(encoding="utf-8")
    seen = Seen(html)

    assert any(case.said.right is False for case in cases.values())
    tags = {tag for tag, _ in seen.elements}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base", "form", "a"}
    assert not [a for _, attrs in seen.elements for a in attrs if a.startswith("on")]
    assert "alert(1)" in seen.text
    assert "{{ 7*7 }}" in seen.text
    assert "\u202e" not in html
    assert "default-src 'none'" in html


def test_every_picture_is_well_formed_and_says_what_it_shows(hostile, cases):
    for html in (hostile[1].read_text(encoding="utf-8"), page_of(cases)):
        pictures = [p.split("</svg>")[0] + "</svg>" for p in html.split("<svg")[1:]]
        trees = [ET.fromstring("<svg" + picture) for picture in pictures]
        assert len(trees) >= 6
        assert all(tree.get("aria-label") for tree in trees)


@pytest.mark.skipif(chromium.PROGRAM is None, reason="no Chromium is installed here")
def test_in_a_browser_offline_the_page_asks_for_nothing_and_complains_of_nothing(hostile):
    _, place = hostile
    seen = chromium.visit(place, wide=420)

    assert seen.asked == [place.as_uri()]
    assert seen.complaints == []
    assert seen.overflow == 0
    assert "<script>alert(1)</script>" in seen.text


def test_every_case_can_be_read_back_from_its_line(cases):
    line = json.loads(cases["pool-3"].model_dump_json())

    assert line["said"]["right"] is False
    assert line["said"]["cited_families"] == [DISK]
    assert line["families"] == [POOL]
