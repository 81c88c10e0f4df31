"""The pages of what is kept: the incidents, one of them whole, and those that wait for a person."""

from typing import Any

from fastapi import APIRouter, Request, Response

from ingest import feedback, queries
from ingest.incident import Trust
from ingest.lessons import lessons_of
from ingest.store import Store, Stored
from retrieval.policy import rule_on
from serving.console.asking import with_notice
from serving.console.door import Looking, OwnForm, Visitor, local
from serving.console.pages import Page, page, see
from serving.console.revisions import Revision, revisions
from serving.service import Service
from training import registry

router = APIRouter(route_class=Page, include_in_schema=False)

A_PAGE = 50
MOST_CITING = 10  # questions listed on an incident's page

_TRUST: dict[str, Trust] = {"trusted": "trusted", "quarantined": "quarantined"}


@router.get("/incidents")
def incidents(
    request: Request,
    visitor: Looking,
    service: str = "",
    source: str = "",
    trust: str = "",
    after: str = "",
) -> Response:
    """Every incident, the newest start first."""
    wanted = {"service": service.strip(), "source": source.strip(), "trust": trust}
    asked = {
        "service": wanted["service"] or None,
        "source": wanted["source"] or None,
        "trust": _TRUST.get(trust),
    }
    store = _store(request)
    listed = _listed(store, after, **asked)
    return page(request, "incidents.html", visitor, wanted=wanted, counts=store.count(), **listed)


@router.get("/incidents/{incident_id}")
def incident(
    request: Request,
    visitor: Looking,
    incident_id: str,
    version: str = "",
    quote: str = "",
) -> Response:
    """One incident whole: its fields, its versions, what was said of it, what it answered."""
    store = _store(request)
    versions = store.versions(incident_id) or [store.get(incident_id)]
    asked = [v for v in versions if str(v.incident.version) == version]
    shown = asked[0] if asked else versions[-1]
    missing = version if version and not asked else None
    return _whole(request, visitor, shown, versions, quote=quote, missing=missing)


@router.post("/incidents/{incident_id}/release")
def released(request: Request, visitor: Looking, fields: OwnForm, incident_id: str) -> Response:
    """Let a quarantined incident be found."""
    visitor.must("admin")
    reason = fields.get("reason", "").strip() or "not said"
    _store(request).release(incident_id, actor=visitor.actor, reason=reason)
    _service(request).noticed()
    return see(with_notice(local(fields.get("back"), "/quarantine"), "released"))


@router.post("/incidents/{incident_id}/forget")
def forgotten(request: Request, visitor: Looking, fields: OwnForm, incident_id: str) -> Response:
    """Forget it, when the form spells what its source calls it."""
    visitor.must("admin")
    store = _store(request)
    shown = store.get(incident_id)
    if fields.get("confirm", "").strip() != shown.incident.source_id.strip():
        versions = store.versions(incident_id)
        return _whole(request, visitor, shown, versions, unconfirmed=True, status=422)
    reason = fields.get("reason", "").strip() or "not said"
    store.forget(incident_id, actor=visitor.actor, reason=reason)
    _service(request).noticed()
    _service(request).remove_forgotten()
    return see(with_notice("/incidents", "forgotten", id=incident_id))


@router.get("/quarantine")
def quarantine(request: Request, visitor: Looking, after: str = "") -> Response:
    """What is kept, but not found until a person has looked at it, and why."""
    listed = _listed(_store(request), after, trust="quarantined")
    return page(request, "quarantine.html", visitor, **listed)


def _whole(
    request: Request,
    visitor: Visitor,
    shown: Stored,
    versions: list[Stored],
    *,
    quote: str = "",
    missing: str | None = None,
    unconfirmed: bool = False,
    status: int = 200,
) -> Response:
    store, incident_id = _store(request), str(shown.incident.id)
    citing = queries.citing(store, incident_id)
    asked = [queries.kept(store, query_id) for query_id in citing[:MOST_CITING]]
    return page(
        request,
        "incident.html",
        visitor,
        status=status,
        shown=shown,
        it=shown.incident,
        current=versions[-1],
        history=_history(versions),
        rulings=[rule_on(action.text) for action in shown.incident.actions],
        said=feedback.given(store, incident_id=incident_id),
        # A verdict asks its question again: once on the list is enough.
        citing=list({q.text: q for q in reversed(asked)}.values())[::-1],
        cited=len(citing),
        taught=registry.adapters_of(store, incident_id),
        lessons=lessons_of(store, incident_id),
        quote=quote,
        missing=missing,
        unconfirmed=unconfirmed,
    )


def _history(versions: list[Stored]) -> list[tuple[Stored, list[Revision]]]:
    """Every version, the newest first, with what it changed in the one before."""
    befores: list[Stored | None] = [None, *versions[:-1]]
    told = [
        (version, revisions(before.incident, version.incident) if before else [])
        for before, version in zip(befores, versions, strict=True)
    ]
    return told[::-1]


def _listed(store: Store, after: str, **wanted: Any) -> dict[str, Any]:
    """One page of incidents, and the id after which the next one begins."""
    found = store.page(after=after or None, limit=A_PAGE + 1, **wanted)
    shown = found[:A_PAGE]
    more = shown[-1].incident.id if len(found) > A_PAGE else None
    return {"found": shown, "more": more, "after": after}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _store(request: Request) -> Store:
    return _service(request).store
