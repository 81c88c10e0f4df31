"""What travels over HTTP: requests as they must be, answers as they will be."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ingest import audit
from ingest.feedback import Verdict
from ingest.incident import (
    Evidence,
    Incident,
    Moment,
    Name,
    OptionalLine,
    OptionalName,
    visible,
)
from ingest.store import Store, Stored
from retrieval.search import Answer, Hit, Question
from serving.comparison import next_step
from training import registry
from training.lineage import Lesson
from training.registry import Pointer, Registered

LONGEST_QUESTION = 100_000  # characters: a screenful of pasted logs many times over


def _asked(value: Any) -> Any:
    return visible(value).strip() if isinstance(value, str) else value


def _evidence(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"text": i} if isinstance(i, str) else i for i in items if i is not None]


Asked = Annotated[str, BeforeValidator(_asked), Field(min_length=1, max_length=LONGEST_QUESTION)]
Services = Annotated[
    list[Name], BeforeValidator(lambda v: [] if v is None else v), Field(max_length=50)
]


class Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchRequest(Request):
    """What to look for; with `as_of`, what would have been found at that moment."""

    text: Asked
    services: Services = []
    severity: OptionalName = None
    source: OptionalName = None
    since: Moment | None = None
    as_of: Moment | None = None
    limit: int = Field(10, ge=1, le=100)

    def question(self) -> Question:
        return Question(
            text=self.text,
            services=tuple(self.services),
            severity=self.severity,
            source=self.source,
            since=self.since,
            as_of=self.as_of,
            limit=self.limit,
        )


class DiagnoseRequest(Request):
    """A question in words, or an alert as the alerting tool sends it; evidence beside either."""

    text: Asked | None = None
    alert: dict[str, Any] | None = None
    services: Services = []
    evidence: Annotated[list[Evidence], BeforeValidator(_evidence), Field(max_length=200)] = []
    as_of: Moment | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> "DiagnoseRequest":
        if (self.text is None) == (self.alert is None):
            raise ValueError("give either text or alert")
        return self


class FeedbackRequest(Request):
    """A person's verdict on one answer: bound to the version that was shown."""

    incident_id: Name
    verdict: Verdict
    version: int | None = Field(None, ge=1)
    query_id: OptionalName = None
    note: OptionalLine = None
    who: OptionalName = None


class Reason(Request):
    """Why an act that people will ask about was done."""

    reason: OptionalLine = None


class Decision(Reason):
    """A move of the registry's pointer; with `revision`, only while the pointer is still there."""

    revision: int | None = Field(None, ge=0)


class Promotion(Decision):
    """`override` signs for a model that the gate did not pass or that is tainted."""

    override: bool = False


class Refusal(BaseModel):
    index: int
    why: str


class Receipts(BaseModel):
    """What became of the incidents sent; `ids` in the order sent, null where refused."""

    stored: int = 0
    unchanged: int = 0
    quarantined: int = 0
    refused: list[Refusal] = []
    ids: list[str | None] = []


class Copy(BaseModel):
    incident_id: str
    source: str
    source_id: str
    title: str
    started_at: datetime | None


class HitView(BaseModel):
    incident_id: str
    source: str
    source_id: str
    version: int
    title: str
    url: str | None
    services: list[str]
    severity: str | None
    score: float
    similarity: float | None
    why: list[str]
    root_cause: str | None
    resolution: str | None
    started_at: datetime | None
    resolved_at: datetime | None
    outcomes: dict[str, int]
    copies: list[Copy]


class SearchAnswer(BaseModel):
    """Hits, best first, also when `status` is novel; `degraded` says what was not working."""

    query_id: str
    status: Literal["known", "novel"]
    hits: list[HitView]
    degraded: str | None
    took_ms: float


class PointerView(BaseModel):
    """Versions; null is the base itself. `changed` is false when it stood so already.

    `note` says what keeps a promoted model from being served at once, and what to do; or which
    champions a rollback passed over.
    """

    champion: int | None
    previous: int | None
    challenger: int | None
    frozen: bool
    revision: int
    changed: bool = False
    note: str | None = None


class ModelView(BaseModel):
    """One model; `marks` says what it is now, `tainted` names what it must forget."""

    version: int
    name: str
    at: datetime
    marks: list[Literal["champion", "previous", "challenger"]]
    verdict: Literal["pass", "fail", "inconclusive"] | None
    metrics: dict[str, Any]
    dataset: str | None
    parent: int | None
    run_id: str | None
    base_hash: str
    prompt_hash: str
    adapter_sha256: str
    tainted: list[str]
    promoted_at: datetime | None


