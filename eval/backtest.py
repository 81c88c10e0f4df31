"""Replay a team's own history: what would have been answered when each incident began.

Each incident is asked in the words of its first record, as of its own start: what was learned
later, of it or of others, is invisible. What is true is judged by hindsight (`eval.precedents`).
Nothing is written to the store.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from typing import Literal

import numpy as np

from eval.precedents import Known, Precedents, Rule
from eval.score import Record, same_words
from ingest.errors import Refused
from ingest.store import Store, Stored
from retrieval.copies import fold
from retrieval.diagnosis import Diagnosis, diagnose_from
from retrieval.grounded import grounded
from retrieval.index import Index
from retrieval.prompt import Prompt, Reply, prompt, question_text
from retrieval.quotes import clipped, key
from retrieval.search import Answer, Question, search

DEPTH = 10  # places of a ranking that are looked at
READ = 5  # hits that a diagnosis reads: as many as `scarwise diagnose` gives it
AT_ONCE = 32  # incidents in hand at a time
LONGEST = 300  # characters kept of a title, a quote or a cause
_FOLDED = 3 * DEPTH  # rows of a baseline's ranking that are folded into ten places

Arm = Literal["scarwise", "words", "recent", "frequent"]
ARMS: tuple[Arm, ...] = ("scarwise", "words", "recent", "frequent")


class Said(Record):
    """What was answered: the cause that it names, and the incident which it quotes.

    `right` is None where nobody can say. `hypothesis` is what a model said in words of its own.
    """

    status: Literal["known", "novel", "inconclusive"]
    cause: str | None = None
    cited: str | None = None
    cited_title: str | None = None
    cited_families: tuple[str, ...] = ()
    right: bool | None = None
    hypothesis: str | None = None
    hypothesis_right: bool | None = None


class Case(Record):
    """One incident of the past, asked again.

    `rule` says how its precedents are known, None that nobody can say; then `seen` is None too,
    and nothing is scored. `places` are where each arm has the first true precedent, from 1 to 10,
    None beyond; an arm that cannot be asked is left out. Incidents of one `cluster` are alike.
    `shortest_before_s` and `median_before_s` are of the durations of its precedents.
    """

    incident_id: str
    version: int
    source: str
    source_id: str
    title: str
    services: list[str]
    asked_as_of: datetime
    memory: int
    families: list[str]
    cause: str | None
    rule: Rule | None
    seen: bool | None
    precedents: int
    places: dict[str, int | None]
    cluster: str
    said: Said
    model: Said | None = None
    was_suite_case: bool = False
    duration_s: float | None = None
    shortest_before_s: float | None = None
    median_before_s: float | None = None
    degraded: str | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """A model to ask beside; it may have learned what was known until `learned_until`.

    `answer` gives a reply to each prompt, None where it gave none that can be used.
    """

    told: dict[str, str]
    learned_until: datetime
    answer: Callable[[Sequence[Prompt]], Sequence[Reply | None]]


@dataclass(frozen=True, slots=True)
class Asked:
    """An incident's question, and the moment as of which it is asked."""

    known: Known
    now: Stored  # as it is known today
    text: str
    as_of: datetime


