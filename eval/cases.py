"""A case: what is asked of every model, what is expected, and how one is made of an incident."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from eval.score import Arm, Expected, Record, Shown, Slice
from ingest.incident import Incident
from ingest.lessons import Embargoed
from ingest.store import Store, Stored
from retrieval.index import Index
from retrieval.policy import rule_on
from retrieval.prompt import (
    MOST_PRECEDENTS,
    SYSTEM,
    Choice,
    Prompt,
    Reply,
    Task,
    cause_of,
    fix_of,
    prompt,
    question_text,
    written,
)
from retrieval.quotes import key
from retrieval.search import Question, search
from training.admission import everything, kin_of, suspected_poison, why_not
from training.general import general_prompt, general_written
from training.past import RANKED
from training.retold import groups

CHOOSE = "choose"  # the cohort in which a precedent is to be chosen


class Asked(Record):
    """What one arm shows of a case; `precedents[n - 1]` is (incident id, version) of number n.

    `novel`: the search said that nothing it found is near enough to be a precedent.
    """

    user: str
    precedents: tuple[tuple[str, int], ...] = ()
    novel: bool = False


class Case(Record):
    """One thing asked of every model, in one arm or in both, and what is expected of the answer.

    `cluster` is shared by cases that are not independent: one family, one event, one fact.
    `expected` is of the arm with retrieval where the case has both.
    """

    id: str
    incident: tuple[str, int] | None = None
    cohort: str
    family: str
    slice: Slice = "gate"
    cluster: str
    form: Literal["diagnosis", "general", "choice"] = "diagnosis"
    question: str
    asked: dict[Arm, Asked]
    expected: Expected
    urged: str | None = None  # the forbidden action that a red-team case asks for

    def prompt(self, arm: Arm) -> Prompt:
        """What is asked in this arm; `KeyError` when the case is not asked in it."""
        asked = self.asked[arm]
        if self.form == "general":
            return general_prompt(self.question)
        task: Task = "choose" if self.form == "choice" else "diagnose"
        return Prompt(task, SYSTEM[task], asked.user, asked.precedents)

    def expects(self, arm: Arm) -> Expected:
        """What is expected in this arm."""
        if self.asked[arm].precedents:
            return self.expected
        return self.expected.model_copy(update={"shown": ()})

    def truth(self, arm: Arm) -> str | None:
        """The true answer as a model would write it; None where none is known."""
        expected = self.expects(arm)
        if expected.task == "general":
            return general_written(expected.answer or "")
        if expected.choice is not None:
            return written(Choice(cites=[expected.choice]))
        if expected.task != "known":
            return None
        cause, fix = expected.cause, expected.fix
        return written(Reply(status="known", cause=cause, fix=fix, cites=expected.citable))

    @property
    def near_misses(self) -> list[int]:
        """The numbers of the precedents that look similar and had another cause."""
        right = self.expected.citable
        return [n for n in range(1, len(self.expected.shown) + 1) if n not in right]

    @property
    def quotes(self) -> set[str]:
        """The ids of the incidents whose words stand in it."""
        own = {self.incident[0]} if self.incident else set()
        return own | {id for asked in self.asked.values() for id, _ in asked.precedents}


@dataclass(frozen=True, slots=True)
class Known:
    """What training may know: the failures it is taught, and the incidents that it never sees.

    `hidden` are those under embargo, their near-copies, and what a person has to look at first.
    """

    taught: frozenset[str]
    hidden: frozenset[str]


def known_to_training(store: Store, index: Index, cases: Collection[str]) -> Known:
    """What an export would teach, with these incidents under embargo."""
    here = list(everything(store))
    ids, numbers = [key(stored)[0] for stored in here], groups(here, index)
    withheld = {number for number, id in zip(numbers, ids, strict=True) if id in cases}
    copies = {id for number, id in zip(numbers, ids, strict=True) if number in withheld}
    poison = suspected_poison([stored for stored in here if why_not(stored) is None])
    hidden = frozenset(cases) | copies | {id for group in poison for id in group}
    taught = {kin_of(s.incident) for s in here if key(s)[0] not in hidden and not why_not(s)}
    return Known(frozenset(taught), hidden)


def of_incidents(
    store: Store, index: Index, cases: Mapping[str, Embargoed], known: Known
) -> tuple[list[Case], dict[str, int]]:
    """The cases of the incidents under embargo, by era, and why how many of them make none.

    A case is known when training is taught its failure, else unseen. It shows the precedents of the
    moment when its incident began, and of those only what training could have known too: no other
    case and no near-copy of one, although the world of then held them.
    """
    kept = store.many([(e.incident_id, e.version) for e in cases.values()])
    made, left_out = list[Case](), Counter[str]()
    for embargo in sorted(cases.values(), key=lambda e: (e.era, e.family, e.incident_id)):
        stored = kept.get((embargo.incident_id, embargo.version))
        why = why_not(stored) if stored else "forgotten"
        if stored is None or why:
            left_out[str(why)] += 1
            continue
        incident = stored.incident
        near = nearest(
            question_text(incident), index, as_of=incident.started_at, hidden=known.hidden
        )
        made += _cases(embargo, stored, near, known)
    return made, dict(left_out)


@dataclass(frozen=True, slots=True)
class Near:
    """Precedents, best first, at most as many as a prompt shows; `novel` is the search's word."""

    precedents: list[Stored]
    novel: bool


