"""Answers carried from one version of the suite to another: a case that stayed is asked once.

A case stayed when it is asked in the same words and the same is expected of the answer. What was
written, and how likely the true answer was, is taken over; the scores are made anew.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from eval.cases import Case
from eval.replay import ARMS, families_of, folder_of, kept_replay, prediction_of
from eval.score import Arm, Prediction
from eval.suite import Suite, read_suite, suite_versions
from eval.transcript import Header, Transcript
from ingest.errors import Refused, Unreadable

# Another model, another base, another prompt or another way to decode answers otherwise.
_SAME_VOICE = ("base_hash", "adapter_sha256", "prompt_hash", "decode")


def carried(told: Transcript, asked: Suite, into: Suite) -> Transcript:
    """What `told` says of the cases of `into` that are in `asked`, its own suite, word for word."""
    header = told.header.model_copy(
        update={"suite": into.name, "suite_hash": into.manifest.sha256}
        | {"scores_version": Header.model_fields["scores_version"].default}
    )
    return Transcript(header, tuple(_carried(told, asked, into)))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a model answered to cases of one suite; `asked` is the version that it was asked."""

    told: Transcript
    asked: int


def kept_on(suite: Suite, model: str, evals: Path) -> Kept | None:
    """What this model answered to `suite`, or to those of its cases that are in the newest other
    version which the model was asked; None where it was asked none that is here."""
    for version in (suite.manifest.version, *_others(suite)):
        out = folder_of(evals, model, f"v{version}")
        if not out.is_dir():
            continue
        if version == suite.manifest.version:
            return Kept(kept_replay(out), version)
        with suppress(Refused, Unreadable):
            return Kept(
                carried(kept_replay(out), read_suite(_folder(suite), version), suite), version
            )
    return None


def known_answers(suite: Suite, header: Header, evals: Path) -> list[Prediction]:
    """What this very model answered to cases of `suite` in the newest other version that it was
    asked; nothing where none is there any more."""
    for other in _others(suite):
        out = folder_of(evals, header.model, f"v{other}")
        with suppress(Refused, Unreadable):
            told = kept_replay(out)
            if all(getattr(told.header, n) == getattr(header, n) for n in _SAME_VOICE):
                return list(_carried(told, read_suite(_folder(suite), other), suite))
    return []


def is_same(one: Case, other: Case, arm: Arm) -> bool:
    """Whether the two ask the same in this arm, and expect the same."""
    if arm not in one.asked or arm not in other.asked:
        return False
    return (one.prompt(arm), one.expects(arm)) == (other.prompt(arm), other.expects(arm))


def _carried(told: Transcript, asked: Suite, into: Suite) -> Iterator[Prediction]:
    of, to = asked.manifest, into.manifest
    if told.header.suite_hash != of.sha256 or of.prompt_hash != to.prompt_hash:
        return
    before = {case.id: case for case in asked.cases}
    said = {(p.case, p.arm): p for p in told.predictions}
    families = families_of(into)
    for arm in ARMS:
        for case in into.of(arm):
            p, other = said.get((case.id, arm)), before.get(case.id)
            if p and other and is_same(case, other, arm):
                nll, bits = p.scores.get("nll"), p.scores.get("exposure_bits")
                yield prediction_of(into, families, arm, case, p.text, nll, bits)


def _others(suite: Suite) -> list[int]:
    versions = suite_versions(_folder(suite)) if suite.folder else []
    return [v for v in reversed(versions) if v != suite.manifest.version]


def _folder(suite: Suite) -> Path:
    assert suite.folder
    return suite.folder
