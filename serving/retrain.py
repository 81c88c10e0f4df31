"""The scheduled job: one turn of the learning loop when it is due, or the rest of one cut off.

Each step is noted in the store's journal when it is done; so a run that was killed is finished by
the next call, once. One job at a time, by a lock that dies with its holder.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from eval.evidence import Rules
from ingest import retrainings
from ingest.lessons import embargoed
from ingest.queries import share_novel
from ingest.store import Store
from retrieval.index import Index
from serving.settings import Settings
from serving.turn import EXIT as EXIT
from serving.turn import Ended as Ended
from serving.turn import Telling as Telling
from serving.turn import Turn
from serving.turn import learned as learned
from serving.turn import loaded_base as loaded_base
from serving.turn import offline as offline
from serving.turn import past_slices as past_slices
from serving.turn import place_of as place_of
from training import base, recipe, registry
from training.admission import everything, why_not
from training.folders import in_our_words
from training.recipe import Recipe
from training.registry import Registered

NOVELTY_OVER = 50  # questions


@dataclass(frozen=True, slots=True)
class Due:
    """Whether a turn is due, and why or why not."""

    due: bool
    words: str


def retrain(
    store: Store,
    index: Index,
    settings: Settings,
    *,
    actor: str,
    if_due: bool = False,
    chosen: Recipe | None = None,
    rules: Rules = Rules(),  # noqa: B008
    telling: Telling = Telling(),  # noqa: B008
) -> Ended:
    """One turn, or the rest of the one that was cut off; the index is embedded already.

    Raises what a step refuses or cannot do now: the journal keeps what was done, the champion
    stays, and the next call goes on from there.
    """
    with _alone(store, settings) as is_alone:
        if not is_alone:
            return Ended("busy", "another retraining of this data folder is running")
        run = retrainings.unfinished(store)
        if run is None:
            found = due(store, settings)
            if if_due and not found.due:
                return Ended("not due", found.words)
            if found.due:
                telling.note(found.words)
            told = (chosen or recipe.read(recipe_name(settings))).model_dump(mode="json")
            begun = {"champion": registry.pointer(store).champion, "recipe": told}
            run = retrainings.begin(store, actor=actor, detail=begun)
        else:
            telling.note(f"going on with retraining {run.id}, which was cut off after {run.step}")
        recorded = Recipe(**run.detail["recipe"])
        return Turn(store, index, settings, actor, recorded, rules, telling).finish(run)


def due(store: Store, settings: Settings) -> Due:
    """Whether there is enough that is new: incidents, days, or answers that said novel."""
    knobs = settings.training
    bound = learned(store, settings) | set(embargoed(store))
    new = sum(why_not(s) is None and str(s.incident.id) not in bound for s in everything(store))
    if new >= knobs.due_incidents:
        return Due(True, f"{new} new resolved incidents, due at {knobs.due_incidents}")
    past = retrainings.latest(store, limit=1)
    rested = store.clock() - past[0].updated_at if past else None
    if new and rested is not None and rested >= timedelta(days=knobs.due_days):
        return Due(True, f"{new} new resolved incidents in {rested.days} days")
    novel = share_novel(store, over=NOVELTY_OVER)
    if new and novel is not None and novel >= knobs.due_novelty:
        return Due(True, f"{novel:.0%} of the last {NOVELTY_OVER} questions were novel")
    return Due(
        False,
        f"not due: {new} new resolved incidents since the last export, and it takes "
        f"{knobs.due_incidents} (or {knobs.due_days} days, or {knobs.due_novelty:.0%} novel "
        "answers)",
    )


def recipe_name(settings: Settings) -> str:
    """The recipe that the settings name; `auto` is tiny for the offline base, lora for others."""
    named = settings.training.recipe
    if named != "auto":
        return named
    return "tiny" if settings.training.base == base.NAME else "lora"


def is_running(store: Store, settings: Settings) -> bool:
    """Whether a retraining is on, here or, on PostgreSQL, on any machine."""
    with _alone(store, settings) as is_alone:
        return not is_alone


@contextlib.contextmanager
def _alone(store: Store, settings: Settings) -> Iterator[bool]:
    """Whether this is the only job: on this machine by a file, on PostgreSQL for all machines."""
    from filelock import FileLock, Timeout

    path = settings.retraining
    with in_our_words(path):
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
    try:
        with store.alone("retrain") as is_alone:
            yield is_alone
    finally:
        lock.release()


def summary(ended: Ended) -> dict[str, Any]:
    """How a turn ended, for a machine."""
    return {
        "outcome": ended.outcome,
        "words": ended.words,
        "version": ended.version,
        "run": ended.run,
        "metrics": ended.examined.metrics if ended.examined else None,
        "report": str(ended.examined.folder / "gate.md") if ended.examined else None,
        "waits_for_mlflow": ended.waits_for_mlflow,
        "exit_code": ended.exit_code,
    }


def report_of(settings: Settings, model: Registered) -> Path | None:
    """The gate's report on this model as Markdown, where it is kept."""
    found = sorted(settings.evals.glob(f"{model.name}-v*/gate.md"))
    return found[-1] if found else None
