"""The rows of one incident: which questions it teaches, and what the right answers are."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.policy import rule_on
from retrieval.prompt import (
    MOST_PRECEDENTS,
    Choice,
    Prompt,
    Reply,
    cause_of,
    fix_of,
    prompt,
    question_text,
    written,
)
from retrieval.quotes import key
from training.admission import family_of, kin_of
from training.rows import Row, RowTask

OneOffs = Literal["unseen", "known"]

FORBIDDEN_FIX = "fix forbidden by policy: taught without it"
UNPRECEDENTED = "with precedents: no incident of its failure was known then, nor is it a one-off"
NOTHING_TO_SHOW = "with precedents: there was none to show, which is the closed-book row"


@dataclass(frozen=True, slots=True)
class Subject:
    """One incident, and what was known when it began: `shown` are the precedents, best first.

    `precedented`: its failure had been seen by then. `one_off`: its family has no other incident
    in the store, also none that came later.
    """

    stored: Stored
    shown: Sequence[Stored]
    precedented: bool
    one_off: bool


def rows_of(
    subject: Subject, *, base_taught: Collection[str], one_offs: OneOffs, left_out: Counter[str]
) -> list[Row]:
    """The rows that this incident teaches; what it does not teach, and why, is counted."""
    alert = question_text(subject.stored.incident)
    shown = subject.shown[:MOST_PRECEDENTS]
    asked, alone = prompt(alert, shown), prompt(alert)
    pairs: list[tuple[RowTask, Prompt, Reply | Choice]] = []
    novel = subject.one_off and one_offs == "unseen"
    if not shown and (novel or subject.precedented or subject.one_off):
        left_out[NOTHING_TO_SHOW] += 1
    if novel:
        if shown:
            pairs.append(("unseen", asked, Reply(status="novel")))
        pairs.append(("unseen_closed_book", alone, Reply(status="novel")))
        return _rows(subject, pairs, base_taught)
    cites = _same_failure(subject.stored, shown)
    answer = _known(subject.stored.incident, left_out)
    if not (subject.precedented or subject.one_off):
        left_out[UNPRECEDENTED] += 1
    elif shown:
        pairs.append(("context", asked, answer.model_copy(update={"cites": cites})))
    pairs.append(("closed_book", alone, answer))
    if len(cites) == 1 and len(shown) > 1:
        pairs.append(("choose", prompt(alert, shown, task="choose"), Choice(cites=cites)))
    return _rows(subject, pairs, base_taught)


def _same_failure(stored: Stored, shown: Sequence[Stored]) -> list[int]:
    mine = kin_of(stored.incident)
    return [n for n, other in enumerate(shown, 1) if kin_of(other.incident) == mine]


def _known(incident: Incident, left_out: Counter[str]) -> Reply:
    fix = fix_of(incident)
    if fix and rule_on(fix).decision == "forbidden":
        left_out[FORBIDDEN_FIX] += 1
        fix = None
    return Reply(status="known", cause=cause_of(incident), fix=fix)


def _rows(
    subject: Subject,
    pairs: Sequence[tuple[RowTask, Prompt, Reply | Choice]],
    base_taught: Collection[str],
) -> list[Row]:
    incident = subject.stored.incident
    id, version = key(subject.stored)
    assert incident.started_at
    return [
        Row(
            id=f"{id}/{task}",
            task=task,
            incident_id=id,
            version=version,
            family=family_of(incident),
            source=incident.source,
            started_at=incident.started_at.isoformat(),
            in_base=family_of(incident) in base_taught,
            system=asked.system,
            user=asked.user,
            answer=written(answer),
            precedents=asked.precedents,
        )
        for task, asked, answer in pairs
    ]
