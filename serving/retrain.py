"""The scheduled job: one turn of the learning loop when it is due, or the rest of one cut off.

Each step is noted in the store's journal when it is done; so a run that was killed is finished by
the next call, once. One job at a time, by a lock that dies with its holder.
"""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from eval.evidence import Rules
from eval.suite import SuiteUnsound
from ingest import retrainings
from ingest.database import slices
from ingest.lessons import embargoed, unlearned
from ingest.queries import share_novel
from ingest.retrainings import Retraining, Superseded
from ingest.store import Store
from retrieval.index import Index
from serving.footing import Footing, recipe_of
from serving.forgetting import cut_off, removed
from serving.settings import Settings
from serving.turn import Ended as Ended
from serving.turn import Telling as Telling
from serving.turn import Turn
from serving.turn import learned as learned
from serving.turn import past_slices as past_slices
from serving.turn import place_of as place_of
from training import registry
from training.admission import why_not
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
        run = _cut_off(store, settings, actor, telling)
        if run is None:
            found = due(store, settings)
            if if_due and not found.due:
                return Ended("not due", found.words)
            if found.due:
                telling.note(found.words)
            run = _begun(store, settings, actor, chosen or recipe_of(settings))
        elif chosen and chosen.name != run.detail["recipe"]["name"]:
            telling.note(f"it keeps the recipe {run.detail['recipe']['name']!r} that it began with")
        recorded = Recipe(**run.detail["recipe"])
        turn = Turn(store, index, settings, actor, recorded, rules, telling)
        try:
            return turn.finish(run)
        except SuiteUnsound as error:
            # It cannot be judged on this suite any more; the next turn freezes another version.
            if left := retrainings.unfinished(store):
                _abandon(store, settings, left, actor, str(error), telling)
            raise
        except Superseded as error:
            return Ended("busy", str(error))


def hindrance(run: Retraining, settings: Settings) -> str | None:
    """Why this turn, which was cut off, cannot be gone on with; None when it can."""
    moved = Footing.of(settings).moved_since(run.detail)
    if moved:
        return moved
    try:
        Recipe(**run.detail.get("recipe", {}))
    except ValidationError:
        return "its recipe is of another version"
    return None


def _cut_off(store: Store, settings: Settings, actor: str, telling: Telling) -> Retraining | None:
    """The turn to go on with; one that stands on other ground is closed."""
    run = retrainings.unfinished(store)
    if run is None:
        return None
    if why := hindrance(run, settings):
        _abandon(store, settings, run, actor, why, telling)
        return None
    telling.note(f"going on with retraining {run.id}, which was cut off after {run.step!r}")
    return run


def _abandon(
    store: Store, settings: Settings, run: Retraining, actor: str, why: str, telling: Telling
) -> None:
    """Close a turn that can never end; its cases stay cases, and what it registered stays."""
    retrainings.finish(store, run, "abandoned", actor=actor, why=why)
    telling.note(f"retraining {run.id} is abandoned: {why}; what it began is begun anew")
    for place in cut_off(settings.runs, [run.detail.get("dataset")]):
        removed(place)


def _begun(store: Store, settings: Settings, actor: str, recipe: Recipe) -> Retraining:
    """A new turn; after one that was abandoned, with the cases that were kept out for that one."""
    detail = {
        "champion": registry.pointer(store).champion,
        "recipe": recipe.model_dump(mode="json"),
        **Footing.of(settings).told,
    }
    last = next(iter(retrainings.latest(store, limit=1)), None)
    if last and last.outcome == "abandoned" and (era := _era_of(last)):
        detail["again"] = era
    return retrainings.begin(store, actor=actor, detail=detail)


def _era_of(run: Retraining) -> int | None:
    """The era for which this turn kept cases out, or was about to."""
    era, _ = run.detail.get("next", (None, None))
    return era or run.detail.get("again")


def due(store: Store, settings: Settings) -> Due:
    """Whether there is enough that is new: incidents, days, or answers that said novel; or whether
    the champion became one of another base or prompt. Only reads, and loads nothing heavy."""
    knobs = settings.training
    new = _news(store, learned(store, settings) | set(embargoed(store)))
    last = _last_ended(store)
    if last and (moved := _leaves_the_champion_behind(store, settings, last)):
        return Due(True, moved)
    if new >= knobs.due_incidents:
        return Due(True, f"{new} new resolved incidents, due at {knobs.due_incidents}")
    rested = store.clock() - last.updated_at if last else None
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


def _news(store: Store, known: Collection[str]) -> int:
    """How many incidents could teach something and are not among these; only they are read."""
    return sum(
        why_not(stored) is None
        for some in slices(unlearned(store, known))
        for stored in store.many(some).values()
    )


def _last_ended(store: Store) -> Retraining | None:
    """The latest turn that came to an end of its own."""
    ended = (run for run in retrainings.latest(store) if run.outcome not in (None, "abandoned"))
    return next(ended, None)


def _leaves_the_champion_behind(store: Store, settings: Settings, last: Retraining) -> str | None:
    """What changed since the last turn, where a champion from before is not served any more."""
    champion = registry.pointer(store).champion
    moved = Footing.of(settings).moved_since(last.detail)
    if champion is None or moved is None or "prompt" not in last.detail:
        return None
    return f"{moved} since the last turn, and {registry.named(champion)} is of the one before"


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
