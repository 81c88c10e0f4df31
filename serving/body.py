"""Request bodies: read whole, within the limit, and told apart: not JSON, not what is expected."""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from anyio import to_thread
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from ingest import access
from ingest.errors import Refused, Unreadable
from ingest.store import Writing
from serving.problem import TooLarge

Model = TypeVar("Model", bound=BaseModel)


class Misshaped(Refused):
    """JSON, but not the JSON that this call takes; `members` lists every field that is wrong."""

    def __init__(self, error: ValidationError) -> None:
        faults = [{"field": field, "why": why} for field, why in faults_of(error)]
        super().__init__("; ".join(f"{f['field']}: {f['why']}" for f in faults[:3]))
        self.members = {"faults": faults}


async def read(request: Request) -> bytes:
    """The body; `TooLarge` names the limit, before anything larger has been taken in."""
    limit = request.app.state.service.settings.serve.longest_body_mb * 1024 * 1024
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(
                f"the body is longer than {limit // 1024 // 1024} MB; send it in parts, or raise "
                "serve.longest_body_mb"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def parsed(body: bytes) -> Any:
    """The JSON of this body; `Unreadable` says where it stops being JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"the body is not JSON: {error}; send a JSON document") from None


def as_model(model: type[Model], value: Any) -> Model:
    """The request in this JSON; `Misshaped` names every field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Misshaped(error) from None


def faults_of(error: ValidationError) -> list[tuple[str, str]]:
    """(field, what was expected) for everything that is wrong, in words."""
    found = []
    for fault in error.errors(include_url=False, include_input=False):
        field = ".".join(str(part) for part in fault["loc"]) or "body"
        why = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            why = "is not a field that is known here; see /openapi.json"
        found.append((field, why))
    return found


def as_json(view: Any, status: int = 200) -> Response:
    """The response that carries this view."""
    return Response(orjson.dumps(view), status, media_type="application/json")


async def answered(
    request: Request, body: bytes, act: Callable[[], Any], *, status: int = 200
) -> Response:
    """The answer to a call that changes nothing; repeated as it was under its Idempotency-Key."""
    key = request.headers.get("idempotency-key")
    service = request.app.state.service
    if key is None:
        return as_json(await to_thread.run_sync(act), status)

    def once() -> Response:
        route, digest = _route(request), _digest(body)
        before = access.recall(service.store, key, route, digest)
        if before:
            return _again(before)
        view = orjson.dumps(act())
        with service.store.transaction(_actor(request)) as writing:
            access.remember(writing, key, route, digest, status, view.decode())
        return Response(view, status, media_type="application/json")

    return await to_thread.run_sync(once)


async def done(
    request: Request, body: bytes, actor: str, act: Callable[[Writing], tuple[int, Any]]
) -> Response:
    """The answer to an act; the act, its audit row and its Idempotency-Key commit together."""
    key = request.headers.get("idempotency-key")
    service = request.app.state.service

    def once() -> Response:
        route, digest = _route(request), _digest(body)
        if key and (before := access.recall(service.store, key, route, digest)):
            return _again(before)
        with service.store.transaction(actor) as writing:
            status, view = act(writing)
            content = orjson.dumps(view)
            if key:
                access.remember(writing, key, route, digest, status, content.decode())
        service.noticed()
        return Response(content, status, media_type="application/json")

    return await to_thread.run_sync(once)


def _again(before: tuple[int, str]) -> Response:
    status, content = before
    return Response(
        content, status, headers={"Idempotent-Replayed": "true"}, media_type="application/json"
    )


def _route(request: Request) -> str:
    return f"{request.method} {request.url.path}"


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _actor(request: Request) -> str:
    caller = getattr(request.state, "caller", None)
    return caller.name if caller else "local"
