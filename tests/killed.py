"""A turn in a process of its own that is ended at one point: killed, as by a power cut, at once and
without a word; or asked to stop.

python -m tests.killed HOME BASES POINT [SIGNAL]
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ingest import audit, retrainings
from serving.learning import stoppable
from serving.outcome import TERMINATED
from serving.retrain import Telling
from serving.settings import Settings
from tests import learned
from training import adapters, registry
from training.fit import whole_checkpoint

ROOT = Path(__file__).parents[1]
# In the order in which a turn comes to them; those in -ing are in the midst of a step.
POINTS = (
    "frozen", "exporting", "exported", "training", "trained", "registered", "judging", "judged",
    "promoted",
)  # fmt: skip
NEVER = "never"
# What a turn that ends with a promotion does, each of it once.
ACTS = (
    "retraining.begun", "suite.frozen", "dataset.exported", "model.registered", "model.judged",
    "model.promoted", "retraining.promoted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """What a data folder says of its turns; `acts` counts the rows of the audit trail."""

    step: str | None  # of the turn that is not finished
    outcomes: tuple[str | None, ...]
    models: int
    champion: str  # its name, or what is wrong with it
    acts: dict[str, int]
    trail_holds: bool

    @property
    def is_whole(self) -> bool:
        return self.trail_holds and self.champion in ("the base", "diag-v1")

    @property
    def is_done_once(self) -> bool:
        once = all(self.acts.get(act) == 1 for act in ACTS)
        return once and self.models == 1 and self.step is None and self.outcomes == ("promoted",)


def standing(settings: Settings) -> Standing:
    """What the data folder says now."""
    with learned.opened(settings) as (store, _):
        unfinished = retrainings.unfinished(store)
        rows = audit.entries(store, limit=10_000)
        return Standing(
            step=unfinished.step if unfinished else None,
            outcomes=tuple(run.outcome for run in retrainings.latest(store)),
            models=len(registry.every(store)),
            champion=_champion(settings, registry.pointer(store), registry.every(store)),
            acts=dict(Counter(row.act for row in rows if row.actor == learned.ACTOR)),
            trail_holds=audit.verify(store).ok,
        )


def run(
    settings: Settings, bases: Path, point: str = NEVER, by: signal.Signals = signal.SIGKILL
) -> int:
    """A turn in a process that ends at this point; how the process ended, as `Popen` says it."""
    words = [sys.executable, "-m", "tests.killed", str(settings.home), str(bases), point, by.name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL, TERMINATED):
        raise AssertionError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.returncode


def deadly(point: str, settings: Settings, by: signal.Signals = signal.SIGKILL) -> Telling:
    """What ends this process when the turn comes to this point."""

    def die(holds: bool) -> None:
        if holds:
            os.kill(os.getpid(), by)

    def at(what: str, done: int, total: int) -> None:
        die(point == "exporting" and what == "exporting" and 2 * done >= total)
        die(point == "judging" and what.startswith("diag-") and done > 0)

    def training(step: object) -> None:
        folders = settings.runs.glob("*/checkpoints")
        die(point == "training" and any(whole_checkpoint(folder) for folder in folders))

    def done(step: str) -> None:
        die(step == point)

    return Telling(at=at, training=training, done=done)


def _champion(
    settings: Settings, pointer: registry.Pointer, models: list[registry.Registered]
) -> str:
    if pointer.champion is None:
        return "the base"
    model = next(m for m in models if m.version == pointer.champion)
    try:
        adapters.verify(settings.home / model.folder, model.base_hash, model.prompt_hash)
    except adapters.AdapterUnsound as error:
        return str(error)
    return model.name


def main(home: str, bases: str, point: str, by: str = "SIGKILL") -> None:
    found = learned.settings(Path(home), Path(bases), TRAINING_AUTO_PROMOTE="true")
    telling = deadly(point, found, signal.Signals[by])
    with stoppable():
        ended = learned.turn(found, rules=learned.EASY, telling=telling)
    print(ended.outcome, ended.words)


if __name__ == "__main__":
    main(*sys.argv[1:])
