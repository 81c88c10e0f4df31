"""The HTTP application: routes, limits and headers around one service."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from ingest.incident import Incident
from serving import problem
from serving.metrics import Metrics
from serving.routes import console, incidents, models, operations, questions, verdicts
from serving.service import Service
from serving.waiting import MOST_WAITING
from serving.wire import Decision, DiagnoseRequest, FeedbackRequest, Promotion, SearchRequest

log = logging.getLogger(__name__)

# More would only queue for the same cores, with a query half done in each; those that wait for the
# model take no core, and must not keep a search waiting.
THREADS = 8 + MOST_WAITING

_BODIES = (Incident, SearchRequest, DiagnoseRequest, FeedbackRequest, Decision, Promotion)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'",
    "Cache-Control": "no-store",
}


def create_app(service: Service) -> FastAPI:
    """The application over this service, which the caller opens, starts and closes."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield

    app = FastAPI(
        title="Scarwise",
        version=version("scarwise"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.metrics = Metrics()
    problem.install(app)
    for router in (
        incidents.router,
        questions.router,
        verdicts.router,
        models.router,
        operations.router,
        console.router,
    ):
        app.include_router(router)
    app.middleware("http")(_observed)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


async def _observed(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    """A log line, a count and safe headers for every request."""
    began = time.perf_counter()
    response = await call_next(request)
    took = time.perf_counter() - began
    route = getattr(request.scope.get("route"), "path", "unmatched")
    metrics: Metrics = request.app.state.metrics
    metrics.requests.labels(request.method, route, str(response.status_code)).inc()
    metrics.seconds.labels(route).observe(took)
    identity = problem.request_id(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = identity
    log.info(
        "http method=%s route=%s status=%d took_ms=%.1f request_id=%s",
        request.method, route, response.status_code, took * 1000, identity,
    )  # fmt: skip
    return response


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The contract, with the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in _BODIES:
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(described.pop("$defs", {}))
            components[model.__name__] = described
        app.openapi_schema = schema
    return app.openapi_schema
