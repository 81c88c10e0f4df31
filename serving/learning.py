"""The loop with a person watching: opened, embedded, with progress where there is a terminal."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ingest.errors import Unavailable
from serving.commands.bar import Bar
from serving.footing import already_taught, dataset_of_base, loaded_base, recipe_of
from serving.retrain import Ended, Telling, due, retrain
from serving.service import Service, open_store
from serving.settings import Settings
from training import base, dataset
from training.base import Base
from training.fit import Step
from training.train import Trained, train

_GOES_ON = "the next `scarwise retrain` goes on with it"


def built(settings: Settings) -> tuple[Base, bool]:
    """The offline base, and whether it was made just now."""
    from retrieval.embed import Embedder

    before = (base.named(settings.bases) / base.MADE).is_file()
    with Bar("base", None) as bar:

        def note(what: str, done: int, total: int) -> None:
            bar.named(what)
            bar.at(done, total)

        embedder = None
        if not before:
            bar.note("loading the embedding model")
            knobs = settings.retrieval
            embedder = Embedder.load(knobs.embedder, cache=settings.models, threads=knobs.threads)
        made = base.build(
            settings.bases, embedder, note=note, progress=lambda s: _step(bar, "learning", s)
        )
    return made, not before


def said_of_base(made: Base, fresh: bool) -> str:
    """One line on a base."""
    cost = made.cost
    how = f"{cost['cpu_s']:.0f} CPU-seconds of learning" if fresh else "made before"
    return (
        f"{made.hash}: {len(made.families)} families of an invented world, loss "
        f"{cost['loss']:.2f}, {how}; it proves the machinery and knows nothing of real incidents"
    )


def trained_alone(settings: Settings, named: str | None) -> Trained:
    """An adapter on the newest dataset, for trying a recipe."""
    from ingest.errors import Refused
    from ingest.lessons import datasets

    chosen = recipe_of(settings, named)
    store = open_store(settings)
    try:
        standing = [d.name for d in datasets(store) if d.withdrawn_at is None]
        of_base = dataset_of_base(settings)
        if not [name for name in standing if name != of_base]:
            raise Refused("there is no dataset yet; `scarwise dataset export` makes one")
        data = dataset.opened(store, settings.datasets, standing[-1])
        told = already_taught(store, settings, None)
    finally:
        store.close()
    with Bar("training", None) as bar:
        return train(
            data.rows(), dataset=data.name, taught=told, champion=None,
            base=loaded_base(settings, four_bit=chosen.four_bit), recipe=chosen,
            runs=settings.runs, least_rows=settings.training.least_rows,
            progress=lambda s: _step(bar, "training", s), note=bar.line,
        )  # fmt: skip


def turn(
    settings: Settings, *, actor: str, if_due: bool = False, recipe: str | None = None
) -> Ended:
    """One turn of the loop over this data folder, with its progress shown.

    Asked to stop by SIGTERM or Ctrl-C, it lets go of all that it holds and ends this process with
    128 and the signal's number; the next turn goes on with it.
    """
    if if_due and (found := _not_due(settings)):
        return found
    chosen = recipe_of(settings, recipe) if recipe else None
    service = Service.open(settings)
    try:
        with stoppable(), Bar("retraining", None) as bar:
            telling = telling_on(bar)
            service.warm(progress=lambda p: bar.note(p.step))
            service.embed_all(lambda p: telling.at("embedding", p.done, p.total))
            return retrain(
                service.store, service.index, settings, actor=actor, if_due=if_due,
                chosen=chosen, telling=telling,
            )  # fmt: skip
    except Unavailable:
        print(f"scarwise: the turn is cut off; {_GOES_ON}", file=sys.stderr)
        raise
    finally:
        service.remove_forgotten()  # what was forgotten meanwhile may have been written once more
        service.close()


def _not_due(settings: Settings) -> Ended | None:
    """The end of a turn that is asked for and not due; None when one is due, or unfinished.

    Takes no lock, writes nothing and reads only what may be new: a timer asks every few hours.
    """
    from ingest.retrainings import unfinished

    store = open_store(settings)
    try:
        found = due(store, settings)
        is_over = not found.due and unfinished(store) is None
    finally:
        store.close()
    return Ended("not due", found.words) if is_over else None


@contextmanager
def stoppable() -> Iterator[None]:
    """Let a signal unwind this process instead of ending it amid a step."""
    if threading.current_thread() is not threading.main_thread():  # nobody else may be signalled
        yield
        return
    before = {which: signal.signal(which, _stop) for which in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


def _stop(number: int, frame: Any) -> None:
    print(f"scarwise: stopped; {_GOES_ON}", file=sys.stderr)
    raise SystemExit(128 + number)


def telling_on(bar: Bar) -> Telling:
    """What a turn says, on this bar."""

    def at(what: str, done: int, total: int) -> None:
        bar.named(what)
        bar.at(done, total)

    return Telling(note=bar.line, at=at, training=lambda s: _step(bar, "training", s))


def _step(bar: Bar, what: str, step: Step) -> None:
    bar.named(what)
    bar.at(step.step, step.steps)
    bar.note(f"loss {step.loss:.3f}, {step.tokens_per_s:,.0f} tokens/s, {step.left_s:.0f} s left")
