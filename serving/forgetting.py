"""Forgetting, in files: what was exported, asked or answered of an incident goes with it.

The store forgets in one transaction; the files follow. What a model was taught stays in its
weights: such a model is tainted, and its sealed folder stays for whoever has to look into it.
"""

import json
import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eval.suite import named_in, quoting, remove_quoting
from ingest.errors import Unavailable
from ingest.lessons import datasets
from ingest.lineage import forgotten_ever
from ingest.store import Store
from serving.settings import Settings
from training import dataset, registry

log = logging.getLogger(__name__)

_GONE = ".gone"  # a folder that is being deleted: what is left of it means nothing any more


def remove_forgotten(store: Store, settings: Settings) -> None:
    """Delete every file that quotes what was ever forgotten; the next turn makes them without it.

    Datasets that teach it, suites that ask or show it, all answers given on those, all answers of
    models that learned it, and runs that were cut off while they learned it. May be cut off and
    run again at any time. What cannot be deleted is logged, and tried again by the next call.
    """
    from filelock import FileLock, Timeout

    with store.reading() as connection:
        gone = forgotten_ever(connection)
    if not gone:
        return
    with _logged("datasets"):
        dataset.sweep(store, settings.datasets)
    answers = {*settings.evals.glob(f"*{_GONE}"), *_replays(store, settings, gone)}
    are_gone = [removed(place) for place in sorted(answers)]
    # A suite that is still there says which answers are to go: it goes last.
    if all(are_gone):
        with _logged("suite"):
            remove_quoting(settings.suite, *gone)
    # While a turn is on, its run is not cut off; it sweeps at its own end.
    with _logged("runs"), suppress(Timeout), FileLock(settings.retraining, timeout=0):
        withdrawn = {kept.name for kept in datasets(store) if kept.withdrawn_at}
        for place in {*settings.runs.glob(f"*{_GONE}"), *cut_off(settings.runs, withdrawn)}:
            removed(place)


def _replays(store: Store, settings: Settings, gone: Collection[str]) -> set[Path]:
    """The folders of answers that may quote what was forgotten."""
    evals = settings.evals
    suites = {place.name.partition(".")[0] for place in quoting(settings.suite, gone)}
    found = {place for suite in suites for place in evals.glob(f"*-{suite}")}
    for model in registry.every(store):
        if model.tainted:
            found |= set(evals.glob(f"{model.name}-v*"))
    answers = (file for form in ("jsonl", "part", "draft") for file in evals.glob(f"*/*.{form}"))
    return found | {file.parent for file in answers if not named_in(file).isdisjoint(gone)}


def cut_off(runs: Path, datasets: Collection[str | None]) -> Iterator[Path]:
    """The folders of runs that never ended, of these datasets: checkpoints, for the most part."""
    for recipe in runs.glob("*/recipe.json"):
        if not (recipe.parent / "DONE").exists() and _dataset_of(recipe) in datasets:
            yield recipe.parent


def _dataset_of(recipe: Path) -> str | None:
    try:
        return str(json.loads(recipe.read_text(encoding="utf-8"))["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def removed(place: Path) -> bool:
    """Whether this folder is gone now; why not, if not, is logged."""
    going = place.with_name(place.name.removesuffix(_GONE) + _GONE)
    with _logged(place.name):
        if place != going:
            shutil.rmtree(going, ignore_errors=True)
            place.rename(going)
        shutil.rmtree(going)
    return not place.exists() and not going.exists()


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Let no file that cannot be deleted keep the others from being so."""
    try:
        yield
    except (OSError, Unavailable) as error:
        log.error("forgotten.not_removed what=%s why=%r", what, str(error))
