"""What is known today of which incidents had the same cause: what a replay of history is held to.

Three answers, never more certain than the record: incidents that share a cause family; without
one, near-copies and incidents that tell their cause in the same words (a recurrence); else nobody
can say, which is neither right nor wrong.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
import numpy.typing as npt

from ingest.incident import Incident
from ingest.store import Store, Stored
from retrieval.copies import AT_ONCE_S
from retrieval.index import Index
from retrieval.prompt import cause_of
from retrieval.quotes import key
from training.admission import everything, kin_of
from training.retold import groups

Rule = Literal["family", "recurrence"]
Mask = npt.NDArray[np.bool_]

# What people write into a field that they may not leave empty.
_NO_FAMILY = frozenset(("", "unknown", "other", "others", "none", "n/a", "na", "tbd", "unlabelled"))


@dataclass(frozen=True, slots=True)
class Known:
    """What is known today of one incident; `copies` numbers its group of near-copies, `kin` is
    equal for incidents that tell one cause in the same words."""

    incident_id: str
    version: int
    started_at: datetime | None
    families: frozenset[str]
    kin: str
    copies: int
    cause: str | None
    duration_s: float | None
    services: frozenset[str]
    may_be_asked: bool


class Precedents:
    """The causes of a whole store by hindsight, laid beside the rows of its index.

    A few hundred bytes an incident stay in memory, no text but the first sentence of its cause.
    Nothing may be added to the index meanwhile.
    """

    def __init__(self, store: Store, index: Index, *, label: str | None = None) -> None:
        """`label` names the entry of `labels` that families are taken from, in place of
        `cause_family`; several in one entry are parted by semicolons."""
        self.known: Mapping[str, Known] = {k.incident_id: k for k in _known(store, index, label)}
        self._facets, self._rows = index.facets, index.facets.n
        held = [self.known.get(id) for id, _ in index.facets.keys[: self._rows]]
        self._own = _places([[k.incident_id] if k else [] for k in held])
        self._of_family = _places([k.families if k else [] for k in held])
        self._alike = _places([[k.kin, k.copies] if k else [] for k in held])
        self._of_service = _places([k.services if k else [] for k in held])
        self._families = [k.families if k else frozenset() for k in held]
        self._started = np.array([self._facets.started(row) for row in range(self._rows)])
        lasted = [k.duration_s if k else None for k in held]
        self._lasted = np.array([np.nan if s is None else s for s in lasted])

    def seen(self, at: datetime) -> Mask:
        """Which rows were known just before `at`, (rows,) booleans."""
        return self._facets.seen(at)[: self._rows]

    def of(self, known: Known, seen: Mask) -> tuple[Rule | None, Mask]:
        """By which rule its precedents are told, and which of the rows `seen` they are.

        None where nobody can say. Another record of the same event, one that began within two
        hours, is no precedent.
        """
        earlier = seen & ~self._same_event(known)
        if known.families:
            return "family", earlier & self._with(self._of_family, known.families)
        rows = earlier & self._with(self._alike, (known.kin, known.copies))
        return ("recurrence" if rows.any() else None), rows

    def of_services(self, known: Known, seen: Mask) -> Mask:
        """The rows `seen` that share a service with it; all of them where it names none."""
        return seen & self._with(self._of_service, known.services) if known.services else seen

    def newest(self, rows: Mask, most: int) -> list[int]:
        """Of these rows those that began last, the newest first; none without a start."""
        dated = np.flatnonzero(rows & ~np.isnan(self._started))
        order = np.argsort(-self._started[dated], kind="stable")[:most]
        return [int(row) for row in dated[order]]

    def commonest(self, rows: Mask) -> list[str]:
        """The families of these rows, the most frequent first."""
        said = Counter(f for row in np.flatnonzero(rows) for f in sorted(self._families[row]))
        return [family for family, _ in said.most_common()]

    def durations(self, rows: Mask) -> list[float]:
        """How long the incidents of these rows took, in seconds; of those that say so."""
        lasted = self._lasted[rows]
        return [float(seconds) for seconds in lasted[~np.isnan(lasted)]]

    def _same_event(self, known: Known) -> Mask:
        """Its own versions, and copies of it that began when it did."""
        own: Mask = self._with(self._own, [known.incident_id])
        if known.started_at is None:
            return own
        at_once = np.abs(self._started - known.started_at.timestamp()) <= AT_ONCE_S
        copies: Mask = at_once & self._with(self._alike, [known.copies])
        return own | copies

    def _with(self, places: Mapping[Hashable, np.ndarray], names: Collection[Hashable]) -> Mask:
        found = np.zeros(self._rows, bool)
        for name in names:
            if name in places:
                found[places[name]] = True
        return found


def families_of(incident: Incident, label: str | None = None) -> frozenset[str]:
    """The cause families of an incident in small letters; none where nobody named one."""
    said = (incident.labels.get(label) if label else incident.cause_family) or ""
    named = said.split(";") if label else [said]
    return frozenset(name.strip().casefold() for name in named) - _NO_FAMILY


def _known(store: Store, index: Index, label: str | None) -> Iterator[Known]:
    told: list[Known] = []

    def noted() -> Iterator[Stored]:
        for stored in everything(store):
            told.append(_of(stored, label))
            yield stored

    # One pass: the texts are read a page at a time and never all held.
    for known, copies in zip(told, groups(noted(), index), strict=True):
        yield replace(known, copies=copies)


def _of(stored: Stored, label: str | None) -> Known:
    incident, (id, version) = stored.incident, key(stored)
    ends = incident.started_at, incident.resolved_at
    lasted = (ends[1] - ends[0]).total_seconds() if ends[0] and ends[1] else 0.0
    resolved = incident.trust == "trusted" and incident.status == "resolved"
    return Known(
        incident_id=id,
        version=version,
        started_at=incident.started_at,
        families=families_of(incident, label),
        kin=kin_of(incident),
        copies=-1,
        cause=cause_of(incident),
        duration_s=lasted or None,  # a source that notes one time for both ends knows neither
        services=frozenset(s.casefold() for s in incident.services),
        may_be_asked=resolved and incident.started_at is not None,
    )


def _places(named: Sequence[Collection[Hashable]]) -> dict[Hashable, np.ndarray]:
    """The rows under each name."""
    rows: defaultdict[Hashable, list[int]] = defaultdict(list)
    for row, names in enumerate(named):
        for name in names:
            rows[name].append(row)
    return {name: np.array(held, np.intp) for name, held in rows.items()}
