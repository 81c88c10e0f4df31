"""Replay a suite: ask a model every case, score what it writes, and keep each answer.

A folder holds one finished transcript an arm, `<arm>.jsonl`; what was answered before a process
died waits in `<arm>.part` and is not asked again.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TextIO

from eval.cases import Case
from eval.probes import Nll, exposure
from eval.score import Arm, Prediction, Slice, normalised, scored
from eval.suite import Suite
from eval.transcript import Header, Transcript, read_transcript
from ingest.errors import Refused
from retrieval.prompt import Prompt, prompt_hash
from training.folders import in_our_words

Answer = Callable[[Sequence[Prompt]], Sequence[str]]
Progress = Callable[[Arm, int, int], None]  # so many cases of so many are answered in this arm

ARMS: tuple[Arm, ...] = ("closed_book", "retrieval")
AT_ONCE = 64  # cases; what a killed process has to ask again at most
DECODE: Mapping[str, str | int | float | bool] = {"max_new_tokens": 96, "constrained": True}


@dataclass(frozen=True, slots=True)
class Asking:
    """A suite and the model it is asked of: `answer` writes, `nll` tells nats per answer token."""

    suite: Suite
    answer: Answer
    nll: Nll | None
    families: Mapping[str, str]  # of a cause in its normalised form


def header_of(
    suite: Suite,
    *,
    model: str,
    base_hash: str,
    adapter_sha256: str | None,
    decode: Mapping[str, str | int | float | bool] = DECODE,
) -> Header:
    """What a transcript of this model on this suite is kept under."""
    return Header(
        model=model,
        base_hash=base_hash,
        adapter_sha256=adapter_sha256,
        suite=suite.name,
        suite_hash=suite.manifest.sha256,
        prompt_hash=suite.manifest.prompt_hash,
        decode=dict(decode),
    )


def folder_of(evals: Path, model: str, suite: str) -> Path:
    """Where the answers of this model on this suite are kept, by everybody who replays it."""
    return evals / f"{model.replace(' ', '-')}-{suite}"


def replay(
    suite: Suite,
    *,
    header: Header,
    answer: Answer,
    nll: Nll | None = None,
    out: Path,
    arms: Sequence[Arm] = ARMS,
    wanted: Slice | None = None,
    taken: Callable[[], Sequence[Prediction]] = tuple,
    progress: Progress | None = None,
) -> Transcript:
    """All answers of this model in these arms, kept in `out`, one transcript.

    An arm that is finished under this very header is read, one that was cut off goes on, and one
    of another header is made anew. `wanted` asks one slice only: keep it in a folder of its own.
    What is `taken` is not asked: answers of this very model to these cases (`carrying`), looked
    for once, and only when something is to be asked.
    `Refused` when the suite was frozen under another prompt, or is another than the header's.
    """
    _refuse_another(suite, header)
    asking = Asking(suite, answer, nll, families_of(suite))
    once = cache(taken)
    kept = [_arm(asking, header, arm, suite.of(arm, wanted), out, once, progress) for arm in arms]
    return kept[0].joined(*kept[1:])


def kept_replay(out: Path, arms: Sequence[Arm] = ARMS) -> Transcript:
    """What `replay` kept in this folder, without asking anything; `Unreadable` when it is not."""
    first, *others = (read_transcript(_finished(out, arm)) for arm in arms)
    return first.joined(*others)


def predictions(asking: Asking, arm: Arm, cases: Sequence[Case]) -> list[Prediction]:
    """These cases, all asked in this arm, answered and scored; nothing is kept."""
    prompts = [case.prompt(arm) for case in cases]
    texts = asking.answer(prompts)
    surprises = _surprises(asking.nll, arm, cases)
    exposures = [_exposure(asking.nll, case) for case in cases]
    return [
        prediction_of(asking.suite, asking.families, arm, *answered)
        for answered in zip(cases, texts, surprises, exposures, strict=True)
    ]


def prediction_of(
    suite: Suite,
    families: Mapping[str, str],
    arm: Arm,
    case: Case,
    text: str,
    nll: float | None,
    bits: float | None,
) -> Prediction:
    """This answer to this case, scored."""
    said = scored(text, case.expects(arm), families=families, nll=nll, exposure_bits=bits)
    return Prediction(
        case=case.id,
        suite=suite.name,
        cohort=case.cohort,
        family=case.family,
        task=case.expected.task,
        arm=arm,
        slice=case.slice,
        cluster=case.cluster,
        text=text,
        scores=said.scores,
        why=said.why,
    )


def families_of(suite: Suite) -> dict[str, str]:
    """The family of each cause that the suite knows, by the cause in its normalised form."""
    pairs: Iterator[tuple[str | None, str | None]] = (
        (e.cause, e.family) for e in (case.expected for case in suite.cases)
    )
    return {normalised(cause): family for cause, family in pairs if cause and family}


def _arm(
    asking: Asking,
    header: Header,
    arm: Arm,
    cases: Sequence[Case],
    out: Path,
    taken: Callable[[], Sequence[Prediction]],
    progress: Progress | None,
) -> Transcript:
    finished, part = _finished(out, arm), out / f"{arm}.part"
    if finished.exists():
        kept = read_transcript(finished)
        if kept.header == header and {p.case for p in kept.predictions} == {c.id for c in cases}:
            return kept
    known = {p.case: p for p in taken() if p.arm == arm}
    answered = {case.id: known[case.id] for case in cases if case.id in known}
    answered |= _begun(part, header)
    left = sorted((case for case in cases if case.id not in answered), key=_alike(arm))
    with in_our_words(part), _keeping(part, header, list(answered.values())) as file:
        for start in range(0, len(left), AT_ONCE):
            if progress:
                progress(arm, len(answered), len(cases))
            for prediction in predictions(asking, arm, left[start : start + AT_ONCE]):
                answered[prediction.case] = prediction
                file.write(prediction.model_dump_json() + "\n")
            file.flush()
    if progress:
        progress(arm, len(cases), len(cases))
    transcript = Transcript(header, tuple(answered[case.id] for case in cases))
    transcript.write(finished)
    part.unlink(missing_ok=True)  # it quoted what was forgotten meanwhile
    return transcript


def _begun(part: Path, header: Header) -> dict[str, Prediction]:
    """What was answered under this header before; a line that was cut off counts for nothing."""
    try:
        first, *lines = part.read_text(encoding="utf-8").split("\n")[:-1]
        if Header.model_validate_json(first) != header:
            return {}
        told = [Prediction.model_validate_json(line) for line in lines]
    except (FileNotFoundError, ValueError):  # never begun, or not as we write it: asked again
        return {}
    return {p.case: p for p in told}


def _keeping(part: Path, header: Header, answered: Sequence[Prediction]) -> TextIO:
    """The file to add predictions to, with those that are there already."""
    draft = part.with_suffix(".draft")
    lines = [header.model_dump_json(), *(p.model_dump_json() for p in answered)]
    part.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(draft, part)
    return part.open("a", encoding="utf-8")


def _surprises(nll: Nll | None, arm: Arm, cases: Sequence[Case]) -> list[float | None]:
    """Nats per token of each case's true answer; None where there is none, or nobody to ask.

    Only closed book: beside precedents the answer mostly stands in the question, and such a score
    costs a sixth of a whole replay.
    """
    found: list[float | None] = [None] * len(cases)
    if arm != "closed_book":
        return found
    truths = [(n, truth) for n, case in enumerate(cases) if (truth := case.truth(arm)) is not None]
    if nll is None or not truths:
        return found
    told = nll([cases[n].prompt(arm) for n, _ in truths], [truth for _, truth in truths])
    for (n, _), value in zip(truths, told, strict=True):
        found[n] = value
    return found


def _exposure(nll: Nll | None, case: Case) -> float | None:
    return exposure(case, nll) if nll and case.expected.task == "canary" else None


def _refuse_another(suite: Suite, header: Header) -> None:
    if header.suite_hash != suite.manifest.sha256:
        raise Refused(
            f"the header is of suite {header.suite} ({header.suite_hash[:12]}), but suite "
            f"{suite.name} ({suite.manifest.sha256[:12]}) is to be replayed"
        )
    if suite.manifest.prompt_hash != prompt_hash():
        raise Refused(
            f"suite {suite.name} was frozen under prompt {suite.manifest.prompt_hash}, and the "
            f"prompt is {prompt_hash()} now; freeze the next version"
        )


def _alike(arm: Arm) -> Callable[[Case], tuple[str, str, int]]:
    """Questions of one form and length are asked at once: then little is padding and waiting."""
    return lambda case: (case.form, case.expected.task, len(case.asked[arm].user))


def _finished(out: Path, arm: Arm) -> Path:
    return out / f"{arm}.jsonl"
