"""What a machine that runs the service asks of it: alive, ready, and its numbers."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ingest.errors import Unavailable
from serving import body
from serving.auth import Caller, needs
from serving.problem import NotBuilt
from serving.service import Service, said_of_taint, tainted_champion

router = APIRouter(tags=["operations"])


class Readiness(BaseModel):
    """`rung` is where on the ladder answers come from now; `index_lag` counts incidents; `endpoint`
    is the server that is asked for the model's answers, null where the model is loaded here."""

    status: str
    rung: str
    index_lag: int
    embedder: str | None
    model: str | None
    endpoint: str | None
    incidents: int
    index: str
    why: str | None


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers; nothing else is looked at."""
    return {"status": "alive"}


@router.get("/readyz", response_model=Readiness)
async def ready(request: Request) -> Response:
    """Whether questions can be answered, and how well; 503 when the store cannot be read."""
    service: Service = request.app.state.service

    def look() -> dict[str, Any]:
        condition = service.index.condition()
        live = service.live
        if service.without_meaning or live.trouble or (live.why and not live.is_loading):
            status = "degraded"
        else:
            status = "catching up" if condition.lag or live.why else "ready"
        serving = live.serving
        tainted = tainted_champion(service.store)
        taint = said_of_taint(tainted) if tainted else None
        why = [said for said in (service.without_meaning, live.why, live.trouble, taint) if said]
        return {
            "status": status,
            "rung": service.rung,
            "index_lag": condition.lag,
            "embedder": condition.embedder,
            "model": serving.name if serving else None,
            "endpoint": service.settings.serve.endpoint or None,
            "incidents": condition.incidents,
            "index": condition.copy,
            "why": "; ".join(why) or None,
        }

    return body.as_json(await to_thread.run_sync(look))


@router.get("/metrics")
async def metrics(request: Request, who: Annotated[Caller, Depends(needs("read"))]) -> Response:
    """Prometheus text exposition."""
    service: Service = request.app.state.service
    content = await to_thread.run_sync(request.app.state.metrics.exposition, service)
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")


@router.post("/v1/index/rebuild", response_model=dict[str, Any])
async def rebuild(request: Request, who: Annotated[Caller, Depends(needs("admin"))]) -> Response:
    """Write Chroma's copy anew from the vectors in the store; search goes on meanwhile."""
    service: Service = request.app.state.service
    vectors = await to_thread.run_sync(service.rebuild)
    if vectors is None:
        raise Unavailable("Chroma's copy cannot be written by this process; see /readyz for why")
    return body.as_json({"vectors": vectors})


def _later(what: str) -> Unavailable:
    return NotBuilt(f"{what} is not part of this version; what is, is listed at /openapi.json")


@router.post("/v1/webhooks/{tool}", include_in_schema=False)
async def webhook(tool: str, who: Annotated[Caller, Depends(needs("write"))]) -> Response:
    raise _later(f"the webhook of {tool}")


@router.api_route("/mcp", methods=["GET", "POST", "DELETE"], include_in_schema=False)
async def mcp(who: Annotated[Caller, Depends(needs("read"))]) -> Response:
    raise _later("MCP")
