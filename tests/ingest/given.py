"""What the tests of the store are given: an incident of few words, and some days."""

from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.incident import Incident

DAY_1 = datetime(2024, 3, 1, 9, tzinfo=UTC)
DAY_2, DAY_3, DAY_9 = (DAY_1 + timedelta(days=n) for n in (1, 2, 8))


def incident(title: str = "db-3 disk full", *, of: str = "7", **fields: Any) -> Incident:
    """An incident from the pager; `of` is what the pager calls it."""
    return Incident(source="pager", source_id=of, title=title, **fields)
