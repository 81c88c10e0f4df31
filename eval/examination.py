"""The examination: a challenger beside the champion and the base, replayed, judged and written up.

Everything is kept under `evals/`: the answers of each model on each suite, and for the challenger
`gate.json`, `gate.md`, `arms.json`, `slices.json` and `figures.json`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.carrying import known_answers
from eval.cases import Case
from eval.compare import SliceScore, arms_of, slice_scores
from eval.copying import copied
from eval.evidence import Evidence, Integrity, Rules, Verdict
from eval.figures import FIGURES, figures
from eval.gate import judge
from eval.overlap import overlap
from eval.replay import Asking, folder_of, header_of, predictions, replay
from eval.report import as_dict, in_one_sentence, markdown
from eval.score import Arm, outcome
from eval.speaking import Base, decode_of, speaking
from eval.suite import Suite
from eval.transcript import Transcript
from ingest.errors import Unreadable
from retrieval.prompt import Prompt, parsed, prompt_hash
from training import adapters
from training.folders import in_our_words
from training.rows import Row
from training.train import DevScore

BASE = "base"
SMOKE = 16
ARMS: tuple[Arm, ...] = ("closed_book", "retrieval")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Model:
    """An adapter that may be asked: its name, its folder and its weights' hash."""

    name: str
    folder: Path
    sha256: str

    @classmethod
    def of(cls, name: str, folder: Path) -> "Model":
        return cls(name, folder, adapters.manifest(folder).sha256)


@dataclass(frozen=True, slots=True)
class Examined:
    """The verdict with its report as JSON, and the telling numbers first in `metrics`."""

    verdict: Verdict
    words: str
    report: dict[str, Any]
    metrics: dict[str, float]
    folder: Path


def examine(
    suite: Suite,
    *,
    base: Base,
    challenger: Model,
    champion: Model | Transcript | None,
    rows: Sequence[Row],
    newest: str,
    past: Sequence[SliceScore],
    evals: Path,
    rules: Rules = Rules(),  # noqa: B008
    progress: Progress | None = None,
) -> Examined:
    """The gate's verdict on the challenger; finished replays are read, not asked again.

    `rows` are all that may have been taught: none may be a case of the suite. A champion that
    cannot be asked any more, since its base is another, comes as what it answered to this suite.
    """
    base_said = replayed(suite, base, None, evals, progress)
    champion_said = champion if isinstance(champion, Transcript) else None
    if isinstance(champion, Model):
        champion_said = replayed(suite, base, champion, evals, progress)
    soundness = integrity(suite, base, challenger, rows)
    said = replayed(suite, base, challenger, evals, progress)
    cohorts = cohorts_of(suite)
    evidence = Evidence(
        challenger=said,
        champion=champion_said,
        base=base_said,
        newest=newest,
        retained=tuple(c for c in cohorts if c != newest),
        integrity=soundness,
        past=tuple(past),
        copied=copied(suite),
        meanings=suite.manifest.meanings,
    )
    verdict = judge(evidence, rules)
    report = as_dict(verdict, evidence, rules)
    report["slice_scores"] = [asdict(s) for s in slice_scores(said)]
    report["base_slice_scores"] = [asdict(s) for s in slice_scores(base_said)]
    # As the store gives it back: the same examination again must compare as the same.
    report = json.loads(json.dumps(report))
    folder = folder_of(evals, challenger.name, suite.name)
    _written(folder, verdict, evidence, report)
    metrics = telling(said, newest, evidence.retained)
    return Examined(verdict, in_one_sentence(verdict), report, metrics, folder)


def replayed(
    suite: Suite, base: Base, model: Model | None, evals: Path, progress: Progress | None = None
) -> Transcript:
    """All that this model, or the base alone, answers to the suite; kept, and read when it is.

    What it answered to the same case of another version is not asked again.
    """
    name = model.name if model else BASE
    header = header_of(
        suite,
        model=name,
        base_hash=base.base_hash,
        adapter_sha256=model.sha256 if model else None,
        decode=decode_of(base),
    )

    def told(arm: Arm, done: int, total: int) -> None:
        if progress:
            progress(f"{name}, {arm.replace('_', ' ')}", done, total)

    with speaking(base, name, model.folder if model else None) as speaker:
        return replay(
            suite,
            header=header,
            answer=speaker.answer,
            nll=speaker.nll,
            out=folder_of(evals, name, suite.name),
            taken=lambda: known_answers(suite, header, evals),
            progress=told,
        )