def nearest(
    question: str, index: Index, *, as_of: datetime | None = None, hidden: Collection[str]
) -> Near:
    """The nearest incidents without the hidden ones, which the search's word on novelty counts."""
    asked = Question(question, as_of=as_of, limit=RANKED)
    answer = search(asked, index, query_id="suite")
    found = [hit.stored for hit in answer.hits if key(hit.stored)[0] not in hidden]
    return Near(found[:MOST_PRECEDENTS], answer.status == "novel")


def shown(question: str, near: Sequence[Stored] = (), *, novel: bool = False) -> Asked:
    """How the prompt tells this question and these precedents."""
    made = prompt(question, near)
    return Asked(user=made.user, precedents=made.precedents, novel=novel)


def _cases(embargo: Embargoed, stored: Stored, near: Near, known: Known) -> Iterator[Case]:
    """One case in both arms, and the choice among its precedents; of a fault that nobody is taught,
    each arm is a case of its own.

    Closed book, such a fault is a control: a model that names a cause has recited one.
    """
    incident = stored.incident
    text, kin = question_text(incident), kin_of(incident)
    others = [stored.incident for stored in near.precedents]
    beside = shown(text, near.precedents, novel=near.novel)
    case = Case(
        id=embargo.incident_id,
        incident=key(stored),
        cohort=f"era {embargo.era}",
        family=embargo.family,
        slice=embargo.slice,
        cluster=kin,
        question=text,
        asked={"closed_book": shown(text), "retrieval": beside},
        expected=Expected(
            task="known" if kin in known.taught else "unseen",
            cause=cause_of(incident),
            fix=_teachable_fix(incident),
            family=incident.cause_family,
            shown=tuple(Shown(cause=cause_of(i), family=i.cause_family) for i in others),
        ),
    )
    if kin in known.taught:
        yield case
        yield from _choice(case, near, [n for n, i in enumerate(others, 1) if kin_of(i) == kin])
        return
    yield case.model_copy(update={"asked": {"retrieval": case.asked["retrieval"]}})
    alone = case.expected.model_copy(update={"task": "closed_book_control", "shown": ()})
    control = {"id": f"{case.id}-closed", "cohort": "closed book", "expected": alone}
    asked = {"asked": {"closed_book": case.asked["closed_book"]}}
    yield case.model_copy(update=control | asked)


def _choice(case: Case, near: Near, same: Sequence[int]) -> Iterator[Case]:
    """Which precedent had the same cause: asked where exactly one of several had, as it is taught.

    Of the gate's slice only: nothing else looks at it.
    """
    if case.slice == "gate" and len(same) == 1 and len(near.precedents) > 1:
        made = prompt(case.question, near.precedents, task="choose")
        yield case.model_copy(
            update={
                "id": f"{case.id}-choose",
                "cohort": CHOOSE,
                "form": "choice",
                "asked": {"retrieval": Asked(user=made.user, precedents=made.precedents)},
                "expected": Expected(task="choose", family=case.family, choice=same[0]),
            }
        )


def _teachable_fix(incident: Incident) -> str | None:
    """The fix on record, unless it is one that no model is taught and none may propose."""
    fix = fix_of(incident)
    return None if fix is None or rule_on(fix).decision == "forbidden" else fix
