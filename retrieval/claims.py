"""What similar incidents say their cause was: a quoted sentence each, grouped where they agree."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import log2

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.quotes import Citation, Record, cite, clipped, fields, key, sentences, stems
from retrieval.search import Hit

MOST_PRECEDENTS = 5
MOST_COPIES = 20  # of one hit that are read
LONGEST_CAUSE = 6_000  # characters of one field that are read for a cause
LONGEST_COMPARED = 1_500  # characters: a longer report holds half the words of any cause
SAME_WORDS = 0.5  # the share of one claim's words that another has to tell to be the same cause
# The share of all weight that a cause needs: below it only a distant incident states it.
LEAST_SHARE = 0.2


class Cause(Record):
    """A cause that similar incidents had: `quote` is how the most similar of them says it.

    `citations` holds each incident's own statement. With `by_family` some of these say something
    else, and only the cause family is the same. `seen` counts occurrences, so that one event
    which two records tell of counts once.
    """

    quote: str
    family: str | None
    by_family: bool
    supported_by: list[str]
    seen: int
    words: str
    citations: list[Citation]


@dataclass(frozen=True, slots=True)
class Precedent:
    """A near hit and how much it counts; a disowned one counts nothing."""

    hit: Hit
    weight: float
    disowned: bool

    def witnesses(self) -> list[Stored]:
        """The incident and the near-copies that were folded into it."""
        return [self.hit.stored, *self.hit.copies[:MOST_COPIES]]


@dataclass(frozen=True, slots=True)
class Claim:
    """One incident's own statement of its cause."""

    stored: Stored
    weight: float
    citation: Citation
    quoted: frozenset[str]  # its telling words
    told: frozenset[str]  # those of all that the incident says about its cause


@dataclass(slots=True)
class Group:
    """Claims that agree; the first one, of the most similar incident, speaks for them."""

    claims: list[Claim] = field(default_factory=list)

    @property
    def weight(self) -> float:
        return sum(claim.weight for claim in self.claims)

    @property
    def seen(self) -> int:
        return occurrences([claim.stored for claim in self.claims])


@dataclass(frozen=True, slots=True)
class Findings:
    """The causes stated, the best supported first; `agreed` when the first may be named."""

    causes: list[Cause]
    agreed: bool


def precedents(hits: Sequence[Hit]) -> list[Precedent]:
    """The near hits, the most similar first; a lower rank and a lower score count less."""
    near = hits[:MOST_PRECEDENTS]
    top = near[0].score if near else 0.0
    found = []
    for rank, hit in enumerate(near):
        nearness = hit.score / top if 0 < hit.score < top else 1.0
        disowned = is_disowned(hit)
        found.append(Precedent(hit, 0.0 if disowned else nearness / log2(rank + 2), disowned))
    return found


def is_disowned(hit: Hit) -> bool:
    """Whether people called this incident wrong or stale at least as often as they confirmed it."""
    against = hit.outcomes.get("wrong", 0) + hit.outcomes.get("stale", 0)
    return against > 0 and against >= hit.outcomes.get("same", 0) + hit.outcomes.get("fixed_it", 0)


def findings(asked: frozenset[str], near: Sequence[Precedent]) -> Findings:
    """What the precedents that nobody disowned say about the cause.

    They agree when one cause has most of the weight, is not told by a distant incident alone,
    and either was seen more often than any other or weighs more than twice as much.
    """
    groups = _grouped(list(_claims(asked, near)), asked)
    groups.sort(key=lambda group: -group.weight)  # stable: the most similar first among equals
    agreed = bool(groups) and _leads(groups, sum(p.weight for p in near))
    return Findings([_cause(group, asked) for group in groups], agreed)


def occurrences(incidents: Sequence[Stored]) -> int:
    """How many events these records tell of: those that began in the same hour are one."""
    began = {i.incident.started_at for i in incidents} - {None}
    hours = {at.replace(minute=0, second=0, microsecond=0) for at in began if at}
    undated = {key(i)[0] for i in incidents if i.incident.started_at is None}
    return len(hours) + len(undated)


