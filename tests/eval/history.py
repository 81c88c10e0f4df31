"""A year of few words: incidents that come back, one that is new, and some that nobody labelled."""

from datetime import UTC, datetime, timedelta
from typing import Any

from eval.backtest import Case, backtest, chosen
from eval.precedents import Precedents
from ingest.incident import Incident
from ingest.store import Store
from tests.eval.frozen import index_of

JANUARY = datetime(2024, 1, 1, 9, tzinfo=UTC)
POOL, DISK, DNS = "pool exhausted", "disk full", "name expired"
_CAUSES = {
    POOL: "A deploy doubled the pool size of every checkout pod.",
    DISK: "Log rotation had been switched off on the host.",
    DNS: "The zone of the domain was not renewed in time.",
}
_SEEN = {
    POOL: ("orders-db refuses connections", "FATAL: sorry, too many clients already", "orders-db"),
    DISK: ("logs host is full", "No space left on device, /var/log at 100%", "logs"),
    DNS: ("nothing resolves", "NXDOMAIN for api.example.test everywhere", "edge"),
}


def incident(of: str, day: float, family: str | None, *, hours: float = 1, **more: Any) -> Incident:
    """One that began on this day of the year, and looked and ended as its family does."""
    began = JANUARY + timedelta(days=day)
    title, symptoms, service = _SEEN.get(family or "", ("queue grows", f"lag of {of} rises", "bus"))
    told: dict[str, Any] = {
        "source": "pager", "source_id": of, "title": f"{title}, {of}", "symptoms": symptoms,
        "services": [service], "started_at": began, "resolved_at": began + timedelta(hours=hours),
        "root_cause": _CAUSES.get(family or ""), "cause_family": family,
    }  # fmt: skip
    return Incident(**{**told, **more})


def year() -> list[Incident]:
    """In order of their start."""
    retold: dict[str, Any] = {"title": "consumer of bills is stuck", "symptoms": "rebalance loop"}
    return [
        incident("pool-1", 1, POOL, hours=4),
        incident("disk-1", 5, DISK, hours=2),
        incident("pool-2", 20, POOL, hours=3),
        incident("disk-2", 25, DISK, hours=1),
        incident("dns-1", 30, DNS, hours=2),
        incident("odd-1", 40, None, **retold),
        incident("odd-2", 60, None, **retold),
        # It looks like a full disk and was none.
        incident("pool-3", 70, POOL, hours=5, title=_SEEN[DISK][0], symptoms=_SEEN[DISK][1]),
        incident("pool-4", 80, POOL, hours=2),
    ]


def store_with(folder: Any, incidents: list[Incident]) -> Store:
    store = Store.open(f"sqlite:///{folder / 'scarwise.db'}")
    store.put(incidents, actor="tests")
    return store


def replayed(store: Store, *, label: str | None = None, **how: Any) -> dict[str, Case]:
    """Every case by the name that the pager gave it; compared by words only, which is quick."""
    index = index_of(store)
    precedents = Precedents(store, index, label=label)
    cases = backtest(store, index, precedents, chosen(precedents), **how)
    return {case.source_id: case for case in cases}
