from collections import Counter

import pytest

from tests.training import tiny
from training.cautions import ANSWER, cautions
from training.general import facts
from training.mixture import caution_lessons, general_lessons, mixture
from training.recipe import Recipe

RECIPE = Recipe(name="test", learning_rate=1e-3, epochs=1, unseen_rehearsed=6, general=10,
                cautions=5)  # fmt: skip
TASKS = ("closed_book", "context", "choose")


def family(name, each, **told):
    """Rows of every task for so many incidents of a family."""
    return [tiny.row(n, name, task, **told) for n in range(each) for task in TASKS]


def unseen(each, prefix="once"):
    return [
        tiny.row(n, f"{prefix}-{n}", task)
        for n in range(each)
        for task in ("unseen", "unseen_closed_book")
    ]


NEW = family("quota", 9)
BASE = [*family("disk", 30, in_base=True), *family("lease", 30, in_base=True)]
ADAPTER = [*family("cache", 30), *family("route", 4)]
OLD = [*BASE, *ADAPTER, *unseen(20)]
TAUGHT = {row.incident_id for row in OLD}


def mixed(rows=(*OLD, *NEW), *, taught=TAUGHT, seed=1, **recipe):
    return mixture(rows, taught=taught, recipe=RECIPE.model_copy(update=recipe), seed=seed)


def rehearsed(made) -> Counter:
    by_id = {row.id: row for row in OLD}
    rows = [by_id[lesson.id] for lesson in made.lessons if lesson.id in by_id]
    return Counter((row.family.split("-")[0], row.task) for row in rows)


def test_rehearsal_is_counted_for_each_family_by_who_knows_it():
    assert rehearsed(mixed()) == {
        ("disk", "closed_book"): 12, ("disk", "context"): 8, ("disk", "choose"): 1,
        ("lease", "closed_book"): 12, ("lease", "context"): 8, ("lease", "choose"): 1,
        ("cache", "closed_book"): 20, ("cache", "context"): 14, ("cache", "choose"): 1,
        ("route", "closed_book"): 4, ("route", "context"): 4, ("route", "choose"): 1,
        ("once", "unseen"): 6, ("once", "unseen_closed_book"): 6,
    }  # fmt: skip


def test_everything_new_is_taught_beside_fixed_shares_of_facts_and_cautions():
    made = mixed()

    ids = [lesson.id for lesson in made.lessons]
    assert {row.id for row in NEW} <= set(ids)
    assert len(ids) == len(set(ids))
    assert made.counts == {
        "caution": 5, "general": 10,
        "new choose": 9, "new closed_book": 9, "new context": 9, "new incidents": 9,
        "rehearsed choose": 4, "rehearsed closed_book": 48, "rehearsed context": 34,
        "rehearsed unseen": 6, "rehearsed unseen_closed_book": 6,
    }  # fmt: skip
    assert made.new_incidents == 9


def test_each_epoch_teaches_all_that_is_new_and_rehearses_others_of_the_old():
    lessons = mixed(epochs=2, per_base_family=12, general=0).lessons
    ids = [lesson.id for lesson in lessons]
    taught = Counter(ids)
    disk = [row.id for row in BASE if (row.family, row.task) == ("disk", "closed_book")]
    route = [row.id for row in ADAPTER if (row.family, row.task) == ("route", "closed_book")]

    assert {taught[row.id] for row in NEW} == {2}
    assert sorted(taught[id] for id in disk) == [0] * 6 + [1] * 24
    assert {taught[id] for id in route} == {2}
    half = len(ids) // 2
    assert all(len(set(epoch)) == half for epoch in (ids[:half], ids[half:]))
    assert [lesson.epoch for lesson in lessons] == [0] * half + [1] * half


def test_lessons_are_rows_word_for_word():
    by_id = {row.id: row for row in (*OLD, *NEW)}

    taught = [lesson for lesson in mixed().lessons if lesson.id in by_id]

    assert len(taught) == 27 + 98
    for lesson in taught:
        assert (lesson.prompt, lesson.answer) == (by_id[lesson.id].prompt, by_id[lesson.id].answer)


def test_nothing_but_the_rows_given_and_the_fixed_shards_gets_in():
    fixed = {lesson.id for lesson in (*general_lessons(), *caution_lessons())}

    ids = {lesson.id for lesson in mixed(NEW, taught=()).lessons}

    assert ids - fixed == {row.id for row in NEW}


def test_the_same_seed_repeats_it_and_another_draws_others():
    assert mixed() == mixed()
    assert mixed(seed=2) != mixed()
    assert mixed(seed=2).counts == mixed().counts


def test_a_family_with_few_exemplars_is_named():
    assert mixed().under_rehearsed == ["route"]


def test_without_replay_only_the_new_is_taught():
    made = mixed(replay="none", general=0, cautions=0)

    assert {lesson.id for lesson in made.lessons} == {row.id for row in NEW}
    assert made.under_rehearsed == []


def test_random_replay_is_a_share_of_the_new_rows():
    made = mixed(replay="random", random_share=1.0)

    assert sum(rehearsed(made).values()) == len(NEW)


@pytest.mark.parametrize("most", [5, 10, 10_000])
def test_a_source_that_floods_is_capped_in_rows_and_counted(most):
    flood = [tiny.row(n, "quota", source="flood") for n in range(100, 150)]

    made = mixed([*OLD, *NEW, *flood], per_source=most)

    ids = {lesson.id for lesson in made.lessons}
    kept = sum(row.id in ids for row in flood)
    quiet = sum(row.id in ids for row in NEW)
    assert (kept, quiet) == (min(most, 50), min(most, 27))
    assert made.capped == {
        source: count - most for source, count in (("flood", 50), ("pager", 27)) if count > most
    }


def test_facts_come_in_one_wording_each_before_any_comes_in_two():
    one_each = len({fact.id for fact in facts()})

    def wordings(general):
        names = [x.id for x in mixed(general=general).lessons if x.id.startswith("general:")]
        return Counter(name.split(":")[1] for name in names)

    assert set(wordings(one_each).values()) == {1}
    assert sorted(Counter(wordings(one_each + 3).values()).items()) == [(1, one_each - 3), (2, 3)]
    assert sum(wordings(10**6).values()) == len(facts())


def test_every_caution_is_answered_novel():
    made = caution_lessons()

    assert len(made) == len(cautions()) >= 40
    assert {lesson.answer for lesson in made} == {ANSWER}
    assert mixed(cautions=10**6).counts["caution"] == len(made)
