"""One turn of the learning loop: its steps in their order, each done once, however often begun.

    begun → frozen → exported → trained → registered → judged → (told) → (promoted) → finished

What is served changes at the promotion alone, by one transaction.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from eval.compare import SliceScore
from eval.evidence import Rules
from eval.examination import Examined, Model, dev_score, examine
from eval.pictures import draw
from eval.suite import Suite, frozen
from ingest import retrainings
from ingest.errors import Unknown
from ingest.lessons import embargoed, taught
from ingest.retrainings import Retraining
from ingest.store import Store
from retrieval.index import Index
from retrieval.prompt import prompt_hash
from serving.settings import Settings
from training import adapters, base, dataset, registry, tracking
from training.fit import Diverged, Step
from training.mlflow_place import MlflowUnreachable, Place
from training.model import Loaded, load_base
from training.recipe import Recipe
from training.registry import Pointer, Registered
from training.split import freeze
from training.train import TooLittle, Trained, train

Outcome = Literal[
    "promoted", "passed", "held", "inconclusive", "too little", "not due", "busy", "diverged"
]
EXIT: dict[Outcome, int] = {
    "promoted": 0,
    "passed": 10,
    "held": 11,
    "inconclusive": 12,
    "too little": 13,
    "not due": 14,
    "busy": 15,
    "diverged": 16,
}
_OF_VERDICT: dict[str, Outcome] = {
    "pass": "passed", "fail": "held", "inconclusive": "inconclusive"
}  # fmt: skip
_NO_CASES = (
    "there are too few resolved incidents to keep any out as cases (a family needs 5): nothing "
    "could be proved of a model, so none is made"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one turn ended; `report` is the gate's, where it came to that."""

    outcome: Outcome
    words: str
    version: int | None = None
    run: str | None = None
    examined: Examined | None = None
    waits_for_mlflow: str | None = None

    @property
    def exit_code(self) -> int:
        return EXIT[self.outcome]


@dataclass(frozen=True, slots=True)
class Telling:
    """Where a turn says what it does: a line, how far a step is, a training step, a step's end."""

    note: Callable[[str], None] = lambda line: None
    at: Callable[[str, int, int], None] = lambda what, done, total: None
    training: Callable[[Step], None] = lambda step: None
    done: Callable[[str], None] = lambda step: None


