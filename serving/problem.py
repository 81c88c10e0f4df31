"""Every HTTP error as a problem document (RFC 9457): what is wrong, and what to do."""

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from ingest import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class TooLarge(errors.Refused):
    """A body or a text is longer than this service takes."""


class NotBuilt(errors.Unavailable):
    """The call is part of the contract, but this version does not have it."""


class Forbidden(errors.Refused):
    """The token is missing, unknown, or does not reach this far."""

    def __init__(self, why: str, *, known: bool) -> None:
        super().__init__(why)
        self.status = 403 if known else 401


class Problem(BaseModel):
    """The body of every answer from 400 on."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str


# The most exact type first: the first that fits decides.
_KINDS: list[tuple[type[Exception], int, str, str]] = [
    (TooLarge, 413, "too-large", "Too large"),
    (NotBuilt, 501, "not-built", "Not part of this version"),
    (errors.Unreadable, 400, "unreadable", "Not readable"),
    (errors.Unknown, 404, "unknown", "No such thing here"),
    (errors.Conflict, 409, "conflict", "Contradicts what is kept"),
    (errors.Refused, 422, "refused", "Cannot be taken as it is"),
    (errors.StoreFull, 507, "store-full", "No room on the disk"),
    (errors.StoreBusy, 503, "store-busy", "The database is busy"),
    (errors.StoreReadOnly, 503, "store-read-only", "The database cannot be written"),
    (errors.StoreUnreachable, 503, "store-unreachable", "The database cannot be reached"),
    (errors.Unavailable, 503, "unavailable", "Cannot be served now"),
]


def problem(
    request: Request, status: int, kind: str, title: str, detail: str, **more: Any
) -> JSONResponse:
    """The response for one error; `more` become members of the document."""
    document = Problem(
        type=f"urn:scarwise:problem:{kind}",
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request_id(request),
        **more,
    )
    headers = {"Retry-After": "2"} if status == 503 else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="scarwise"'
    return JSONResponse(document.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def request_id(request: Request) -> str:
    """The id of this request: in the log line, the response header and the problem document."""
    if not hasattr(request.state, "request_id"):
        request.state.request_id = uuid.uuid4().hex[:12]
    return str(request.state.request_id)


def install(app: FastAPI) -> None:
    """Answer every error of this application with a problem document."""

    async def ours(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, Forbidden):
            return problem(request, error.status, "forbidden", "Not allowed", str(error))
        more = getattr(error, "members", {})
        for kind, status, name, title in _KINDS:
            if isinstance(error, kind):
                return problem(request, status, name, title, str(error), **more)
        raise error

    async def theirs(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        name = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "http")
        detail = f"{request.method} {request.url.path}: {error.detail}; see /openapi.json"
        return problem(request, error.status_code, name, str(error.detail), detail)

    async def misnamed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        faults = [
            {"field": ".".join(str(part) for part in fault["loc"][1:]), "why": fault["msg"]}
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault['field']}: {fault['why']}" for fault in faults)
        title = "Cannot be taken as it is"
        return problem(request, 422, "refused", title, detail, faults=faults)

    async def bug(request: Request, error: Exception) -> JSONResponse:
        log.error("http.bug request_id=%s", request_id(request), exc_info=error)
        detail = f"a fault of ours; the log has it under request id {request_id(request)}"
        return problem(request, 500, "bug", "Internal error", detail)

    app.add_exception_handler(errors.Refused, ours)
    app.add_exception_handler(errors.Unavailable, ours)
    app.add_exception_handler(HTTPException, theirs)
    app.add_exception_handler(RequestValidationError, misnamed)
    app.add_exception_handler(Exception, bug)
