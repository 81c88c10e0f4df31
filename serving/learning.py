"""The loop with a person watching: opened, embedded, with progress where there is a terminal."""

from serving.commands.bar import Bar
from serving.retrain import Ended, Telling, loaded_base, offline, recipe_name, retrain
from serving.service import Service
from serving.settings import Settings
from training import base, dataset, recipe
from training.base import Base
from training.fit import Step
from training.train import Trained, train


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
    from ingest.lessons import datasets, taught
    from serving.service import open_store

    chosen = recipe.read(named or recipe_name(settings))
    store = open_store(settings)
    try:
        standing = [d.name for d in datasets(store) if d.withdrawn_at is None]
        known = _of_the_base(settings)
        if not [name for name in standing if name != known]:
            raise Refused("there is no dataset yet; `scarwise dataset export` makes one")
        data = dataset.opened(store, settings.datasets, standing[-1])
        told = taught(store, known) if known else set()
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
    """One turn of the loop over this data folder, with its progress shown."""
    from training.recipe import read

    service = Service.open(settings)
    try:
        with Bar("retraining", None) as bar:
            telling = telling_on(bar)
            if if_due:
                found = _not_due(service, settings)
                if found:
                    return found
            service.warm(progress=lambda p: bar.note(p.step))
            service.embed_all(lambda p: telling.at("embedding", p.done, p.total))
            return retrain(
                service.store, service.index, settings, actor=actor, if_due=if_due,
                chosen=read(recipe) if recipe else None, telling=telling,
            )  # fmt: skip
    finally:
        service.remove_forgotten()  # what was forgotten meanwhile may have been written once more
        service.close()


def _not_due(service: Service, settings: Settings) -> Ended | None:
    """The end of a turn that need not load anything; None when one is due, or unfinished."""
    from ingest.retrainings import unfinished
    from serving.retrain import due

    found = due(service.store, settings)
    if found.due or unfinished(service.store):
        return None
    return Ended("not due", found.words)


def _of_the_base(settings: Settings) -> str | None:
    return offline(settings).dataset if settings.training.base == base.NAME else None


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