@dataclass(slots=True)
class Turn:
    """The steps of one turn, each of which does nothing when it was done before."""

    store: Store
    index: Index
    settings: Settings
    actor: str
    recipe: Recipe
    rules: Rules
    telling: Telling
    _base: Loaded | None = None

    def finish(self, run: Retraining) -> Ended:
        """All steps in their order, whatever was done of them already."""
        run = self.freeze(run)
        if not run.detail["suite"]:
            retrainings.finish(self.store, run, "too little", actor=self.actor)
            return Ended("too little", _NO_CASES)
        suite, newest = self.suite(run)
        run, data = self.export(run)
        try:
            run, trained = self.train(run, data, suite, newest)
        except TooLittle as error:
            retrainings.finish(self.store, run, "too little", actor=self.actor)
            return Ended("too little", str(error))
        except Diverged as error:
            retrainings.finish(self.store, run, "diverged", actor=self.actor)
            return Ended("diverged", str(error))
        run, model = self.register(run, trained, data.name)
        run, examined, at = self.judge(run, model, suite, newest, data)
        waits = self.tell(trained, examined)
        outcome, words = self.promote(model, examined, at)
        retrainings.finish(self.store, run, outcome, actor=self.actor)
        waits = self.mirror() if waits is None else waits
        return Ended(outcome, words, model.version, trained.name, examined, waits)

    def freeze(self, run: Retraining) -> Retraining:
        """The newest incidents of each family become cases, of a new era and a new suite."""
        if "suite" in run.detail:
            return run
        if "next" not in run.detail:
            # Noted first: cut off after the embargo, the next call has to ask for the same era.
            held = embargoed(self.store).values()
            era = max((case.era for case in held), default=0) + 1
            version = max((case.suite for case in held), default=0) + 1
            run = retrainings.advance(
                self.store, run, "begun", actor=self.actor, next=[era, version]
            )
        era, version = run.detail["next"]
        fresh = freeze(
            self.store, self.index, era=era, suite=version, actor=self.actor,
            known=learned(self.store, self.settings) | spared(self.store),
        )  # fmt: skip
        if not fresh:
            era, version = era - 1, version - 1
        self.telling.note(f"{len(fresh)} incidents kept out as cases of era {era}")
        return retrainings.advance(
            self.store, run, "frozen", actor=self.actor, era=era, suite=version
        )

    def suite(self, run: Retraining) -> tuple[Suite, str]:
        """The suite of this turn, and the cohort in it that is to be learned."""
        folder = self.settings.home / "suite"
        suite = frozen(self.store, self.index, folder, version=run.detail["suite"])
        self.telling.done("frozen")
        return suite, f"era {run.detail['era']}"

    def export(self, run: Retraining) -> tuple[Retraining, dataset.Exported]:
        """The dataset that this turn began with, or one made now."""
        folder = self.settings.datasets
        with contextlib.suppress(Unknown):  # withdrawn since: an incident of it was forgotten
            if "dataset" in run.detail:
                return run, dataset.opened(self.store, folder, run.detail["dataset"])
        data = dataset.export(
            self.store, self.index, folder, actor=self.actor, base_taught=self.base_families(),
            progress=lambda done, total: self.telling.at("exporting", done, total),
        )  # fmt: skip
        self.telling.note(f"{data.name}: {data.manifest['rows']} rows")
        run = retrainings.advance(self.store, run, "exported", actor=self.actor, dataset=data.name)
        self.telling.done("exported")
        return run, data

    def train(
        self, run: Retraining, data: dataset.Exported, suite: Suite, newest: str
    ) -> tuple[Retraining, Trained]:
        """The adapter of this dataset, going on from the champion that stood when it began."""
        parent = run.detail["champion"]
        champion = registry.get(self.store, parent) if parent else None
        trained = train(
            data.rows(),
            dataset=data.name,
            taught=self.already_taught(champion),
            base=self.base(),
            champion=self.settings.home / champion.folder if champion else None,
            recipe=self.recipe,
            runs=self.settings.runs,
            dev=dev_score(suite, newest),
            least_rows=self.settings.training.least_rows,
            progress=self.telling.training,
            note=self.telling.note,
        )
        run = retrainings.advance(
            self.store, run, "trained", actor=self.actor, trained=trained.name
        )
        self.telling.done("trained")
        return run, trained

    def register(
        self, run: Retraining, trained: Trained, data: str
    ) -> tuple[Retraining, Registered]:
        """The adapter in its own folder, for good, and known to the store, not judged yet."""
        told = trained.adapter
        place = self.settings.home / "adapters" / told.sha256[:16]
        if not (place / adapters.MANIFEST).is_file():
            adapters.copied(trained.folder / "adapter", place)
        adapters.verify(place, self.base().base_hash, prompt_hash())
        model = registry.register(
            self.store, dataset=data, base_hash=told.base_hash, prompt_hash=told.prompt_hash,
            adapter_sha256=told.sha256, folder=str(place.relative_to(self.settings.home)),
            run_id=trained.name, parent=run.detail["champion"], verdict=None, report={},
            metrics={}, actor=self.actor,
        )  # fmt: skip
        run = retrainings.advance(
            self.store, run, "registered", actor=self.actor, version=model.version
        )
        self.telling.done("registered")
        return run, model

    def judge(
        self,
        run: Retraining,
        model: Registered,
        suite: Suite,
        newest: str,
        data: dataset.Exported,
    ) -> tuple[Retraining, Examined, Pointer]:
        """The gate's verdict, kept with the model; beside whoever is champion now.

        Beside the champion before where the model was promoted already, by this turn before it was
        cut off: its verdict stays what it was.
        """
        at = registry.pointer(self.store)
        beside = run.detail.get("beside") if at.champion == model.version else at.champion
        champion = registry.get(self.store, beside) if beside else None
        examined = examine(
            suite,
            base=self.base(),
            challenger=self.model_of(model),
            champion=self.model_of(champion) if champion else None,
            rows=data.rows(),
            newest=newest,
            past=past_slices(self.store, but=model.version),
            evals=self.settings.evals,
            rules=self.rules,
            progress=self.telling.at,
        )
        registry.judge(
            self.store, model.version, verdict=examined.verdict.outcome, report=examined.report,
            metrics=examined.metrics, actor=self.actor,
        )  # fmt: skip
        run = retrainings.advance(
            self.store, run, "judged", actor=self.actor, verdict=examined.verdict.outcome,
            beside=beside,
        )  # fmt: skip
        self.telling.done("judged")
        return run, examined, at

    def promote(self, model: Registered, examined: Examined, at: Pointer) -> tuple[Outcome, str]:
        """Promotion by the job itself: only with `auto_promote`, and only what passed.

        Raises `Moved` where a person moved the pointer since: the next call judges it anew.
        """
        outcome = _OF_VERDICT[examined.verdict.outcome]
        if outcome != "passed" or not self.settings.training.auto_promote:
            return outcome, examined.words
        try:
            registry.promote(
                self.store, model.version, actor=self.actor,
                reason=f"passed the gate on suite {examined.report['measured_on']['suite']}",
                expected=None if at.champion == model.version else at.revision,
            )  # fmt: skip
        except (registry.Frozen, registry.NotPromotable) as error:
            return outcome, f"{examined.words} It is not promoted: {error}."
        self.telling.done("promoted")
        return "promoted", examined.words

    def tell(self, trained: Trained, examined: Examined) -> str | None:
        """MLflow's copy of the run; why it waits, where MLflow cannot be reached now."""
        draw(trained.folder, examined, history(self.store, examined))
        finished = tracking.Finished(run=trained.name, evaluations=(examined.folder.name,))
        tracking.leave(self.settings.home, finished)
        return self.mirror()

    def mirror(self) -> str | None:
        """What waits for MLflow, and its aliases as the store's pointer is; why not, if not."""
        self.telling.note("telling MLflow")
        try:
            tracking.flush(place_of(self.settings), self.store)
        except MlflowUnreachable as error:
            return str(error)
        return None

    def base(self) -> Loaded:
        if self._base is None:
            self._base = loaded_base(self.settings, four_bit=self.recipe.four_bit)
        return self._base

    def base_families(self) -> list[str]:
        return offline(self.settings).families if self.is_offline else []

    def already_taught(self, champion: Registered | None) -> set[str]:
        """The incidents that the champion was taught, and those that the offline base was."""
        known: set[str] = set()
        if self.is_offline:
            known |= taught(self.store, offline(self.settings).dataset)
        if champion and champion.dataset:
            known |= taught(self.store, champion.dataset)
        return known

    @property
    def is_offline(self) -> bool:
        return self.settings.training.base == base.NAME

    def model_of(self, registered: Registered) -> Model:
        return Model(
            registered.name, self.settings.home / registered.folder, registered.adapter_sha256
        )


