"""The mixture: what one run is taught, new rows and what has to be rehearsed beside them.

Rehearsal is counted in exemplars for each failure family, not in percent: a tenth of random
replay keeps almost nothing of many families, a dozen of each keeps most (training/NOTES.md). What
only an adapter knows needs about twice what the base knows. Every task type has a share of its
own, for what is not rehearsed is lost, down to the form of the answer.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from retrieval.prompt import Prompt
from training.cautions import ANSWER, cautions
from training.general import facts, general_prompt, general_written
from training.recipe import Recipe
from training.rows import Row

FEWEST = 5  # exemplars of a family below which it counts as under-rehearsed


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question and its answer, as a model is taught it."""

    id: str
    prompt: Prompt
    answer: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """What is taught, in a fixed order, and how much of it comes from where."""

    lessons: list[Lesson]
    counts: dict[str, int]  # "new context", "rehearsed closed_book", "general", ...
    capped: dict[str, int]  # rows left out of a source that had too many
    under_rehearsed: list[str]  # families with fewer exemplars than `FEWEST`

    @property
    def new_incidents(self) -> int:
        return self.counts.get("new incidents", 0)


def mixture(
    rows: Sequence[Row],
    *,
    taught: Collection[str],
    recipe: Recipe,
    seed: int,
) -> Mixture:
    """New rows are those of incidents that are not in `taught`; the rest is rehearsed.

    The same arguments give the same mixture.
    """
    rng = random.Random(f"{seed}:mixture")
    new, capped = _capped([r for r in rows if r.incident_id not in taught], recipe.per_source, rng)
    counts: Counter[str] = Counter(f"new {row.task}" for row in new)
    counts["new incidents"] = len({row.incident_id for row in new})
    chosen, thin = list(new), list[str]()
    old = [row for row in rows if row.incident_id in taught]
    if recipe.replay != "none":
        rehearsed, thin = _rehearsed(old, recipe, rng)
        if recipe.replay == "random":
            most = round(recipe.random_share * len(new))
            rehearsed = rng.sample(old, min(most, len(old)))
        counts.update(f"rehearsed {row.task}" for row in rehearsed)
        chosen += rehearsed
    lessons = [Lesson(row.id, row.prompt, row.answer) for row in chosen]
    fixed = [*_general(recipe.general, rng), *_cautions(recipe.cautions, rng)]
    counts.update(lesson.id.partition(":")[0] for lesson in fixed)
    return Mixture([*lessons, *fixed], dict(sorted(counts.items())), capped, thin)


def general_lessons() -> list[Lesson]:
    """Every general fact in every wording that is taught."""
    said = Counter[str]()
    lessons = []
    for fact in facts():
        said[fact.id] += 1
        name = f"general:{fact.id}:{said[fact.id]}"
        lessons.append(Lesson(name, general_prompt(fact.question), general_written(fact.answer)))
    return lessons


def caution_lessons() -> list[Lesson]:
    """Every caution: healthy signals, orders in logs, forged precedents, answered novel."""
    return [Lesson(f"caution:{c.id}", c.prompt, ANSWER) for c in cautions()]


def _general(most: int, rng: random.Random) -> list[Lesson]:
    """A fixed number of facts, one wording of each before a second of any."""
    by_fact: dict[str, list[Lesson]] = defaultdict(list)
    for lesson in general_lessons():
        by_fact[lesson.id.split(":")[1]].append(lesson)
    rounds = [rng.sample(held, len(held)) for held in by_fact.values()]
    deepest = max((len(held) for held in rounds), default=0)
    inorder = [held[n] for n in range(deepest) for held in rounds if n < len(held)]
    return inorder[:most]


def _cautions(most: int, rng: random.Random) -> list[Lesson]:
    lessons = caution_lessons()
    return rng.sample(lessons, min(most, len(lessons)))


def _capped(rows: Sequence[Row], most: int, rng: random.Random) -> tuple[list[Row], dict[str, int]]:
    """At most so many rows of one source: a flood is an attack or an accident, never a lesson."""
    by_source: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    over = {source: len(held) - most for source, held in by_source.items() if len(held) > most}
    kept = {
        row.id
        for source, held in sorted(by_source.items())
        for row in (rng.sample(held, most) if source in over else held)
    }
    return [row for row in rows if row.id in kept], over


def _rehearsed(
    old: Sequence[Row], recipe: Recipe, rng: random.Random
) -> tuple[list[Row], list[str]]:
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in old:
        pooled = row.task in ("unseen", "unseen_closed_book")
        by_kind["(unseen)" if pooled else row.family, row.task].append(row)
    chosen: list[Row] = []
    for (_, task), held in sorted(by_kind.items()):
        most = _quota(task, held[0].in_base, recipe)
        chosen += rng.sample(held, min(most, len(held)))
    counted = Counter(row.family for row in chosen if row.task == "closed_book")
    families = {family for family, task in by_kind if task == "closed_book"}
    return chosen, sorted(f for f in families if counted[f] < FEWEST)


def _quota(task: str, in_base: bool, recipe: Recipe) -> int:
    quotas = {
        "closed_book": recipe.per_base_family if in_base else recipe.per_adapter_family,
        "context": recipe.context_per_family,
        "choose": recipe.choose_per_family,
    }
    return quotas.get(task, recipe.unseen_rehearsed)
