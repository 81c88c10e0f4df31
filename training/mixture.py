"""The mixture: what one run is taught, new rows and what has to be rehearsed beside them.

Rehearsal is counted in exemplars for each failure family, not in percent: a tenth of random
replay keeps almost nothing of many families, a dozen of each keeps most (training/NOTES.md). What
only an adapter knows needs more than what the base knows. Every task type has a share of its own,
for what is not rehearsed is lost, down to the form of the answer. Each epoch teaches all that is
new and rehearses other exemplars of what is old: in as many steps, more of it is kept that way.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TypeVar

from retrieval.prompt import Prompt
from training.cautions import ANSWER, cautions
from training.general import facts, general_prompt, general_written
from training.recipe import Recipe
from training.rows import Row

_Any = TypeVar("_Any")

FEWEST = 5  # exemplars of a family below which it counts as under-rehearsed


@dataclass(frozen=True, slots=True)
class Lesson:
    """One question and its answer, as a model is taught it; epoch after epoch."""

    id: str
    prompt: Prompt
    answer: str
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Mixture:
    """What is taught, epoch after epoch, and how much of one epoch comes from where."""

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
    old = [row for row in rows if row.incident_id in taught]
    hands = _hands(old, len(new), recipe, rng)
    rehearsed = [row for dealt in hands for row in dealt[0]]
    general = _dealt(_general(rng), recipe.general, recipe.epochs)
    cautious = _dealt(_cautions(rng), recipe.cautions, recipe.epochs)

    lessons: list[Lesson] = []
    for epoch in range(recipe.epochs):
        told = [*new, *(row for dealt in hands for row in dealt[epoch])]
        lessons += [Lesson(row.id, row.prompt, row.answer, epoch) for row in told]
        lessons += [replace(lesson, epoch=epoch) for lesson in (*general[epoch], *cautious[epoch])]
    counts = Counter(f"new {row.task}" for row in new)
    counts["new incidents"] = len({row.incident_id for row in new})
    counts.update(f"rehearsed {row.task}" for row in rehearsed)
    counts.update({"general": len(general[0]), "caution": len(cautious[0])})
    thin = _thin(old, rehearsed) if recipe.replay != "none" else []
    return Mixture(lessons, dict(sorted((+counts).items())), capped, thin)


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


def _general(rng: random.Random) -> list[Lesson]:
    """All wordings of facts, one of each fact before a second of any."""
    by_fact: dict[str, list[Lesson]] = defaultdict(list)
    for lesson in general_lessons():
        by_fact[lesson.id.split(":")[1]].append(lesson)
    rounds = [rng.sample(held, len(held)) for held in by_fact.values()]
    deepest = max((len(held) for held in rounds), default=0)
    return [held[n] for n in range(deepest) for held in rounds if n < len(held)]


def _cautions(rng: random.Random) -> list[Lesson]:
    lessons = caution_lessons()
    return rng.sample(lessons, len(lessons))


def _dealt(held: Sequence[_Any], most: int, hands: int) -> list[list[_Any]]:
    """At most so many to each hand, none twice in one hand, and none again before all were."""
    around = cycle(held)
    return [list(islice(around, min(most, len(held)))) for _ in range(hands)]


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


def _hands(
    old: Sequence[Row], new: int, recipe: Recipe, rng: random.Random
) -> list[list[list[Row]]]:
    """What each epoch rehearses, dealt from each family and task apart."""
    if recipe.replay == "none":
        return []
    if recipe.replay == "random":
        most = round(recipe.random_share * new)
        return [_dealt(rng.sample(old, len(old)), most, recipe.epochs)]
    by_kind: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in old:
        pooled = row.task in ("unseen", "unseen_closed_book")
        by_kind["(unseen)" if pooled else row.family, row.task].append(row)
    return [
        _dealt(rng.sample(held, len(held)), _quota(held[0], recipe), recipe.epochs)
        for _, held in sorted(by_kind.items())
    ]


def _thin(old: Sequence[Row], rehearsed: Sequence[Row]) -> list[str]:
    """The families of which too little is rehearsed."""
    counted = Counter(row.family for row in rehearsed if row.task == "closed_book")
    families = {row.family for row in old if row.task == "closed_book"}
    return sorted(family for family in families if counted[family] < FEWEST)


def _quota(row: Row, recipe: Recipe) -> int:
    """How many exemplars of this kind of row an epoch rehearses."""
    match row.task, row.in_base:
        case "closed_book", True:
            return recipe.per_base_family
        case "closed_book", False:
            return recipe.per_adapter_family
        case "context", True:
            return recipe.context_per_base_family
        case "context", False:
            return recipe.context_per_adapter_family
        case "choose", _:
            return recipe.choose_per_family
    return recipe.unseen_rehearsed