def learned(store: Store, settings: Settings) -> set[str]:
    """The incidents that some model was taught, promoted or not, or the offline base."""
    named = {m.dataset for m in registry.every(store)} - {None}
    if settings.training.base == base.NAME:
        named.add(offline(settings).dataset)
    return set().union(*(taught(store, str(name)) for name in named))


def spared(store: Store) -> set[str]:
    """The incidents that an earlier turn left for training, though no model came of it: a turn
    that takes its share of them again, and again, would leave nothing to learn from."""
    names = retrainings.exported(store)
    return set().union(*(taught(store, name) for name in names))


def past_slices(store: Store, *, but: int | None = None) -> list[SliceScore]:
    """What every model that was ever promoted reached, `but` this one, as the gate measured it."""
    promoted = [m for m in registry.every(store) if m.promoted_at and m.version != but]
    return [SliceScore(**told) for m in promoted for told in m.report.get("slice_scores", [])]


def history(store: Store, examined: Examined) -> list[list[SliceScore]]:
    """The slices of the base, of every model promoted since, and of this one."""
    ours = examined.report["challenger"]
    reports = [m.report for m in registry.every(store) if m.promoted_at and m.name != ours]
    told = [r["slice_scores"] for r in (*reports, examined.report) if "slice_scores" in r]
    return [
        [SliceScore(**one) for one in slices]
        for slices in (examined.report["base_slice_scores"], *told)
    ]


def offline(settings: Settings) -> base.Base:
    """The offline base of this data folder. `ModelUnsound` until it is built."""
    return base.opened(base.named(settings.bases))


def loaded_base(settings: Settings, *, four_bit: bool = False) -> Loaded:
    """The base that the settings name, in memory."""
    knobs = settings.training
    name = str(offline(settings).folder) if knobs.base == base.NAME else knobs.base
    return load_base(
        name, revision=knobs.revision, device=knobs.device, dtype=knobs.dtype, four_bit=four_bit
    )


def place_of(settings: Settings) -> Place:
    """Where MLflow is, by the settings."""
    knobs = settings.mlflow
    return Place(settings.home, knobs.uri, knobs.experiment, knobs.model)