def statement(stored: Stored, asked: frozenset[str]) -> Citation | None:
    """The sentence in which an incident states its cause; None where it states none.

    Of the `root_cause` field, the first sentence unless another is clearly nearer to the question;
    of other fields, only a sentence that says outright what caused what.
    """
    cause = stored.incident.root_cause
    if cause:
        if _UNKNOWN.search(cause[:300]):
            return None
        said = [_unlabelled(s) for s in sentences(cause[:LONGEST_CAUSE])]
        candidates = [s for s in said if stems(s) - _REPORTED] or [cause]
        places = range(len(candidates))
        best = max(places, key=lambda n: _fit(candidates[n], asked) + 0.4 / (1 + n))
        return cite(stored, "root_cause", clipped(candidates[best]))
    told = list(_told_in_passing(stored.incident))
    if not told:
        return None
    where, sentence = max(told, key=lambda found: _fit(found[1], asked))
    return cite(stored, where, clipped(sentence))


def _told_in_passing(incident: Incident) -> Iterator[tuple[str, str]]:
    """(field, sentence) wherever another field than `root_cause` says what caused it."""
    for name, text in fields(incident, ("resolution", "summary", "lessons", "symptoms", "updates")):
        # A look at the whole text first: most say nothing of a cause, and splitting costs more.
        if not _CAUSES.search(text) and not _LABEL.search(text):
            continue
        for sentence in sentences(text[:LONGEST_CAUSE]):
            labelled = _LABEL.match(sentence)
            says_so = labelled or (_CAUSES.search(sentence) and not _HEDGED.search(sentence))
            if says_so and not _UNKNOWN.search(sentence) and stems(sentence) - _REPORTED:
                yield name, _unlabelled(sentence)


def _fit(sentence: str, asked: frozenset[str]) -> float:
    """How well a sentence answers: the question's words, and whether it says what went wrong."""
    shared = len(stems(sentence) & asked) / min(max(len(asked), 4), 12)
    if _CONSEQUENCE.match(sentence):
        return shared - 0.5
    if not _WENT_WRONG.search(sentence):
        return shared - (0.4 if _BACKGROUND.search(sentence) else 0.0)
    return shared + (0.4 if _CAUSES.search(sentence) else 0.2)


def _unlabelled(sentence: str) -> str:
    label = _LABEL.match(sentence)
    return sentence[label.end() :] if label and label.end() < len(sentence) else sentence


def _claims(asked: frozenset[str], near: Sequence[Precedent]) -> Iterator[Claim]:
    for precedent in near:
        if precedent.disowned:
            continue
        weight = precedent.weight
        for stored in precedent.witnesses():
            citation = statement(stored, asked)
            if citation is None:
                continue
            told = (stored.incident.root_cause or "")[:LONGEST_COMPARED]
            quoted = stems(citation.quote)
            yield Claim(stored, weight, citation, quoted, quoted | stems(told))
            weight = 0.0  # the near-copies of one hit add occurrences, not weight


def _grouped(claims: Sequence[Claim], asked: frozenset[str]) -> list[Group]:
    """Each claim beside the first one that it agrees with."""
    groups: list[Group] = []
    for claim in claims:
        group = next((g for g in groups if _agree(g.claims[0], claim, asked)), None)
        if group is None:
            group = Group()
            groups.append(group)
        group.claims.append(claim)
    return groups


def _agree(a: Claim, b: Claim, asked: frozenset[str]) -> bool:
    """Whether two claims name one cause: by its family where both have one, else by their words.

    Words of the question do not count while others are left: two causes of one symptom share
    those and may share nothing else.
    """
    families = (a.stored.incident.cause_family, b.stored.incident.cause_family)
    if families[0] and families[1]:
        return families[0].casefold() == families[1].casefold()
    return _same_words(a, b, asked)


def _same_words(a: Claim, b: Claim, asked: frozenset[str]) -> bool:
    return _holds(a.told, b.quoted, asked) or _holds(b.told, a.quoted, asked)


def _holds(told: frozenset[str], quoted: frozenset[str], asked: frozenset[str]) -> bool:
    """Whether one incident tells enough of what another says about its cause."""
    telling = quoted - _REPORTED
    own = telling - asked
    words = own if len(own) >= 2 else telling or quoted
    shared = len(words & told)
    return shared >= max(SAME_WORDS * len(words), min(2, len(words)), 1)


def _leads(groups: Sequence[Group], all_weight: float) -> bool:
    first, others = groups[0], groups[1:]
    others_weight = sum(group.weight for group in others)
    if first.weight <= others_weight or first.weight < LEAST_SHARE * all_weight:
        return False
    return all(first.seen > g.seen or first.weight > 2 * g.weight for g in others)


