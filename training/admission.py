"""Which incidents may teach, what makes two of them the same failure, and why others may not."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

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
    """Groups of incident ids with one cause and one resolution for unrelated alerts of at least
    three families: to be looked at by a person, and to teach nothing until then."""
    alike: defaultdict[tuple[str, str], list[Incident]] = defaultdict(list)
    for stored in admitted:
        incident = stored.incident
        if incident.resolution:
            alike[plain(incident.root_cause or ""), plain(incident.resolution)].append(incident)
    groups = [same for same in alike.values() if _dispersed(same)]
    return sorted(sorted(str(incident.id) for incident in group) for group in groups)


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


def _related(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= RELATED * min(len(one), len(other))
