"""Transcripts for the tests of comparison, gate and report: who got which cases wrong."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from eval.compare import ARMS
from eval.evidence import Evidence, Integrity
from eval.score import Arm, CaseTask, Prediction
from eval.transcript import Header, Transcript

ERAS = ("era 0", "era 1", "era 2")
FAMILIES = 12
SIZES = dict.fromkeys(ERAS, 120)
PROBES: dict[str, tuple[CaseTask, int]] = {
    "general": ("general", 64),
    "format": ("format", 32),
    "no fault": ("no_fault", 30),
    "red team": ("red_team", 64),
    "canary": ("canary", 8),
}
MAIN = {"general": "right", "format": "format", "no_fault": "abstained", "red_team": "safe"}

# (cohort, arm): the numbers of the cases that the model gets wrong.
Wrong = Mapping[tuple[str, Arm], range | set[int]]

HEADER = Header(
    model="base",
    base_hash="b" * 16,
    adapter_sha256=None,
    suite="v3",
    suite_hash="5" * 64,
    prompt_hash="p" * 16,
    decode={"max_new_tokens": 96},
)
SOUND = Integrity(
    finite_weights=True,
    weights_moved=True,
    keys_match=True,
    checksums_match=True,
    base_matches=True,
    prompt_matches=True,
    overlap=0,
    smoke_asked=16,
    smoke_valid=16,
)


def prediction(cohort: str, arm: Arm, n: int, **fields: Any) -> Prediction:
    """The n-th case of a cohort, answered; ten cases in a row share a family."""
    family = f"{cohort} family {n // 10 % FAMILIES}"
    told: dict[str, Any] = {
        "case": f"{cohort}-{n}",
        "suite": "v3",
        "cohort": cohort,
        "family": family,
        "task": "known",
        "arm": arm,
        "slice": "gate",
        "cluster": family,
        "text": "{}",
        "scores": {"cause": 1.0, "forbidden": 0.0, "obeyed": None},
        "why": "the cause on record",
    }
    return Prediction(**{**told, **fields})


def transcript(
    model: str, wrong: Wrong | None = None, *, sizes: Mapping[str, int] = SIZES
) -> Transcript:
    """All cases right but the `wrong` ones, the probes among them; nothing unsafe."""
    header = HEADER.model_copy(update={"model": model, "adapter_sha256": f"sha of {model}"})
    return Transcript(header, tuple(_answers(wrong or {}, sizes)))


def changed(told: Transcript, cohort: str, arm: Arm, **fields: Any) -> Transcript:
    """The same with these fields in every prediction of one slice."""
    return replace(
        told,
        predictions=tuple(
            p.model_copy(update=fields) if (p.cohort, p.arm) == (cohort, arm) else p
            for p in told.predictions
        ),
    )


def without(told: Transcript, cohort: str, arm: Arm) -> Transcript:
    """The same without one slice."""
    kept = tuple(p for p in told.predictions if (p.cohort, p.arm) != (cohort, arm))
    return replace(told, predictions=kept)


def both_arms(cohort: str, numbers: range | set[int]) -> dict[tuple[str, Arm], range | set[int]]:
    """The same cases wrong closed book and with retrieval."""
    return {(cohort, arm): numbers for arm in ARMS}


def copying(told: Transcript) -> Transcript:
    """The nearest precedents' answers to the same cases: every other one right."""
    asked = [p for p in told.predictions if p.arm == "retrieval"]
    answers = [
        p.model_copy(update={"scores": {"cause": float(n % 2)}}) for n, p in enumerate(asked)
    ]
    header = told.header.model_copy(update={"model": "nearest precedent", "adapter_sha256": None})
    return Transcript(header, tuple(answers))


UNTAUGHT: Wrong = {("era 2", "closed_book"): range(120), ("era 2", "retrieval"): range(60)}


def evidence(challenger: Transcript, **fields: Any) -> Evidence:
    """Eras 0 and 1 known, era 2 to be learned: the champion has half of it with retrieval."""
    lost = {("era 1", "closed_book"): range(120), ("era 1", "retrieval"): range(40)}
    told: dict[str, Any] = {
        "challenger": challenger,
        "champion": transcript("diag-v1", UNTAUGHT),
        "base": transcript("base", {**UNTAUGHT, **lost}),
        "newest": "era 2",
        "retained": ("era 0", "era 1"),
        "integrity": SOUND,
    }
    told |= fields
    return Evidence(**{"copied": copying(told["base"]), **told})


def _answers(wrong: Wrong, sizes: Mapping[str, int]) -> Iterator[Prediction]:
    for cohort, size in sizes.items():
        for arm in ARMS:
            bad = wrong.get((cohort, arm), set())
            for n in range(size):
                scores = {"cause": float(n not in bad), "forbidden": 0.0, "obeyed": None}
                yield prediction(cohort, arm, n, scores=scores)
    for cohort, (task, size) in PROBES.items():
        bad = wrong.get((cohort, "closed_book"), set())
        for n in range(size):
            scores = {"forbidden": 0.0, "obeyed": 0.0 if task == "red_team" else None}
            scores |= {"exposure_bits": 1.5} if task == "canary" else {}
            scores |= {MAIN[task]: float(n not in bad)} if task in MAIN else {}
            name = f"{cohort}-{n}"
            yield prediction(cohort, "closed_book", n, task=task, cluster=name, scores=scores)
