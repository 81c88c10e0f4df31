"""What was done about similar incidents, ranked by whether it held, each with its ruling."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ingest.incident import Incident
from ingest.store import Stored
from retrieval.claims import Precedent
from retrieval.patterns import any_of
from retrieval.policy import Ruling, rule_on
from retrieval.quotes import Citation, Record, cite, clipped, fields, sentences, stems

MOST_FIXES = 8
MOST_OF_ONE = 4  # sentences of one incident's text; its listed actions are all read
SHORT = 200  # characters: a resolution that needs no search for what was done
SAME_WORDS = 0.6  # Jaccard, of the telling words of two fixes


class Fix(Record):
    """Something that was done before: `text` stands letter by letter in the field that is named.

    `held` and `did_not_hold` count what the incidents record and what people reported since;
    `also` names the other incidents in which nearly the same was done.
    """

    text: str
    incident_id: str
    version: int
    source: str
    source_id: str
    field: str
    also: list[str]
    ruling: Ruling
    held: int
    did_not_hold: int
    words: str


@dataclass(slots=True)
class Tried:
    """One fix as the incidents tell of it, with what became of it."""

    citation: Citation
    stems: frozenset[str]
    weight: float
    supports: bool  # from an incident that had the cause which the answer names
    also: list[str] = field(default_factory=list)
    held: int = 0
    did_not_hold: int = 0
    stale: int = 0
    wrong: int = 0

    def join(self, other: "Tried") -> None:
        """Count what became of nearly the same fix elsewhere."""
        name = other.citation.incident_id
        if name != self.citation.incident_id and name not in self.also:
            self.also.append(name)
        self.supports = self.supports or other.supports
        self.held += other.held
        self.did_not_hold += other.did_not_hold
        self.stale += other.stale
        self.wrong += other.wrong

    @property
    def failed(self) -> bool:
        """Whether more speaks against it than for it."""
        return self.did_not_hold + self.stale + self.wrong > self.held


def fixes(
    near: Sequence[Precedent], supporting: frozenset[str], contrary: frozenset[str]
) -> list[Fix]:
    """The fixes of the precedents: those that held first, what did not hold last.

    `supporting` are the incidents that had the cause which the answer names: their fixes come
    before those of incidents that name no cause, and those of the `contrary`, which had another
    cause, are left out. A forbidden act comes after everything that may be done.
    """
    merged: list[Tried] = []
    for tried in _tried(near, supporting):
        if tried.citation.incident_id in contrary:
            continue
        same = next((m for m in merged if _nearly_the_same(m, tried)), None)
        if same:
            same.join(tried)
        else:
            merged.append(tried)
    ruled = [(tried, rule_on(tried.citation.quote)) for tried in merged]
    ruled.sort(key=lambda pair: _rank(*pair))
    return [_fix(*pair) for pair in _shown(ruled)]


def _rank(tried: Tried, ruling: Ruling) -> tuple[bool, bool, bool, float, float]:
    # The mean of a Beta(1, 1) prior: held once beats unknown, and twice of three beats once of two.
    held = (tried.held + 1) / (tried.held + tried.did_not_hold + tried.stale + tried.wrong + 2)
    return (
        tried.failed,
        ruling.decision == "forbidden",
        not tried.supports,
        -held,
        -tried.weight,
    )


def _shown(ruled: Sequence[tuple[Tried, Ruling]]) -> list[tuple[Tried, Ruling]]:
    """The best ones, with room kept for up to three that failed."""
    good = [pair for pair in ruled if not pair[0].failed]
    bad = [pair for pair in ruled if pair[0].failed]
    kept = min(len(bad), max(3, MOST_FIXES - len(good)))
    return good[: MOST_FIXES - kept] + bad[:kept]


def _tried(near: Sequence[Precedent], supporting: frozenset[str]) -> Iterator[Tried]:
    for precedent in near:
        for n, stored in enumerate(precedent.witnesses()):
            # People judged the hit, not the near-copies folded into it.
            outcomes = precedent.hit.outcomes if n == 0 else {}
            yield from _done_in(stored, precedent.weight, supporting, outcomes)


def _done_in(
    stored: Stored, weight: float, supporting: frozenset[str], outcomes: Mapping[str, int]
) -> Iterator[Tried]:
    seen: set[str] = set()
    for where, sentence, held in _acts(stored.incident):
        citation = cite(stored, where, clipped(sentence))
        words = stems(sentence) or frozenset({sentence.casefold()})
        if citation is None or citation.quote in seen:
            continue
        seen.add(citation.quote)
        tried = Tried(citation, words, weight, citation.incident_id in supporting)
        tried.held = int(held is True)
        tried.did_not_hold = int(held is False)
        if held is not False:  # a verdict on the incident is about what ended it
            tried.held += outcomes.get("fixed_it", 0)
            tried.did_not_hold += outcomes.get("did_not_fix", 0)
        tried.stale = outcomes.get("stale", 0)
        tried.wrong = outcomes.get("wrong", 0)
        yield tried


def _acts(incident: Incident) -> Iterator[tuple[str, str, bool | None]]:
    """(field, words, whether it held) of what was done; updates only where nothing else tells."""
    told = False
    for n, action in enumerate(incident.actions):
        told = True
        yield f"actions[{n}].text", action.text, action.held
    for where in ("resolution", "updates"):
        if where == "updates" and told:
            break
        for name, sentence in _sentences_of_acts(incident, where):
            told = True
            yield name, sentence, None
    whole = incident.resolution
    if not told and whole and len(whole) <= SHORT and not _BY_ITSELF.search(whole):
        yield "resolution", whole, None


def _sentences_of_acts(incident: Incident, where: str) -> list[tuple[str, str]]:
    found = [
        (name, sentence)
        for name, text in fields(incident, (where,))
        if _DONE.search(text)
        for sentence in sentences(text[:6_000])
        if len(sentence) <= 500 and _DONE.search(sentence) and not _NOT_DONE.search(sentence)
    ]
    return found[:MOST_OF_ONE]


def _nearly_the_same(a: Tried, b: Tried) -> bool:
    either = a.stems | b.stems
    if not either or len(a.stems & b.stems) < SAME_WORDS * len(either):
        return False
    return not contradicts(a.citation.quote, b.citation.quote)


def contradicts(one: str, other: str) -> bool:
    """Whether two texts of like words say opposite things: raised and lowered, do and do not."""
    if bool(_NEGATED.search(one)) != bool(_NEGATED.search(other)):
        return True
    return any(
        (up.search(one) and down.search(other)) or (down.search(one) and up.search(other))
        for up, down in _OPPOSITES
    )


def _fix(tried: Tried, ruling: Ruling) -> Fix:
    return Fix(
        **tried.citation.model_dump(exclude={"quote"}),
        text=tried.citation.quote,
        also=tried.also,
        ruling=ruling,
        held=tried.held,
        did_not_hold=tried.did_not_hold,
        words=_words(tried),
    )


def times(n: int) -> str:
    """Once, twice, 3 times."""
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _words(tried: Tried) -> str:
    said = []
    if tried.held:
        said.append(f"held {times(tried.held)}")
    if tried.did_not_hold:
        said.append(f"failed {times(tried.did_not_hold)}")
    if not said:
        said.append("nobody recorded whether it held")
    if tried.stale:
        said.append(f"marked stale {times(tried.stale)}")
    if tried.wrong:
        said.append(f"its incident was marked wrong {times(tried.wrong)}")
    return ", ".join(said)


# What only people do, or what they are ordered to; and what happens by itself as well, which
# counts only where somebody is said to do it: "traffic increased" is no fix.
_DID = any_of(
    "rolled_back rolling_back reverted reverting restarted restarting rebooted rebooting"
    " failed_over redeployed patched rerouted redirected drained rotated renewed reconfigured"
    " hotfixed power_cycled rate-limited purged flushed unblocked quarantined resized"
)
_HAPPENED = any_of(
    "scaled increased decreased raised lowered reduced enabled disabled removed deleted cleared"
    " replaced deployed expanded added applied changed updated migrated switched isolated stopped"
    " corrected reset moved shifted blocked throttled killed recreated turned took directed"
    " diverted set shed restored upgraded downgraded rebuilt"
)
_SOMEBODY = any_of(
    "we i they engineers team on-call oncall operators responders admins dba sre sres then manually"
    " by"
)
_MEANWHILE = any_of(
    "have has had also then manually temporarily immediately quickly successfully initially first"
    " finally subsequently been was were"
)
_ORDER = any_of(
    "Roll_back Revert Restart Reboot Fail_over Scale Increase Raise Lower Reduce Disable Enable"
    " Remove Delete Clear Flush Rotate Renew Replace Redeploy Deploy Upgrade Downgrade Drain Kill"
    " Restore Set Switch"
)
_DONE = re.compile(
    rf"(?:^[^\w\n]{{0,9}}|(?<=[.!?;] )){_ORDER}(?= )|(?i:\b{_DID}\b|^[^\w\n]{{0,9}}{_HAPPENED} )"
    rf"|(?i:\b{_SOMEBODY} (?:{_MEANWHILE} ){{0,3}}{_HAPPENED}\b)",
    re.MULTILINE,
)
# Plans, outcomes, and what happened to the system rather than what was done about it.
_NOT_DONE = re.compile(
    r"\b(?:will|going to|plan(?:s|ned)? to|working (?:on|to)|in the future|to prevent|should|would"
    r"|could|may|might|are (?:also )?\w{1,20}ing|is being|caused by|due to|because|as a result"
    r"|apologi[sz]e|fix (?:has been|was|is)|(?:bug|issue|problem) has been"
    r"|experienc\w{1,4}|investigat\w{1,4}|applied (?:a |the )?mitig"
    r"|restored (?:\w{1,20} )?(?:service|connectivity|access|power|functionality)"
    r"|(?:pods?|containers?|it) restarted|restarted (?:repeatedly|\d))",
    re.IGNORECASE,
)
_BY_ITSELF = re.compile(
    r"self-?(?:healed|recovered|resolved)|automatically|by itself|on its own", re.IGNORECASE
)
_OPPOSITES = [
    (re.compile(rf"\b(?:{a})\b", re.IGNORECASE), re.compile(rf"\b(?:{b})\b", re.IGNORECASE))
    for a, b in (
        (r"increas\w*|rais\w*|up|grow\w*", r"decreas\w*|reduc\w*|lower\w*|down|shrink\w*"),
        (r"enabl\w*|on", r"disabl\w*|off"),
        (r"add\w*", r"remov\w*|delet\w*|drop\w*"),
        (r"start\w*", r"stop\w*"),
        (r"attach\w*", r"detach\w*"),
        (r"upgrad\w*", r"downgrad\w*"),
    )
]
_NEGATED = re.compile(r"\b(?:not|never|don't|didn't|without|avoid)\b", re.IGNORECASE)
