"""The console's pages: what an engineer on call opens, and what a lead looks through afterwards."""

from typing import Any

from fastapi import APIRouter, Request, Response

from ingest import access, audit, retrainings
from ingest.errors import Refused, Unknown
from ingest.store import Store
from serving import outcome
from serving.console import asking, door, models, records
from serving.console.door import Looking, OwnForm
from serving.console.pages import STATIC, Page, page, see, static_file
from serving.service import Service
from training import registry

router = APIRouter(route_class=Page, include_in_schema=False)
router.include_router(asking.router)
router.include_router(records.router)
router.include_router(models.router)

ENTRIES_A_PAGE = 50
VERIFIED_UNASKED = 20_000  # entries, some 0.2 s; a longer trail is verified on request
A_YEAR_S = 365 * 24 * 3600


@router.get("/audit")
def trail(
    request: Request,
    visitor: Looking,
    subject: str = "",
    before: str = "",
    anchor: str = "",
    verify: str = "",
) -> Response:
    """Who did what to what, the latest first, and whether the trail is whole."""
    store, subject, anchor = _service(request).store, subject.strip(), anchor.strip()
    latest = audit.entries(store, limit=1)
    count = latest[0].seq if latest else 0
    wanted = bool(verify or anchor) or count <= VERIFIED_UNASKED
    checked = _verified(store, anchor) if wanted else {"verified": None, "why": None}
    return page(
        request,
        "audit.html",
        visitor,
        status=422 if checked["why"] else 200,
        subject=subject,
        anchor=anchor,
        count=count,
        head=f"{count}:{latest[0].hash}" if latest else None,
        entries=_entries(store, subject, before),
        **checked,
    )


@router.get("/status")
def status(request: Request, visitor: Looking) -> Response:
    """How well questions are answered now, and on what."""
    service = _service(request)
    serving = service.live.serving
    return page(
        request,
        "status.html",
        visitor,
        rung=service.rung,
        why=service.without_meaning,
        model=serving.name if serving else None,
        model_why=service.live.why or service.live.trouble,
        loading=service.live.is_loading,
        condition=service.index.condition(),
        counts=service.store.count(),
        since=service.started_at,
        unkept=len(service.unkept),
        home=service.settings.home,
        turn=next(iter(retrainings.latest(service.store, limit=1)), None),
        ended=outcome.WORDS,
        pointer=registry.pointer(service.store),
        named=registry.named,
        version=request.app.version,
    )


@router.get("/login")
def login(request: Request, next: str = "/") -> Response:
    """Where a token is given."""
    return page(request, "login.html", None, next=door.local(next), why=None)


@router.post("/login")
def logged_in(request: Request, fields: OwnForm) -> Response:
    """Let the browser carry this token from now on."""
    target, secret = door.local(fields.get("next")), fields.get("token", "").strip()
    if not secret or access.check(_service(request).store, secret) is None:
        why = "this token is not known here, or was revoked"
        return page(request, "login.html", None, status=401, next=target, why=why)
    response = see(target)
    door.log_in(request, response, secret)
    return response


@router.post("/logout")
def logged_out(request: Request, fields: OwnForm) -> Response:
    """Let the browser forget the token."""
    response = see("/login")
    door.log_out(response)
    return response


@router.get("/static/{name}")
def static(name: str) -> Response:
    """The style, the script and the icon; an address changes with what it leads to."""
    if name not in STATIC:
        raise Unknown(f"there is no file {name!r} here")
    kept = {"Cache-Control": f"public, max-age={A_YEAR_S}, immutable"}
    return Response(static_file(name), media_type=STATIC[name], headers=kept)


def _entries(store: Store, subject: str, before: str) -> list[audit.Entry]:
    """One page of the trail, the latest entry first."""
    end = int(before) if before.isdecimal() and len(before) < 16 else None
    found = audit.entries(store, subject=subject or None, before=end, limit=ENTRIES_A_PAGE)
    return found[::-1]


def _verified(store: Store, anchor: str) -> dict[str, Any]:
    """What walking the chain found, or why this anchor is none."""
    try:
        return {"verified": audit.verify(store, anchor=anchor or None), "why": None}
    except Refused as error:
        return {"verified": None, "why": str(error)}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
