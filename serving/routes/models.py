"""The registry over HTTP: which models there are, which is served, and moving to another."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from ingest.store import Writing
from serving import body
from serving.auth import Caller, needs
from serving.problem import MEDIA_TYPE, Problem
from serving.wire import (
    Decision,
    ModelList,
    ModelWhole,
    PointerView,
    Promotion,
    model_view,
    model_whole,
    pointer_view,
)
from training import registry
from training.registry import NOT_SAID, Pointer

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


@router.post("/rollback", **_moves("Decision"))
async def rolled_back(request: Request, who: Admin) -> Response:
    """Serve the champion before again, or the base; possible while promotion is frozen too."""
    return await _moved(request, who, Decision, lambda w, a: registry.rollback_in(w, **_why(a)))


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
    """Serve this model; refused unless the gate passed it or a person signs for it."""
    number = registry.version_of(version)

    def promote(writing: Writing, asked: Promotion) -> Pointer:
        return registry.promote_in(writing, number, override=asked.override, **_why(asked))

    return await _moved(request, who, Promotion, promote)


async def _moved(
    request: Request, who: Caller, model: type[Asked], move: Callable[[Writing, Asked], Pointer]
) -> Response:
    content = await body.read(request)
    asked = body.as_model(model, body.parsed(content) if content else {})

    def act(writing: Writing) -> tuple[int, dict[str, Any]]:
        before = registry.pointer_in(writing)
        return 200, pointer_view(move(writing, asked), before)

    return await body.done(request, content, who.name, act)


def _why(asked: Decision) -> dict[str, Any]:
    return {"reason": asked.reason or NOT_SAID, "expected": asked.revision}