def dev_score(
    suite: Suite, newest: str
) -> Callable[[Callable[[Sequence[Prompt]], list[str]]], DevScore]:
    """What the sweep asks of a share of ΔW: the dev slice of every era, both arms together."""
    eras = set(cohorts_of(suite))

    def score(answer: Callable[[Sequence[Prompt]], list[str]]) -> DevScore:
        asking = Asking(suite, answer, None, {})
        new: list[float] = []
        kept: list[float] = []
        for arm in ARMS:
            cases = [c for c in suite.of(arm, "dev") if c.cohort in eras]
            for prediction in predictions(asking, arm, cases):
                value = outcome(prediction)
                if value is not None:
                    (new if prediction.cohort == newest else kept).append(value)
        return DevScore(_mean(new), _mean(kept))

    return score


def cohorts_of(suite: Suite) -> list[str]:
    """The eras that the suite holds, the oldest first."""
    named = {case.cohort for case in suite.cases if case.cohort.startswith("era ")}
    return sorted(named, key=lambda cohort: int(cohort.removeprefix("era ")))


def integrity(suite: Suite, base: Base, challenger: Model, rows: Sequence[Row]) -> Integrity:
    """What is found on the adapter and on what it was taught, before any case is compared."""
    try:
        told = adapters.verify(challenger.folder, base.base_hash, prompt_hash())
    except adapters.AdapterUnsound as error:
        return Integrity(
            finite_weights=None, weights_moved=None, keys_match=None, checksums_match=False,
            base_matches=None, prompt_matches=None, overlap=None, smoke_asked=0, smoke_valid=0,
            why=str(error),
        )  # fmt: skip
    asked, valid = _smoke(suite, base, challenger)
    return Integrity(
        finite_weights=True,
        weights_moved=True,
        keys_match=len(told.keys) > 0,
        checksums_match=True,
        base_matches=told.base_hash == base.base_hash,
        prompt_matches=told.prompt_hash == prompt_hash(),
        overlap=overlap(suite, rows),
        smoke_asked=asked,
        smoke_valid=valid,
    )


def telling(said: Transcript, newest: str, retained: Sequence[str]) -> dict[str, float]:
    """The few numbers by which models are compared at a glance, the most telling first."""
    slices = {(s.cohort, s.arm): s for s in slice_scores(said)}
    new = slices.get((newest, "retrieval"))
    told = {"new cohort": new.share} if new else {}
    old = [s for (cohort, arm), s in slices.items() if cohort in retained and arm == "retrieval"]
    if old:
        told["kept"] = sum(s.share * s.n for s in old) / sum(s.n for s in old)
    closed = [s for (c, arm), s in slices.items() if c.startswith("era ") and arm == "closed_book"]
    if closed:
        told["closed book"] = sum(s.share * s.n for s in closed) / sum(s.n for s in closed)
    if general := slices.get(("general", "closed_book")):
        told["general"] = general.share
    return {name: round(value, 4) for name, value in told.items()}


def _smoke(suite: Suite, base: Base, challenger: Model) -> tuple[int, int]:
    """How many of some prompts are answered in the agreed form."""
    cases: list[Case] = [c for c in suite.of("retrieval") if c.form == "diagnosis"][:SMOKE]
    with speaking(base, challenger.name, challenger.folder) as speaker:
        texts = speaker.answer([c.prompt("retrieval") for c in cases])
    return len(cases), sum(map(_is_formed, texts))


def _is_formed(text: str) -> bool:
    try:
        parsed(text)
    except Unreadable:
        return False
    return True


def _written(folder: Path, verdict: Verdict, evidence: Evidence, report: Mapping[str, Any]) -> None:
    rows = arms_of(evidence.base, evidence.challenger, evidence.eras, copied=evidence.copied)
    with in_our_words(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _json(folder / "arms.json", [asdict(row) for row in rows])
        _json(folder / "slices.json", report["slice_scores"])
        said = [one for one in (evidence.base, evidence.champion, evidence.challenger) if one]
        firsts = [telling(one, evidence.newest, evidence.retained) for one in said]
        _json(folder / FIGURES, figures(said, firsts))
        _json(folder / "gate.json", report)
        (folder / "gate.md").write_text(markdown(verdict, evidence), encoding="utf-8")


def _json(path: Path, told: Any) -> None:
    path.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
