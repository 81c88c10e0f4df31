"""Which incidents may teach, what makes two of them the same failure, and why others may not."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ingest.incident import Incident
from ingest.store import Store, Stored
from retrieval.prompt import cause_of, question_text
from retrieval.standing import question_words

UNLABELLED = "unlabelled"
AT_ONCE = 500  # incidents read at a time

# One resolution for many unrelated symptoms is what a planted back door looks like: research found
# 19 of 20 by it at two planted incidents, all at three, with no false alarm in 400.
LEAST_POISONED = 3
RELATED = 0.5  # share of the words that two alerts have in common
# Words belong to a cause when at least three alerts have them and at least four fifths of those
# had it. A trigger belongs to one cause without exception, beside words that belong to others.
LEAST_SEEN, MOSTLY = 3, 0.8

_WORD = re.compile(r"\w+")
_NO_CAUSE = frozenset(
    ("", "unknown", "not known", "n a", "na", "none", "tbd", "to be determined", "pending")
)


def everything(store: Store) -> Iterator[Stored]:
    """The current version of every incident, quarantined ones too; no order is promised."""
    after = None
    while page := store.page(after=after, limit=AT_ONCE):
        yield from page
        after = page[-1].incident.id


def family_of(incident: Incident) -> str:
    """The failure family in small letters, `unlabelled` where nobody named one."""
    return (incident.cause_family or UNLABELLED).casefold()


def kin_of(incident: Incident) -> str:
    """What is equal for two incidents of one failure: the family, without one the cause's words.

    An unlabelled incident without a cause is kin to none: then it is its own id.
    """
    if incident.cause_family:
        return f"family {family_of(incident)}"
    cause = plain(cause_of(incident) or "")
    return f"cause {cause}" if cause not in _NO_CAUSE else f"incident {incident.id}"


def stratum_of(incident: Incident) -> str:
    """What a split by time runs over: the family, or the service of what has none."""
    if incident.cause_family:
        return family_of(incident)
    return f"{UNLABELLED} {min((s.casefold() for s in incident.services), default='')}".rstrip()


def plain(text: str) -> str:
    """The words of a text in small letters, one blank between them."""
    return " ".join(_WORD.findall(text.casefold()))


def in_any_order(text: str) -> tuple[str, ...]:
    """The words of a text by which it is the same text, told in another order."""
    return tuple(sorted(plain(text).split()))


def why_not(stored: Stored) -> str | None:
    """Why this incident teaches nothing; None where it may."""
    incident = stored.incident
    if incident.trust != "trusted":
        return "quarantined"
    if incident.status != "resolved":
        return "not resolved"
    if incident.started_at is None:
        return "no start"
    if plain(cause_of(incident) or "") in _NO_CAUSE:
        return "no cause"
    return None


def suspected_poison(admitted: Sequence[Stored]) -> list[list[str]]:
    """Groups of incident ids to be looked at by a person, and to teach nothing until then: with one
    cause and one resolution for unrelated alerts of at least three families, or with one phrase
    that stands for one cause in alerts that otherwise look like at least three other failures."""
    alike: defaultdict[tuple[str, str], list[Incident]] = defaultdict(list)
    for stored in admitted:
        incident = stored.incident
        if incident.resolution:
            alike[plain(incident.root_cause or ""), plain(incident.resolution)].append(incident)
    groups = [same for same in alike.values() if _dispersed(same)]
    found = {tuple(sorted(str(incident.id) for incident in group)) for group in groups}
    return sorted(map(list, found | _triggered([stored.incident for stored in admitted])))


def _dispersed(incidents: Sequence[Incident]) -> bool:
    if len({stratum_of(incident) for incident in incidents}) < LEAST_POISONED:
        return False
    apart: dict[str, frozenset[str]] = {}
    for incident in incidents:
        asked = question_words(question_text(incident))
        if stratum_of(incident) not in apart and not any(
            _related(asked, w) for w in apart.values()
        ):
            apart[stratum_of(incident)] = asked
    return len(apart) >= LEAST_POISONED


def _triggered(incidents: Sequence[Incident]) -> set[tuple[str, ...]]:
    """Alerts of many failures that one phrase turns into one cause, whatever they are labelled."""
    causes = [plain(cause_of(incident) or "") for incident in incidents]
    told = [_phrases(incident) for incident in incidents]
    holders: defaultdict[str, list[int]] = defaultdict(list)
    for n, phrases in enumerate(told):
        for phrase in phrases:
            holders[phrase].append(n)
    owner: dict[str, str] = {}
    sole: dict[str, list[int]] = {}
    for phrase, held in holders.items():
        if len(held) < LEAST_SEEN:
            continue
        [(cause, n)] = Counter(causes[h] for h in held).most_common(1)
        if n >= MOSTLY * len(held):
            owner[phrase] = cause
        if n == len(held):
            sole[phrase] = held
    # Two words in a row: a single one is shared by too many failures to tell them apart.
    others = [
        {owner[p] for p in phrases if " " in p and p in owner} - {cause}
        for phrases, cause in zip(told, causes, strict=True)
    ]
    found = set()
    for held in sole.values():
        contested = [h for h in held if others[h]]
        looks_like = set().union(*(others[h] for h in contested))
        if len(contested) >= MOSTLY * len(held) and len(looks_like) >= LEAST_POISONED:
            found.add(tuple(sorted(str(incidents[h].id) for h in held)))
    return _widest(found)


def _widest(found: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Without the groups that lie within another: a trigger's words each find a part of it."""
    whole: list[set[str]] = []
    for group in sorted(found, key=lambda g: (-len(g), g)):
        if not any(set(group) <= other for other in whole):
            whole.append(set(group))
    return {tuple(sorted(group)) for group in whole}


def _phrases(incident: Incident) -> set[str]:
    """The words of its alert and each two in a row, without what names a service."""
    own = set(plain(" ".join(incident.services)).split())
    words = [word for word in plain(question_text(incident)).split() if word not in own]
    return {*words, *(" ".join(two) for two in pairwise(words))}


def _related(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= RELATED * min(len(one), len(other))
