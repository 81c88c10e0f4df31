"""Which new incidents become cases of the suite, and are never trained on from then on.

Split by time within each failure family: the newest are cases, so that a model is asked about what
came after what it learned. Near-copies stay together. Everything here is decided by times, ids and
counts: the same store gives the same cases.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ingest.lessons import Embargoed, datasets, embargo, embargoed, taught
from ingest.store import Store, Stored
from retrieval.index import Index
from retrieval.quotes import key
from training.admission import (
    UNLABELLED,
    everything,
    family_of,
    stratum_of,
    suspected_poison,
    why_not,
)
from training.retold import groups

SHARE = 0.27  # research: newest 20 % and at least 8 of each family; 9 of the 33 of the first era
MOST = 12  # of a family and an era: more would cost training more than they tell
LEAST = 5  # incidents of a family: of fewer, none can be spared
DEV = 3  # one group of three is for choosing between adapters, the others for the gate


@dataclass(frozen=True, slots=True)
class Candidate:
    """An incident that may become a case; `stratum` is what the split by time runs over."""

    incident_id: str
    version: int
    family: str
    stratum: str
    at: datetime
    group: int  # of near-copies
    one_off: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A candidate that is one, and for what."""

    candidate: Candidate
    slice: Literal["dev", "gate"]


def split(
    candidates: Sequence[Candidate],
    sizes: Mapping[str, int],
    *,
    share: float = SHARE,
    most: int = MOST,
    least: int = LEAST,
) -> list[Case]:
    """The cases among these, whole groups of near-copies only; dev and gate share no group.

    `sizes` is how many incidents each stratum has in all. Of a stratum, `share` of the candidates
    and at most `most`, the newest; of the one-offs, `share` by the hash of their ids.
    """
    grouped: defaultdict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        grouped[candidate.group].append(candidate)
    by_stratum: defaultdict[str, list[list[Candidate]]] = defaultdict(list)
    odd: list[list[Candidate]] = []
    for members in grouped.values():
        if all(member.one_off for member in members):
            odd.append(members)
        else:
            by_stratum[max(members, key=_newer).stratum].append(members)
    cases: list[Case] = []
    for stratum in sorted(by_stratum):
        if sizes.get(stratum, 0) >= least:
            cases += _sliced(_newest(by_stratum[stratum], share, most))
    cases += _sliced(sorted((g for g in odd if _drawn(g) < share), key=_drawn))
    return cases


def freeze(
    store: Store,
    index: Index,
    *,
    era: int,
    suite: int,
    actor: str,
    share: float = SHARE,
    most: int = MOST,
    least: int = LEAST,
    known: Collection[str] | None = None,
) -> list[Embargoed]:
    """The cases of this era, put under embargo the first time; asked again, the same.

    Neither `known` incidents nor their near-copies can become cases: by default, all that any
    dataset teaches, whether or not a model was trained on it. An era without any new case keeps
    nothing, and is asked anew the next time.
    """
    index.follow()
    if held := _of_era(store, era):
        return held
    candidates, sizes = candidates_of(store, index, taught_ever(store) if known is None else known)
    cases = [
        Embargoed(c.incident_id, c.version, c.family, era, case.slice, suite)
        for case in split(candidates, sizes, share=share, most=most, least=least)
        for c in [case.candidate]
    ]
    with store.transaction(actor) as writing:
        # Another process may have frozen this era since.
        if held := _of_era(store, era):
            return held
        embargo(writing, cases)
    return sorted(cases, key=lambda case: case.incident_id)


def candidates_of(
    store: Store, index: Index, known: Collection[str]
) -> tuple[list[Candidate], Counter[str]]:
    """Every incident that may become a case, and the size of each stratum."""
    here = sorted(everything(store), key=key)
    group_of = dict(zip(map(key, here), groups(here, index), strict=True))
    bound = set(embargoed(store)).union(known)
    taken = {group_of[key(stored)] for stored in here if key(stored)[0] in bound}
    admitted = [stored for stored in here if why_not(stored) is None]
    poison = {id for ids in suspected_poison(admitted) for id in ids}
    families = family_sizes(here)
    candidates = []
    for stored in admitted:
        incident, (id, version) = stored.incident, key(stored)
        if id in poison or group_of[id, version] in taken:
            continue
        assert incident.started_at
        family, at, group = family_of(incident), incident.started_at, group_of[id, version]
        once = is_one_off(family, families)
        candidates.append(Candidate(id, version, family, stratum_of(incident), at, group, once))
    return candidates, Counter(stratum_of(stored.incident) for stored in admitted)


def taught_ever(store: Store) -> set[str]:
    """The ids of all that any dataset teaches, as its subject or as a precedent."""
    return set().union(*(taught(store, kept.name) for kept in datasets(store)))


def family_sizes(here: Collection[Stored]) -> Counter[str]:
    """How many incidents that may be found each family has, resolved or not."""
    return Counter(family_of(s.incident) for s in here if s.incident.trust == "trusted")


def is_one_off(family: str, sizes: Mapping[str, int]) -> bool:
    """Whether this family has been seen once; of an unlabelled incident nobody can say so."""
    return family != UNLABELLED and sizes.get(family, 0) == 1


def _of_era(store: Store, era: int) -> list[Embargoed]:
    return [case for case in embargoed(store).values() if case.era == era]


def _newest(groups: Sequence[list[Candidate]], share: float, most: int) -> list[list[Candidate]]:
    """The newest groups that fit into the share, the newest first; a larger one is passed over."""
    room = min(most, round(share * sum(map(len, groups))))
    taken = []
    for group in sorted(groups, key=lambda g: _newer(max(g, key=_newer)), reverse=True):
        if len(group) <= room:
            taken.append(group)
            room -= len(group)
    return taken


def _sliced(groups: Sequence[list[Candidate]]) -> list[Case]:
    return [
        Case(candidate, "dev" if n % DEV == 0 else "gate")
        for n, group in enumerate(groups)
        for candidate in sorted(group, key=_newer)
    ]


def _newer(candidate: Candidate) -> tuple[datetime, str]:
    return candidate.at, candidate.incident_id


def _drawn(group: Sequence[Candidate]) -> float:
    """A number from 0 to 1 that is drawn once for all: the hash of the first id."""
    digest = hashlib.sha256(min(c.incident_id for c in group).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
