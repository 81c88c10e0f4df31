"""The registry over HTTP: which models there are, which is served, and moving to another."""

import logging
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from ingest.store import Writing
from serving import body, tryout
from serving.auth import Caller, needs
from serving.problem import MEDIA_TYPE, Problem
from serving.wire import (
    Decision,
    LessonView,
    ModelList,
    ModelWhole,
    PointerView,
    Promotion,
    lesson_view,
    model_view,
    model_whole,
    pointer_view,
)
from training import lineage, registry
from training.registry import NOT_SAID, Pointer

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/models", tags=["models"])

Asked = TypeVar("Asked", bound=Decision)
Admin = Annotated[Caller, Depends(needs("admin"))]
_PROBLEM: dict[str, Any] = {"model": Problem, "content": {MEDIA_TYPE: {}}}


def _moves(name: str) -> dict[str, Any]:
    """What the contract says of a call that moves the pointer, with this body or none."""
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {
        "response_model": PointerView,
        "openapi_extra": {"requestBody": {"content": {"application/json": {"schema": schema}}}},
        "responses": dict.fromkeys((404, 409, 422), _PROBLEM),
    }


@router.get("", response_model=ModelList)
async def listed(request: Request, who: Annotated[Caller, Depends(needs("read"))]) -> Response:
    """Every model that was made, the oldest first, and the pointer to the one that is served."""
    store = request.app.state.service.store

    def look() -> dict[str, Any]:
        pointer = registry.pointer(store)
        models = [model_view(m, pointer) for m in registry.every(store)]
        return {"pointer": pointer_view(pointer), "models": models}

    return body.as_json(await to_thread.run_sync(look))


@router.get("/{version}", response_model=ModelWhole, responses={404: _PROBLEM})
async def shown(
    request: Request, version: str, who: Annotated[Caller, Depends(needs("read"))]
) -> Response:
    """One model, `7` or `diag-v7`, with the gate's report on it and what was done with it."""
    store, number = request.app.state.service.store, registry.version_of(version)
    return body.as_json(await to_thread.run_sync(model_whole, store, number))


@router.get("/{version}/incidents", response_model=list[LessonView], responses={404: _PROBLEM})
async def taught(
    request: Request,
    version: str,
    who: Annotated[Caller, Depends(needs("read"))],
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """The incidents that taught this model, also by way of its parents, by id after `after`.

    Those that were forgotten since are named too: by their id, which says nothing else.
    """
    store, number = request.app.state.service.store, registry.version_of(version)

    def look() -> list[dict[str, Any]]:
        found = sorted(lineage.lessons(store, number), key=lambda it: it.incident_id)
        return [lesson_view(it) for it in found if it.incident_id > after][:limit]

    return body.as_json(await to_thread.run_sync(look))


@router.post("/rollback", **_moves("Decision"))
async def rolled_back(request: Request, who: Admin) -> Response:
    """Serve the champion before again, or the base; possible while promotion is frozen too.

    Passed over are champions that were tainted since, or that could not be served any more.
    """
    fits = tryout.fits(request.app.state.service.settings)
    return await _moved(
        request, who, Decision, lambda w, a: registry.rollback_in(w, fits=fits, **_why(a))
    )


@router.post("/freeze", **_moves("Decision"))
async def frozen(request: Request, who: Admin) -> Response:
    """Let nothing be promoted, by a person or by the job, until it is thawed."""
    return await _moved(request, who, Decision, lambda w, a: registry.freeze_in(w, **_why(a)))


@router.post("/thaw", **_moves("Decision"))
async def thawed(request: Request, who: Admin) -> Response:
    """Let models be promoted again."""
    return await _moved(request, who, Decision, lambda w, a: registry.thaw_in(w, **_why(a)))


@router.post("/{version}/promote", **_moves("Promotion"))
async def promoted(request: Request, version: str, who: Admin) -> Response:
    """Serve this model; refused unless the gate passed it or a person signs for it.

    Refused is, whoever signs, what could not be served: of another prompt or base, or with other
    files than were registered. With an endpoint it is loaded and asked there first: one that it
    does not take is refused. One that is not reached refuses nothing: `note` says so, and `/readyz`
    what is served meanwhile.
    """
    number, service = registry.version_of(version), request.app.state.service

    def try_out(asked: Promotion) -> str | None:
        why = tryout.try_out(
            service.store, service.settings, service.live.there, number, signed=asked.override
        )
        if why:
            log.warning("model.not_served_yet version=%d why=%r", number, why)
        return why

    def promote(writing: Writing, asked: Promotion) -> Pointer:
        return registry.promote_in(writing, number, override=asked.override, **_why(asked))

    return await _moved(request, who, Promotion, promote, try_out)


async def _moved(
    request: Request,
    who: Caller,
    model: type[Asked],
    move: Callable[[Writing, Asked], Pointer],
    before: Callable[[Asked], str | None] = lambda asked: None,
) -> Response:
    content = await body.read(request)
    asked = body.as_model(model, body.parsed(content) if content else {})
    note = await to_thread.run_sync(before, asked)

    def act(writing: Writing) -> tuple[int, dict[str, Any]]:
        before = registry.pointer_in(writing)
        after = move(writing, asked)
        return 200, pointer_view(after, before, note or tryout.passed_over(before, after))

    return await body.done(request, content, who.name, act)


def _why(asked: Decision) -> dict[str, Any]:
    return {"reason": asked.reason or NOT_SAID, "expected": asked.revision}
