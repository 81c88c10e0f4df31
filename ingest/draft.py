"""One incident made safe to keep: all of its next version that needs no look at the store."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from ingest.incident import Incident, incident_id, stated_known_at, visible
from ingest.redact import redact, redact_text
from ingest.trust import judge


@dataclass(frozen=True, slots=True)
class Draft:
    """A redacted and judged incident; the store gives it a number and a time."""

    id: str
    incident: Incident
    document: dict[str, Any]
    content_hash: str
    redactions: dict[str, int]
    quarantine: list[str]

    def known_at(self, before: datetime | None, now: datetime) -> datetime:
        """When the world could know this, as the version that follows one known at `before`.

        A first version says so itself. A later one is known when it was made, unless it tells of
        a later end than the one before; never earlier than that one.
        """
        given, stated = self.incident.known_at, stated_known_at(self.incident)
        if before is None:
            return given or stated or now
        # The same time as before is an echo: an incident that was read, edited and sent back.
        if given and given != before:
            return max(given, before)
        return stated if stated and stated > before else max(now, before)


def drafts_of(incidents: Sequence[Incident], *, redact_ips: bool = False) -> list[Draft]:
    """Redact, judge and hash these; nothing of an incident may reach a disk before."""
    return [_draft(incident, redact_ips) for incident in incidents]


def safe_id(source: str, source_id: str, *, redact_ips: bool = False) -> str:
    """The id under which an incident of these names is kept."""
    names = [_safe_name(visible(n).strip(), redact_ips)[0] for n in (source, source_id)]
    return incident_id(*names)


def safe_text(text: str, *, redact_ips: bool = False) -> str:
    """What a person wrote about an incident, such as a reason or a question, redacted."""
    return redact_text(visible(text).strip(), ips=redact_ips)[0]


def _draft(incident: Incident, redact_ips: bool) -> Draft:
    source, of_source = _safe_name(incident.source, redact_ips)
    source_id, of_id = _safe_name(incident.source_id, redact_ips)
    named = incident.model_copy(update={"source": source, "source_id": source_id})
    redacted = redact(named, ips=redact_ips)
    document = redacted.incident.content()
    canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return Draft(
        id=incident_id(source, source_id),
        incident=redacted.incident,
        document=document,
        content_hash=hashlib.sha256(canonical).hexdigest(),
        redactions=dict(of_source + of_id + Counter(redacted.counts)),
        quarantine=judge(redacted.incident),
    )


def _safe_name(name: str, redact_ips: bool) -> tuple[str, Counter[str]]:
    # In a sentence a placeholder would do, but two names must not become the same one.
    text, counts = redact_text(name, ips=redact_ips)
    if text == name:
        return name, Counter()
    return f"redacted-{hashlib.sha256(name.encode()).hexdigest()[:16]}", Counter(counts)
