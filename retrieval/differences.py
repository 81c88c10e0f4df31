"""What does not match between an alert and a precedent, and what to look at next because of it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.quotes import (
    Citation,
    Record,
    cite,
    fields,
    key,
    sentences,
    stems,
)
from retrieval.search import Question
from retrieval.signs import Measure, Signs, codes, measures, signs, subjects

LONGEST_SCAN = 4_000  # characters of one side that are read for signs
MOST_VALUES = 4  # of one kind on one side; a list that nobody reads helps nobody
LONGEST_CHECK = 300  # characters
MOST_CHECKS = 5
MOST_CHECKS_OF_ONE = 2
SEEN = ("title", "summary", "symptoms", "evidence", "updates")
TOLD = ("root_cause", "resolution", "lessons")
# Where observations are looked for, and what one from there is worth.
OBSERVED = {"evidence": 1.0, "updates": 1.0, "root_cause": 1.0, "lessons": 0.7, "summary": 0.7}

Kind = Literal["error codes", "services", "hosts", "places", "measurements", "severity"]


class Difference(Record):
    """What only the alert has, and what only this precedent has, of one kind."""

    incident_id: str
    kind: Kind
    here: list[str]
    there: list[str]
    words: str


class Check(Citation):
    """An observation of a precedent that the alert says nothing about: look whether it is so."""

    words: str


@dataclass(frozen=True, slots=True)
class Alert:
    """The question as it is compared: its text, what it says was seen, its telling words."""

    question: Question
    text: str
    signs: Signs
    subjects: set[str]
    stems: frozenset[str]

    @classmethod
    def of(cls, question: Question) -> "Alert":
        """Reads the beginning of a long text only: what follows is more of the same log."""
        text = question.text[: 2 * LONGEST_SCAN]
        return cls(question, text.lower(), signs(text), subjects(text), stems(text))


def differences(alert: Alert, stored: Stored) -> list[Difference]:
    """What does not match between the alert and this precedent, kind by kind."""
    incident = stored.incident
    there = signs(_beginning(incident))
    everything = "\n".join(text for _, text in fields(incident, (*SEEN, *TOLD))).lower()
    ours = alert.signs
    pairs: list[tuple[Kind, list[str], list[str]]] = [
        ("error codes", _only(ours.codes, everything), _only(there.codes, alert.text)),
        ("services", *_services(alert, incident, everything)),
        ("hosts", _only(ours.hosts, everything), _only(there.hosts, alert.text)),
        ("places", _only(ours.places, everything), _only(there.places, alert.text)),
        ("measurements", *_measurements(ours.measures, there.measures, alert.text, everything)),
        ("severity", *_severity(alert.question.severity, incident.severity)),
    ]
    name, _ = key(stored)
    return [
        Difference(incident_id=name, kind=kind, here=a, there=b, words=_words(kind, a, b))
        for kind, a, b in pairs
        if a or b
    ]


def checks(alert: Alert, precedents: Sequence[Stored], quoted: Iterable[str]) -> list[Check]:
    """Observations of the precedents that the alert does not mention, the most telling first.

    `quoted` is what the answer says already. At most five, and two of one precedent.
    """
    found = [
        (worth / (1 + rank / 4), rank, check)
        for rank, stored in enumerate(precedents)
        for worth, check in _observations(alert, stored)
    ]
    found.sort(key=lambda entry: (-entry[0], entry[1], entry[2].field, entry[2].quote))
    said = [stems(quote) for quote in quoted]
    taken: list[Check] = []
    for _, _, check in found:
        words = stems(check.quote)
        of_one = sum(c.incident_id == check.incident_id for c in taken)
        if of_one >= MOST_CHECKS_OF_ONE or any(_repeats(words, other) for other in said):
            continue
        taken.append(check)
        said.append(words)
        if len(taken) == MOST_CHECKS:
            break
    return taken


def _observations(alert: Alert, stored: Stored) -> Iterator[tuple[float, Check]]:
    """Each sentence that says what was seen, with how much of it is news to the alert."""
    left = LONGEST_SCAN
    for field, text in fields(stored.incident, tuple(OBSERVED)):
        for sentence in sentences(text[:left]):
            worth = _news(alert, sentence) * OBSERVED[field.partition("[")[0]]
            citation = cite(stored, field, sentence) if worth else None
            if citation:
                words = f'in {citation.incident_id}: "{citation.quote}"'
                yield worth, Check(**citation.model_dump(), words=words)
        left -= len(text)
        if left <= 0:
            return


def _news(alert: Alert, sentence: str) -> float:
    if not 15 <= len(sentence) <= LONGEST_CHECK or _NO_OBSERVATION.search(sentence):
        return 0.0
    new_codes = [code for code in codes(sentence) if code not in alert.text]
    measured = [m.subject for m in measures(sentence)]
    new_measured = [s for s in measured if s not in alert.subjects]
    new_subjects = [
        s for s in subjects(sentence) - alert.subjects if not any(s in m for m in measured)
    ]
    return 2.0 * len(new_codes[:2]) + 2.0 * len(new_measured[:2]) + min(len(new_subjects), 2)


def _repeats(words: frozenset[str], other: frozenset[str]) -> bool:
    smaller = min(len(words), len(other))
    return smaller > 0 and len(words & other) > 0.6 * smaller


def _beginning(incident: Incident) -> str:
    """What was seen, as far as it is read."""
    return "\n".join(text for _, text in fields(incident, SEEN))[:LONGEST_SCAN]


def _only(values: dict[str, str], other: str) -> list[str]:
    return [written for low, written in values.items() if low not in other][:MOST_VALUES]


def _services(alert: Alert, incident: Incident, everything: str) -> tuple[list[str], list[str]]:
    theirs = {s.casefold() for s in incident.services}
    asked = {s.casefold() for s in alert.question.services}
    here = [
        s
        for s in alert.question.services
        if s.casefold() not in theirs and s.casefold() not in everything
    ]
    there = [
        s for s in incident.services if s.casefold() not in asked and s.casefold() not in alert.text
    ]
    return here[:MOST_VALUES], there[:MOST_VALUES]


def _severity(here: str | None, there: str | None) -> tuple[list[str], list[str]]:
    if not here or not there or here.casefold() == there.casefold():
        return [], []
    return [here], [there]


def _measurements(
    ours: list[Measure], theirs: list[Measure], alert: str, everything: str
) -> tuple[list[str], list[str]]:
    """Subjects that only one side names; and those of both whose values are far apart."""
    far = [(m, t) for m in ours if (t := _far_from(m, theirs)) is not None]
    here = [m.text for m in ours if m.subject not in everything] + [m.text for m, _ in far]
    there = [t.text for t in theirs if t.subject not in alert] + [t.text for _, t in far]
    return list(dict.fromkeys(here))[:MOST_VALUES], list(dict.fromkeys(there))[:MOST_VALUES]


def _far_from(measure: Measure, others: list[Measure]) -> Measure | None:
    """The first of the others on the same subject, if none of those is near this value."""
    same = [o for o in others if (o.subject, o.unit) == (measure.subject, measure.unit)]
    return same[0] if same and not any(_near(measure, o) for o in same) else None


def _near(a: Measure, b: Measure) -> bool:
    if a.unit == "%":
        return abs(a.value - b.value) < 20  # points
    return max(a.value, b.value) <= 2 * min(a.value, b.value)


# Who was hurt, what is being done and what is promised: nothing that could be looked at.
_NO_OBSERVATION = re.compile(
    r"\b(?:subset|customers|users|apologi[sz]e|we (?:have|are|continue)|will|should"
    r"|recovered|recovering|recovery|improve\w{0,5}|mitigat\w{0,4}|resolved|investigating|update by"
    r"|in the future|to prevent)\b|\?$|^(?:Set ?up|Add|Implement|Improve|Create|Ensure)\b",
    re.IGNORECASE,
)


def _words(kind: str, here: list[str], there: list[str]) -> str:
    sides = []
    if here:
        sides.append(f"{', '.join(here)} only here")
    if there:
        sides.append(f"{', '.join(there)} only there")
    return f"{kind}: {'; '.join(sides)}"
