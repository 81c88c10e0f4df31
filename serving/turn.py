"""One turn of the learning loop: its steps in their order, each done once, however often begun.

    begun → frozen → exported → trained → registered → judged → (promoted) → finished → (told)

What is served changes at the promotion alone, by one transaction, and never against what a person
did with the pointer since the turn began.
"""

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from eval.compare import SliceScore
from eval.evidence import Rules
from eval.examination import Examined, Model, dev_score, examine
from eval.pictures import draw
from eval.replay import folder_of, kept_replay
from eval.suite import Suite, SuiteUnsound, frozen, read_suite, suite_versions
from eval.transcript import Transcript
from ingest import retrainings
from ingest.errors import Unavailable, Unknown, Unreadable
from ingest.lessons import embargoed, taught
from ingest.retrainings import Retraining
from ingest.store import Store
from retrieval.index import Index
from retrieval.prompt import prompt_hash
from serving.footing import (
    already_taught,
    apart,
    dataset_of_base,
    families_of_base,
    loaded_base,
)
from serving.outcome import EXIT, Outcome
from serving.settings import Settings
from serving.there import asked_base
from training import adapters, dataset, registry, succession, tracking
from training.fit import Diverged, Step
from training.mlflow_place import Place
from training.model import Loaded
from training.recipe import Recipe
from training.registry import Registered
from training.split import freeze
from training.train import CHOSEN, TooLittle, Trained, train

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
        run, examined = self.judge(run, model, suite, newest, data)
        self.draw(trained, examined)
        outcome, words = self.promote(run, model, examined)
        retrainings.finish(self.store, run, outcome, actor=self.actor)
        return Ended(outcome, words, model.version, trained.name, examined, self.tell())

    def freeze(self, run: Retraining) -> Retraining:
        """The newest incidents of each family become cases, of a new era and a new suite."""
        if "suite" in run.detail:
            return run
        if "next" not in run.detail:
            # Noted first: cut off after the embargo, the next call has to ask for the same era.
            held = embargoed(self.store).values()
            era = run.detail.get("again") or max((case.era for case in held), default=0) + 1
            # A suite may have no case of its own: then no case says that its number is taken.
            taken = [*(case.suite for case in held), *suite_versions(self.settings.suite)]
            version = max(taken, default=0) + 1
            run = retrainings.advance(
                self.store, run, "begun", actor=self.actor, next=[era, version]
            )
        era, version = run.detail["next"]
        fresh = freeze(
            self.store, self.index, era=era, suite=version, actor=self.actor,
            known=learned(self.store, self.settings) | spared(self.store),
        )  # fmt: skip
        if not fresh:
            era, version = era - 1, self.standing(version - 1)
        self.telling.note(f"{len(fresh)} incidents kept out as cases of era {era}")
        return retrainings.advance(
            self.store, run, "frozen", actor=self.actor, era=era, suite=version
        )

    def standing(self, version: int) -> int:
        """This version of the suite, or the one after it where it can be asked no more; else 0."""
        if not embargoed(self.store):
            return 0
        if version not in suite_versions(self.settings.suite):
            return version
        try:
            was = read_suite(self.settings.suite, version).manifest.prompt_hash
            why = None if was == prompt_hash() else "was frozen under another prompt"
        except SuiteUnsound as error:
            why = f"is damaged: {error}"
        if why is None:
            return version
        self.telling.note(f"suite v{version} {why}; v{version + 1} is frozen in its place")
        return version + 1

    def suite(self, run: Retraining) -> tuple[Suite, str]:
        """The suite of this turn, and the cohort in it that is to be learned."""
        folder = self.settings.suite
        suite = frozen(self.store, self.index, folder, version=run.detail["suite"])
        self.telling.done("frozen")
        return suite, f"era {run.detail['era']}"

    def export(self, run: Retraining) -> tuple[Retraining, dataset.Exported]:
        """The dataset that this turn began with, or one made now."""
        folder = self.settings.datasets
        # Withdrawn since, because an incident of it was forgotten; or its folder is gone.
        with contextlib.suppress(Unknown, Unreadable):
            if "dataset" in run.detail:
                return run, dataset.opened(self.store, folder, run.detail["dataset"])
        data = dataset.export(
            self.store, self.index, folder, actor=self.actor,
            base_taught=families_of_base(self.settings),
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
        parent = self.parent(run)
        if parent is None and run.detail["champion"]:
            was = registry.get(self.store, run.detail["champion"])
            self.telling.note(
                f"{apart(was, self.base().base_hash)}: this turn begins at the base itself and "
                f"teaches everything anew; {was.name} counts by what is kept of its answers"
            )
        trained = self.trained(data, suite, newest, parent)
        try:
            adapters.verify(trained.folder / CHOSEN, self.base().base_hash, prompt_hash())
        except adapters.AdapterUnsound as why:
            self.telling.note(f"{trained.name} is damaged and is trained once more: {why}")
            shutil.rmtree(trained.folder)
            trained = self.trained(data, suite, newest, parent)
        run = retrainings.advance(
            self.store, run, "trained", actor=self.actor, trained=trained.name
        )
        self.telling.done("trained")
        return run, trained

    def trained(
        self, data: dataset.Exported, suite: Suite, newest: str, parent: Registered | None
    ) -> Trained:
        """The run of this dataset on this parent, the one that is there where it was finished."""
        return train(
            data.rows(),
            dataset=data.name,
            taught=already_taught(self.store, self.settings, parent),
            base=self.base(),
            champion=self.settings.home / parent.folder if parent else None,
            recipe=self.recipe,
            runs=self.settings.runs,
            dev=dev_score(suite, newest),
            least_rows=self.settings.training.least_rows,
            progress=self.telling.training,
            note=self.telling.note,
        )

    def parent(self, run: Retraining) -> Registered | None:
        """The champion that stood when this turn began; None for the base, also where that
        champion is of another base or prompt, so that nothing can go on from it."""
        version, here = run.detail["champion"], self.base().base_hash
        champion = registry.get(self.store, version) if version else None
        if champion is None or apart(champion, here):
            return None
        try:
            adapters.verify(self.settings.home / champion.folder, here, prompt_hash())
        except adapters.AdapterUnsound as why:
            raise adapters.AdapterUnsound(
                f"nothing can go on from {champion.name}: {why}; or `scarwise rollback` first"
            ) from why
        return champion

    def register(
        self, run: Retraining, trained: Trained, data: str
    ) -> tuple[Retraining, Registered]:
        """The adapter in its own folder, for good, and known to the store, not judged yet."""
        told, parent = trained.adapter, self.parent(run)
        place = self.settings.home / "adapters" / told.sha256[:16]
        try:
            adapters.verify(place, self.base().base_hash, prompt_hash())
        except adapters.AdapterUnsound:  # not there yet, or damaged since
            adapters.copied(trained.folder / CHOSEN, place)
            adapters.verify(place, self.base().base_hash, prompt_hash())
        model = registry.register(
            self.store, dataset=data, base_hash=told.base_hash, prompt_hash=told.prompt_hash,
            adapter_sha256=told.sha256, folder=str(place.relative_to(self.settings.home)),
            run_id=trained.name, parent=parent.version if parent else None, verdict=None,
            report={}, metrics={}, actor=self.actor,
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
    ) -> tuple[Retraining, Examined]:
        """The gate's verdict, kept with the model; beside whoever is champion now.

        Of a model that was promoted already, by this turn before it was cut off or by a person,
        the verdict stays what it was: beside the champion before.
        """
        champion = registry.pointer(self.store).champion
        began = run.detail["champion"]
        beside = run.detail.get("beside", began) if model.promoted_at else champion
        here = self.base()
        with asked_base(self.settings, here.base_hash, here.tokenizer) as there:
            examined = examine(
                suite,
                base=there or here,
                challenger=self.model_of(model),
                champion=self.champion(beside, suite) if beside else None,
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
        return run, examined

    def champion(self, version: int, suite: Suite) -> Model | Transcript | None:
        """The champion to be asked; of another base, what it answered to this very suite, if it
        did; of another prompt nothing can be compared."""
        model = registry.get(self.store, version)
        if apart(model, self.base().base_hash) is None:
            return self.model_of(model)
        with contextlib.suppress(Unreadable):
            said = kept_replay(folder_of(self.settings.evals, model.name, suite.name))
            if said.header.suite_hash == suite.manifest.sha256:
                return said
        return None

    def promote(
        self, run: Retraining, model: Registered, examined: Examined
    ) -> tuple[Outcome, str]:
        """Promotion by the job itself: only with `auto_promote`, only what passed, and only while
        the champion is the one that the turn began with and the model was judged beside."""
        outcome = _OF_VERDICT[examined.verdict.outcome]
        if outcome != "passed":
            return outcome, examined.words
        if not self.settings.training.auto_promote:
            down = succession.taken_down(self.store, model.version)
            return ("overtaken", f"{examined.words} {down}.") if down else (outcome, examined.words)
        try:
            succession.succeed(
                self.store, model.version, began=run.detail["champion"],
                beside=run.detail["beside"], actor=self.actor,
                reason=f"passed the gate on suite {examined.report['measured_on']['suite']}",
            )  # fmt: skip
        except succession.Overtaken as error:
            return "overtaken", f"{examined.words} It is not promoted: {error}."
        except (registry.Frozen, registry.NotPromotable) as error:
            return outcome, f"{examined.words} It is not promoted: {error}."
        self.telling.done("promoted")
        return "promoted", examined.words

    def draw(self, trained: Trained, examined: Examined) -> None:
        """The pictures of this turn, and the note that MLflow is to be told of it."""
        draw(trained.folder, examined, history(self.store, examined))
        finished = tracking.Finished(run=trained.name, evaluations=(examined.folder.name,))
        tracking.leave(self.settings.home, finished)

    def tell(self) -> str | None:
        """Tell MLflow what waits, and who is champion; why it has to wait, where it has to."""
        self.telling.note("telling MLflow")
        try:
            tracking.flush(place_of(self.settings), self.store)
        except Unavailable as error:  # the turn has ended, and how is noted
            return str(error)
        return None

    def base(self) -> Loaded:
        if self._base is None:
            self._base = loaded_base(self.settings, four_bit=self.recipe.four_bit)
        return self._base

    def model_of(self, registered: Registered) -> Model:
        return Model(
            registered.name, self.settings.home / registered.folder, registered.adapter_sha256
        )


def learned(store: Store, settings: Settings) -> set[str]:
    """The incidents that some model was taught, promoted or not, or the offline base."""
    named = {m.dataset for m in registry.every(store)} | {dataset_of_base(settings)}
    return set().union(*(taught(store, str(name)) for name in named - {None}))


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


def place_of(settings: Settings) -> Place:
    """Where MLflow is, by the settings."""
    knobs = settings.mlflow
    return Place(settings.home, knobs.uri, knobs.experiment, knobs.model)
