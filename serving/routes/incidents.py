"""Incidents over HTTP: take them in, show one, list them, release, forget."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError

from ingest.draft import drafts_of
from ingest.errors import Refused, Unreadable
from ingest.incident import Incident, Moment, Trust
from ingest.refusal import Fault, faults, in_one_sentence
from ingest.store import Receipt, Writing
from serving import body
from serving.auth import Caller, needs
from serving.problem import MEDIA_TYPE, Problem
from serving.service import Service, kept_about
from serving.wire import IncidentView, Reason, Receipts

router = APIRouter(prefix="/v1/incidents", tags=["incidents"])


class NothingTaken(Refused):
    """Not one of the incidents sent could be kept; `members` says why, one by one."""

    def __init__(self, view: dict[str, Any]) -> None:
        first = view["refused"][0]
        more = len(view["refused"]) - 1
        others = f" (and {more} more, see refused)" if more else ""
        super().__init__(f"incident {first['index']}: {first['why']}{others}")
        self.members = view


_TAKES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": "#/components/schemas/Incident"},
                        {"type": "array", "items": {"$ref": "#/components/schemas/Incident"}},
                    ]
                }
            }
        },
    }
}


@router.post(
    "",
    response_model=Receipts,
    openapi_extra=_TAKES,
    responses={422: {"model": Problem, "content": {MEDIA_TYPE: {}}}},
)
async def take_in(request: Request, who: Annotated[Caller, Depends(needs("write"))]) -> Response:
    """Keep one incident or a list; the same `source` and `source_id` again is the same incident.

    What can be kept is kept, durably, before this answers; the rest is listed under `refused`.
    422 when nothing at all could be kept.
    """
    content = await body.read(request)
    items = body.parsed(content)
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise Unreadable("the body is neither an incident nor a list of incidents")
    valid: dict[int, Incident] = {}
    refused: dict[int, str] = {}
    for n, item in enumerate(items):
        try:
            valid[n] = Incident.model_validate(item)
        except ValidationError as error:
            refused[n] = _told(in_one_sentence(faults(error)))

    service: Service = request.app.state.service
    drafts = await to_thread.run_sync(
        lambda: drafts_of(list(valid.values()), redact_ips=service.store.redact_ips)
    )

    def keep(writing: Writing) -> tuple[int, dict[str, Any]]:
        receipts = dict(zip(valid, writing.keep(drafts), strict=True))
        return _receipts(len(items), receipts, refused)

    return await body.done(request, content, who.name, keep)


@router.get("", response_model=list[dict[str, Any]])
async def listed(
    request: Request,
    who: Annotated[Caller, Depends(needs("read"))],
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    service: str | None = None,
    source: str | None = None,
    trust: Trust | None = None,
    as_of: Moment | None = None,
) -> Response:
    """Incidents, the newest start first; `after` is the last id of the page before."""
    store = request.app.state.service.store

    def page() -> list[dict[str, Any]]:
        found = store.page(
            after=after, limit=limit, service=service, source=source, trust=trust, as_of=as_of
        )
        return [{**s.incident.model_dump(mode="json"), "quarantine": s.quarantine} for s in found]

    return body.as_json(await to_thread.run_sync(page))


@router.get("/{incident_id}", response_model=IncidentView)
async def shown(
    request: Request,
    incident_id: str,
    who: Annotated[Caller, Depends(needs("read"))],
    as_of: Moment | None = None,
) -> Response:
    """One incident with its versions, the verdicts on it and what it has taught."""
    service: Service = request.app.state.service

    def look() -> dict[str, Any]:
        return kept_about(service.store, incident_id, as_of)

    return body.as_json(await to_thread.run_sync(look))


@router.delete("/{incident_id}", response_model=dict[str, Any])
async def forgotten(
    request: Request, incident_id: str, who: Annotated[Caller, Depends(needs("admin"))]
) -> Response:
    """Forget it: every version, verdict and vector; its name stays in the audit trail.

    Datasets that teach it are deleted, and suites and answers that quote it; models that it taught
    are marked as tainted.
    """
    content = await body.read(request)
    reason = body.as_model(Reason, body.parsed(content)) if content else Reason()

    def forget(writing: Writing) -> tuple[int, dict[str, Any]]:
        writing.forget(incident_id, reason=reason.reason or "not said")
        return 200, {"forgotten": incident_id}

    response = await body.done(request, content, who.name, forget)
    await to_thread.run_sync(request.app.state.service.remove_forgotten)
    return response


@router.post("/{incident_id}/release", response_model=dict[str, Any])
async def released(
    request: Request, incident_id: str, who: Annotated[Caller, Depends(needs("admin"))]
) -> Response:
    """Let a quarantined incident be found."""
    content = await body.read(request)
    reason = body.as_model(Reason, body.parsed(content)) if content else Reason()

    def release(writing: Writing) -> tuple[int, dict[str, Any]]:
        writing.release(incident_id, reason=reason.reason or "not said")
        return 200, {"released": incident_id}

    return await body.done(request, content, who.name, release)


def _told(fault: Fault) -> str:
    return f"{fault.field}: {fault.why}" if fault.field else fault.why


def _receipts(
    count: int, receipts: dict[int, Receipt], refused: dict[int, str]
) -> tuple[int, dict[str, Any]]:
    refused |= {n: r.why or "" for n, r in receipts.items() if r.outcome == "refused"}
    kept = {n: r for n, r in receipts.items() if r.outcome != "refused"}
    view = {
        "stored": sum(r.outcome == "stored" for r in kept.values()),
        "unchanged": sum(r.outcome == "unchanged" for r in kept.values()),
        "quarantined": sum(r.outcome == "quarantined" for r in kept.values()),
        "refused": [{"index": n, "why": why} for n, why in sorted(refused.items())],
        "ids": [kept[n].id if n in kept else None for n in range(count)],
    }
    if refused and not kept:
        raise NothingTaken(view)
    return 200, view