class ModelWhole(ModelView):
    """One model with the gate's report on it, and the audit entries about it, the latest last.

    `next` says what a person may do about it now.
    """

    report: dict[str, Any]
    acts: list[dict[str, Any]]
    next: str


class LessonView(BaseModel):
    """One incident that taught a model; `model` and `dataset` are the first to teach it."""

    incident_id: str
    version: int
    model: str
    dataset: str
    forgotten: bool


class ModelList(BaseModel):
    pointer: PointerView
    models: list[ModelView]


class IncidentView(Incident):
    """One incident with everything that is kept about it."""

    quarantine: list[str]
    versions: list[dict[str, Any]]
    feedback: list[dict[str, Any]]
    lineage: dict[str, Any]


def hit_view(hit: Hit) -> dict[str, Any]:
    """The hit as plain JSON-ready values, field for field `HitView`."""
    incident = hit.stored.incident
    return {
        "incident_id": incident.id,
        "source": incident.source,
        "source_id": incident.source_id,
        "version": incident.version,
        "title": incident.title,
        "url": incident.url,
        "services": incident.services,
        "severity": incident.severity,
        "score": round(hit.score, 4),
        "similarity": None if hit.similarity is None else round(hit.similarity, 4),
        "why": hit.why,
        "root_cause": incident.root_cause,
        "resolution": incident.resolution,
        "started_at": incident.started_at,
        "resolved_at": incident.resolved_at,
        "outcomes": dict(hit.outcomes),
        "copies": [_copy(c) for c in hit.copies],
    }


def answer_view(answer: Answer) -> dict[str, Any]:
    """The answer as plain JSON-ready values, field for field `SearchAnswer`."""
    return {
        "query_id": answer.query_id,
        "status": answer.status,
        "hits": [hit_view(h) for h in answer.hits],
        "degraded": answer.degraded,
        "took_ms": round(answer.took_ms, 2),
    }


def pointer_view(
    pointer: Pointer, before: Pointer | None = None, note: str | None = None
) -> dict[str, Any]:
    """The pointer as plain JSON-ready values; `before` is what it was when the act began."""
    told = PointerView.model_fields.keys() - {"changed", "note"}
    view = {name: getattr(pointer, name) for name in PointerView.model_fields if name in told}
    changed = before is not None and before.revision != pointer.revision
    return {**view, "changed": changed, "note": note}


def model_view(model: Registered, pointer: Pointer) -> dict[str, Any]:
    """The model as plain JSON-ready values, field for field `ModelView`."""
    fields = [name for name in ModelView.model_fields if name != "marks"]
    marks = [
        mark
        for mark in ("champion", "previous", "challenger")
        if getattr(pointer, mark) == model.version
    ]
    return {**{name: getattr(model, name) for name in fields}, "marks": marks}


def lesson_view(lesson: Lesson) -> dict[str, Any]:
    """The lesson as plain JSON-ready values, field for field `LessonView`."""
    return asdict(lesson)


def model_whole(store: Store, version: int) -> dict[str, Any]:
    """The model with its report and its trail, field for field `ModelWhole`. Raises `Unknown`."""
    model = registry.get(store, version)
    acts = [
        {**asdict(entry), "detail": json.loads(entry.detail)}
        for entry in audit.entries(store, subject=model.name)
    ]
    pointer = registry.pointer(store)
    view = model_view(model, pointer)
    step = next_step(view, frozen=pointer.frozen)
    return {**view, "report": model.report, "acts": acts, "next": step}


def version_view(stored: Stored) -> dict[str, Any]:
    """What the store added to one version: its clocks, its hash, what was removed from it."""
    incident = stored.incident
    return {
        "version": incident.version,
        "known_at": incident.known_at,
        "recorded_at": incident.recorded_at,
        "until": stored.until,
        "content_hash": stored.content_hash,
        "redactions": stored.redactions,
        "trust": incident.trust,
        "quarantine": stored.quarantine,
        "title": incident.title,
    }


def _copy(stored: Stored) -> dict[str, Any]:
    incident = stored.incident
    return {
        "incident_id": incident.id,
        "source": incident.source,
        "source_id": incident.source_id,
        "title": incident.title,
        "started_at": incident.started_at,
    }