def _cause(group: Group, asked: frozenset[str]) -> Cause:
    first = group.claims[0]
    by_family = not all(_same_words(first, claim, asked) for claim in group.claims[1:])
    supported_by = list(dict.fromkeys(c.citation.incident_id for c in group.claims))
    return Cause(
        quote=first.citation.quote,
        family=first.stored.incident.cause_family,
        supported_by=supported_by,
        by_family=by_family,
        seen=group.seen,
        words=_words(len(supported_by), by_family=by_family),
        citations=[claim.citation for claim in group.claims[:MOST_PRECEDENTS]],
    )


def _words(incidents: int, *, by_family: bool) -> str:
    if incidents == 1:
        return "one similar incident had this cause"
    if by_family:
        return f"{incidents} similar incidents had a cause of this family"
    return f"{incidents} similar incidents had this cause, in similar words"


_LABEL = re.compile(
    r"\*{0,2}(?:root |probable |underlying |immediate )?causes?(?: analysis)?"
    r"\*{0,2}:\*{0,2}\s+(?=\S)",
    re.IGNORECASE,
)
_CAUSES = re.compile(
    r"\b(?:caused by|triggered by|due to|because of|because|root cause (?:was|is)"
    r"|result(?:ed|ing)? (?:of|from)|stemmed from|traced (?:back )?to|attributed to|owing to"
    r"|turned out|(?:was|were) the (?:root )?cause)\b"
    # The incident itself is no cause: "errors due to this outage".
    r"(?! (?:this|that|these|the|an?|ongoing) (?:\w{1,20} )?"
    r"(?:issue|incident|outage|problem|event|disruption|error|aforementioned)s?\b)",
    re.IGNORECASE,
)
_WENT_WRONG = re.compile(
    r"\b(?:fail|bug|error|exhaust|overload|misconfig|incorrect|unhealthy|expir|full\b|crash|deadlock"
    r"|time[ -]?out|leak|saturat|fault|regress|wrong|missing|unable|race|corrupt|exceed|lost|lose"
    r"|trigger|caus|introduc|prevent|defect|inadvertent|accident|unexpected|brok|block|slow|stuck"
    r"|drop|spike|ran out|too (?:many|few|much|low|high|large|small)|not\b|due to|lack)",
    re.IGNORECASE,
)
# How things are meant to be: the scene that a report sets before it says what went wrong.
_BACKGROUND = re.compile(
    r"\b(?:uses|use|maintains?|provides?|provided by|ensures?|relies|rely|consists? of|acts? as"
    r"|(?:is|are) (?:used|responsible|designed|managed)|utilizes|enables|supports|allows|routinely"
    r"|normally)\b",
    re.IGNORECASE,
)
_CONSEQUENCE = re.compile(
    r"(?:As (?:a )?(?:result|consequence)|Consequently|Therefore|Hence|In turn"
    r"|Th(?:is|ese)(?: \w{1,20})? (?:then )?(?:result|led|caus|meant|prevent|trigger))",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:may|might|could|possibl[ey]|suspect(?:ed)?|potentially|whether|perhaps|likely|believe"
    r"|if|unclear|not|continu\w{1,4})\b",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"^\W*(?:unknown|n/?a|tbd|tba|none|pending|to be determined|under investigation"
    r"|not (?:yet )?(?:known|determined|identified|found|available))\W*$"
    r"|\bcauses?\b[^.\n]{0,40} (?:unknown|undetermined|unclear|(?:under|being) investigat\w{2,3}"
    r"|not (?:yet )?(?:been )?(?:known|clear|identified|determined|found|established))"
    r"|\b(?:not (?:yet )?(?:have|know|found|identified|determined)|investigat(?:e|ing))[\w ]{0,30}"
    r" cause|\bno (?:definitive |clear |known |single )?(?:root )?cause",
    re.IGNORECASE,
)
# What every report of a cause says, whatever the cause.
_REPORTED = stems(
    "engineers determined identified issue incident root cause caused result resulted mitigate"
    " mitigated impact impacted customers users due team problem because triggered investigation"
    " investigated found led affected affecting experienced occurred requests service services"
    " subset recent underlying several potential combination factors"
)