def chosen(
    precedents: Precedents,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> list[Known]:
    """The incidents to replay, in order of their start; with `limit`, the latest so many.

    Trusted and resolved ones that say when they began. `Refused` when there are none.
    """
    found = [
        known
        for known in precedents.known.values()
        if known.may_be_asked
        and known.started_at
        and (since is None or known.started_at >= since)
        and (until is None or known.started_at < until)
    ]
    if not found:
        raise Refused(_nothing(precedents, since, until))
    found.sort(key=lambda k: (k.started_at, k.incident_id))
    return found[-limit:] if limit else found


def backtest(
    store: Store,
    index: Index,
    precedents: Precedents,
    incidents: Sequence[Known],
    *,
    voice: Voice | None = None,
    suite: frozenset[str] = frozenset(),
) -> Iterator[Case]:
    """Every incident asked again, in the order given; what is kept of each is small.

    A model is asked only about what began after the last thing that it can have learned. `suite`
    are incidents under embargo.
    """
    for start in range(0, len(incidents), AT_ONCE):
        batch = list(_questions(store, incidents[start : start + AT_ONCE]))
        answers = [_searched(asked, index) for asked in batch]
        found = [diagnose_from(_question(a), _read(r)) for a, r in zip(batch, answers, strict=True)]
        spoken = _spoken(voice, batch, answers, found)
        for asked, answer, diagnosis, model in zip(batch, answers, found, spoken, strict=True):
            case = _case(asked, answer, diagnosis, index, precedents)
            told = _said(asked, model, precedents) if model else None
            in_suite = asked.known.incident_id in suite
            yield case.model_copy(update={"model": told, "was_suite_case": in_suite})


def _questions(store: Store, incidents: Sequence[Known]) -> Iterator[Asked]:
    """What was known of each when it began; what was forgotten meanwhile is passed over."""
    firsts = store.many([(known.incident_id, 1) for known in incidents])
    nows = store.many([(known.incident_id, known.version) for known in incidents])
    for known in incidents:
        first = firsts.get((known.incident_id, 1))
        now = nows.get((known.incident_id, known.version))
        if first and now and known.started_at and first.incident.known_at:
            # One that was on record before it began must not find itself either.
            as_of = min(known.started_at, first.incident.known_at)
            yield Asked(known, now, question_text(first.incident), as_of)


def _question(asked: Asked, limit: int = DEPTH) -> Question:
    return Question(asked.text, as_of=asked.as_of, limit=limit)


def _searched(asked: Asked, index: Index) -> Answer:
    return search(_question(asked), index, query_id="")


def _read(answer: Answer) -> Answer:
    """As much of the answer as a diagnosis is given."""
    return replace(answer, hits=answer.hits[:READ])


def _spoken(
    voice: Voice | None,
    batch: Sequence[Asked],
    answers: Sequence[Answer],
    found: Sequence[Diagnosis],
) -> list[Diagnosis | None]:
    """Each diagnosis with what the model adds to it; None where it is not to be asked."""
    spoken: list[Diagnosis | None] = [None] * len(batch)
    if voice is None:
        return spoken
    fair = [n for n, asked in enumerate(batch) if asked.as_of >= voice.learned_until]
    prompts = [prompt(batch[n].text, [h.stored for h in _read(answers[n]).hits]) for n in fair]
    replies = voice.answer(prompts) if prompts else []
    for n, asked, reply in zip(fair, prompts, replies, strict=True):
        hits = _read(answers[n]).hits
        spoken[n] = grounded(found[n], asked, reply, hits, voice.told) if reply else found[n]
    return spoken


def _case(
    asked: Asked, answer: Answer, diagnosis: Diagnosis, index: Index, precedents: Precedents
) -> Case:
    known, incident = asked.known, asked.now.incident
    seen = precedents.seen(asked.as_of)
    rule, true = precedents.of(known, seen)
    lasted = precedents.durations(true) if rule else []
    return Case(
        incident_id=known.incident_id,
        version=known.version,
        source=incident.source,
        source_id=incident.source_id,
        title=incident.title[:LONGEST],
        services=incident.services[:8],
        asked_as_of=asked.as_of,
        memory=int(np.count_nonzero(seen)),
        families=sorted(known.families),
        cause=clipped(known.cause)[:LONGEST] if known.cause else None,
        rule=rule,
        seen=bool(true.any()) if rule else None,
        precedents=int(np.count_nonzero(true)),
        places=_places(asked, answer, index, precedents, seen, true) if true.any() else {},
        cluster=min(known.families, default=f"copies {known.copies}"),
        said=_said(asked, diagnosis, precedents),
        duration_s=known.duration_s,
        shortest_before_s=min(lasted, default=None),
        median_before_s=median(lasted) if lasted else None,
        degraded=diagnosis.degraded,
    )


def _places(
    asked: Asked,
    answer: Answer,
    index: Index,
    precedents: Precedents,
    seen: np.ndarray,
    true: np.ndarray,
) -> dict[str, int | None]:
    """Where each way to rank has the first true precedent; near-copies share a place."""
    row_of = index.facets.row_of
    hits = [[row_of.get(key(s), -1) for s in (hit.stored, *hit.copies)] for hit in answer.hits]
    scores = index.lexical.ask(asked.text, seen).scores
    by_words = [int(r) for r in np.argsort(-scores, kind="stable")[:_FOLDED] if scores[r] > 0]
    beside = precedents.of_services(asked.known, seen)
    places = {
        "scarwise": _place(hits, true),
        "words": _place(_folded(by_words, index), true),
        "recent": _place(_folded(precedents.newest(beside, _FOLDED), index), true),
    }
    if asked.known.families:
        common = precedents.commonest(beside)[:DEPTH]
        own = [n for n, family in enumerate(common, 1) if family in asked.known.families]
        places["frequent"] = own[0] if own else None
    return places


def _folded(rows: Sequence[int], index: Index) -> list[list[int]]:
    return fold(rows, index.sketches, index.facets.started)[:DEPTH]


def _place(groups: Sequence[Sequence[int]], true: np.ndarray) -> int | None:
    held = (n for n, rows in enumerate(groups, 1) if any(r >= 0 and true[r] for r in rows))
    return next(held, None)


def _said(asked: Asked, diagnosis: Diagnosis, precedents: Precedents) -> Said:
    """What the diagnosis claims, and whether that is so."""
    own = diagnosis.hypothesis.text if diagnosis.hypothesis else None
    right = same_words(own, asked.known.cause) if own and asked.known.cause else None
    said = Said(
        status=diagnosis.status,
        hypothesis=own[:LONGEST] if own else None,
        hypothesis_right=right,
    )
    if diagnosis.status != "known" or not diagnosis.citations:
        return said
    cited = diagnosis.citations[0].incident_id
    of_cited = precedents.known.get(cited)
    title = next((p.title for p in diagnosis.precedents if p.incident_id == cited), None)
    return said.model_copy(
        update={
            "cause": (diagnosis.root_cause or "")[:LONGEST],
            "cited": cited,
            "cited_title": title[:LONGEST] if title else None,
            "cited_families": tuple(sorted(of_cited.families)) if of_cited else (),
            "right": _agrees(diagnosis.root_cause, asked.known, of_cited),
        }
    )


def _agrees(cause: str | None, known: Known, cited: Known | None) -> bool | None:
    """Whether the cause named is the one that it had: by its family, else by the same words."""
    if cited and known.families and cited.families:
        return not known.families.isdisjoint(cited.families)
    return True if known.cause and same_words(cause, known.cause) else None


def _nothing(precedents: Precedents, since: datetime | None, until: datetime | None) -> str:
    if not precedents.known:
        return "there is nothing to replay yet: take incidents in with `scarwise ingest`"
    starts = [k.started_at for k in precedents.known.values() if k.may_be_asked and k.started_at]
    if not starts:
        return (
            f"none of the {len(precedents.known)} incidents here is trusted, resolved and says "
            "when it began, so none can be asked again"
        )
    window = " and ".join(
        f"{word} {at:%Y-%m-%d}" for word, at in (("from", since), ("before", until)) if at
    )
    return (
        f"no resolved incident began {window}; those here began from {min(starts):%Y-%m-%d} to "
        f"{max(starts):%Y-%m-%d}"
    )
