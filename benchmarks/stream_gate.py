"""What the gate says of the streams' adapters: each era's challenger, judged as it would be.

A head writes no text, so it has no probes, canaries or red-team answers, and its weights never
leave the process: only the checks that compare are heard. What is served without a model is the
nearest case's answer, copied; that is the base's answer with retrieval, and the arm to beat.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from eval.compare import SliceScore, slice_scores
from eval.evidence import Check, Evidence, Finding, Integrity, Outcome
from eval.gate import judge
from eval.score import Arm as Way
from eval.score import Prediction
from eval.transcript import Header, Transcript
from retrieval.prompt import Reply, written

if TYPE_CHECKING:
    from benchmarks.stream_cases import Stream
    from benchmarks.stream_table import Arm

HEARD: tuple[Check, ...] = ("gain", "retention", "each slice", "anchor", "retrieval", "copying")
_UNSEEN = Integrity(
    finite_weights=None, weights_moved=None, keys_match=None, checksums_match=None,
    base_matches=None, prompt_matches=None, overlap=None, smoke_asked=0, smoke_valid=0,
)  # fmt: skip
Said = Sequence[str | None]
Answering = Callable[[int, int], Said]


def judged(
    stream: "Stream", arms: Mapping[str, "Arm"], copy: str
) -> dict[str, tuple[str, list[str]]]:
    """By strategy: the verdicts over the eras in short, and the reasons of the last one.

    The first seed of each strategy stands for it; promoted is only what passed.
    """
    found = {}
    for name, arm in arms.items():
        beside = arms.get(f"{name} + neighbours")
        if beside and arm.served and beside.served:
            found[name] = _walked(stream, name, arm.served, beside.served, arms[copy].said[0])
    return found


def _walked(
    stream: "Stream",
    name: str,
    alone: Answering,
    served: Answering,
    copies: Sequence[Said],
) -> tuple[str, list[str]]:
    """Era after era; a champion that was promoted answers with what is stored by then."""
    champion: int | None = None
    past: list[SliceScore] = []
    told: list[Outcome] = []
    reasons: list[str] = []
    last = len(stream.eras)
    for era in [last] if name == "joint" else range(1, last + 1):
        here = alone(era, era), served(era, era)
        challenger = _transcript(stream, f"{name} {era}", era, *here)
        nobody: Said = [None] * len(stream.test)
        base = _transcript(stream, "copying", era, nobody, copies[era - 1])
        before = None
        if champion:
            then = alone(champion, era), served(champion, era)
            before = _transcript(stream, f"{name} {champion}", era, *then)
        evidence = Evidence(
            challenger=challenger, champion=before, base=base, newest=f"era {era}",
            retained=tuple(f"era {n}" for n in range(1, era)), integrity=_UNSEEN,
            past=tuple(past), copied=base,
        )  # fmt: skip
        heard = [f for f in judge(evidence).findings if f.check in HEARD]
        told.append(_outcome(heard))
        held = sorted((f for f in heard if _holds(f)), key=_weight)
        reasons = [f"{f.ruling}, {f.check}: {f.words}" for f in held]
        if told[-1] == "pass":
            champion = era
            past += slice_scores(challenger)
    return ", ".join(f"{told.count(o)} {o}" for o in dict.fromkeys(told)), reasons


def _outcome(heard: Sequence[Finding]) -> Outcome:
    rulings = {f.ruling for f in heard}
    return "fail" if "fail" in rulings else "inconclusive" if "inconclusive" in rulings else "pass"


def _holds(finding: Finding) -> bool:
    return finding.ruling in ("fail", "inconclusive")


def _weight(finding: Finding) -> tuple[bool, int]:
    """Harm first; of equals, what compares with copying first."""
    return finding.ruling != "fail", -HEARD.index(finding.check)


def _transcript(stream: "Stream", model: str, era: int, alone: Said, served: Said) -> Transcript:
    """What was answered of all eras so far, in both arms, as any model's answers are kept."""
    header = Header(
        model=model, base_hash="minilm", adapter_sha256=None, suite=stream.name,
        suite_hash=f"{stream.name} to era {era}", prompt_hash="lines", decode={"head": True},
    )  # fmt: skip
    ways: list[tuple[Way, Said]] = [("closed_book", alone), ("retrieval", served)]
    return Transcript(header, tuple(
        _prediction(stream, n, way, said[n])
        for way, said in ways
        for n, case in enumerate(stream.test)
        if case.era <= era
    ))  # fmt: skip


def _prediction(stream: "Stream", n: int, way: Way, said: str | None) -> Prediction:
    case = stream.test[n]
    reply = Reply(status="known", cause=said) if said else Reply(status="novel")
    right = float(said == case.answer)
    return Prediction(
        case=case.id, suite=stream.name, cohort=f"era {case.era}", family=case.answer,
        task="known", arm=way, slice="gate", cluster=case.answer, text=written(reply),
        scores={"cause": right}, why="the answer on record" if right else f"not {case.answer}",
    )  # fmt: skip
