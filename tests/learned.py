"""A small world that was learned: a base of seconds, and data folders in which a turn can be taken.

The small base lies where the real one would, so nothing but its size differs from how it is used.
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy import create_engine, delete, insert, select

from eval.evidence import Rules
from ingest.schema import metadata
from ingest.store import Store, utcnow
from retrieval.index import Index
from serving.retrain import Ended, Telling, retrain
from serving.settings import Settings, load
from training import base
from training.base import Base, Shape, embedded
from training.recipe import Recipe
from training.world import Size, incidents

SEED, ACTOR = 5, "tests"
NOBODY = "http://127.0.0.1:9"  # an MLflow server that is not there
SIZE = Size(first_families=6, first_each=14, later_families=4, later_each=16)
SHAPE = Shape(
    width=96, layers=2, heads=2, inner=128, vocabulary=900, context=768, steps=450, batch=16,
    micro=4,
)  # fmt: skip
RECIPE = Recipe(
    name="small", rank=8, learning_rate=8e-3, epochs=5, batch=16, micro=8, longest=768,
    save_every=10, per_base_family=6, context_per_base_family=8, general=20, cautions=40,
    alphas=(0.85, 1.0),
)  # fmt: skip
# A dozen cases prove little: here it is enough that something was learned.
EASY = Rules(
    alpha=0.4, least_gain=0.01, least_loss=2.0, fewest_new=2, pooled_margin=1.0,
    fewest_in_slice=1_000,
    anchor_margin=1.0, most_forgotten=1.0, probe_margin=1.0, most_perplexity=1e9,
    most_below_copying=1.0, most_exposure_bits=12.0, fewest_red_team=1, fewest_smoke=1,
)  # fmt: skip


def made(bases: Path) -> Base:
    """The small base, under the name by which the offline base is looked for."""
    small = base.build(bases / "small", None, shape=SHAPE, size=SIZE, seed=SEED)
    return base.opened(small.folder.replace(base.named(bases)))


def home(folder: Path, bases: Path, **instead: str) -> Settings:
    """A data folder that holds what the base was taught and the incidents of the year after."""
    known = base.opened(base.named(bases))
    folder.mkdir(parents=True)
    shutil.copytree(known.datasets, folder / "datasets")
    source, copy = sqlite3.connect(known.world), sqlite3.connect(folder / "scarwise.db")
    source.backup(copy)
    source.close()
    copy.close()
    found = settings(folder, bases, **instead)
    with opened(found) as (store, _):
        if found.store.url:
            carry(folder / "scarwise.db", found.store_url)
        store.put(list(incidents(SEED, 1, SIZE)), actor=ACTOR)
    return found


def carry(file: Path, url: str) -> None:
    """Everything in this SQLite file into an empty store elsewhere; the file goes."""
    source, target = create_engine(f"sqlite:///{file}"), create_engine(url)
    with source.connect() as reading, target.begin() as writing:
        for table in reversed(metadata.sorted_tables):
            writing.execute(delete(table))
        for table in metadata.sorted_tables:
            rows = [dict(row._mapping) for row in reading.execute(select(table))]
            if rows:
                writing.execute(insert(table), rows)
    for engine in (source, target):
        engine.dispose()
    file.unlink()


def settings(folder: Path, bases: Path, **instead: str) -> Settings:
    """Those of this data folder; `instead` names variables without their prefix."""
    told = {"HOME": str(folder), "TRAINING_BASES": str(bases), "MLFLOW_URI": NOBODY, **instead}
    environment = {f"SCARWISE_{name}": value for name, value in told.items()}
    return load({"PATH": os.environ["PATH"], **environment})


@contextmanager
def opened(
    settings: Settings, clock: Callable[[], datetime] = utcnow
) -> Iterator[tuple[Store, Index]]:
    """Its store and the index over it, which compares by words only."""
    store = Store.open(settings.store_url, clock=clock)
    try:
        yield store, embedded(store, None)
    finally:
        store.close()


def turn(
    settings: Settings,
    *,
    rules: Rules = Rules(),  # noqa: B008
    telling: Telling = Telling(),  # noqa: B008
    recipe: Recipe = RECIPE,
    if_due: bool = False,
    clock: Callable[[], datetime] = utcnow,
) -> Ended:
    """One turn of this data folder, or the rest of one, in this process."""
    with opened(settings, clock) as (store, index):
        return retrain(
            store, index, settings, actor=ACTOR, chosen=recipe, rules=rules, telling=telling,
            if_due=if_due,
        )  # fmt: skip
