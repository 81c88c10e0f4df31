"""Questions over HTTP: what is similar, and what it was."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from ingest.sources.alert import read_alert
from retrieval.diagnosis import Diagnosis
from retrieval.search import Question
from serving import body
from serving.auth import Caller, needs
from serving.problem import MEDIA_TYPE, Problem
from serving.service import Service
from serving.wire import LONGEST_QUESTION, DiagnoseRequest, SearchAnswer, SearchRequest, answer_view

router = APIRouter(prefix="/v1", tags=["questions"])

_PROBLEM: dict[int | str, dict[str, Any]] = {422: {"model": Problem, "content": {MEDIA_TYPE: {}}}}


def _takes(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


@router.post(
    "/search",
    response_model=SearchAnswer,
    openapi_extra=_takes("SearchRequest"),
    responses=_PROBLEM,
)
async def search(request: Request, who: Annotated[Caller, Depends(needs("read"))]) -> Response:
    """The most similar past incidents, best first; similar is not the same cause."""
    service: Service = request.app.state.service
    content = await body.read(request)
    asked = body.as_model(SearchRequest, body.parsed(content))
    return await body.answered(
        request, content, lambda: answer_view(service.search(asked.question()))
    )


@router.post(
    "/diagnose",
    response_model=Diagnosis,
    openapi_extra=_takes("DiagnoseRequest"),
    responses=_PROBLEM,
)
async def diagnose(request: Request, who: Annotated[Caller, Depends(needs("read"))]) -> Response:
    """What it most likely is, with the sentences that say so, or that it is new."""
    service: Service = request.app.state.service
    content = await body.read(request)
    question = question_of(body.as_model(DiagnoseRequest, body.parsed(content)))
    return await body.answered(
        request, content, lambda: service.diagnose(question).model_dump(mode="json")
    )


def question_of(asked: DiagnoseRequest) -> Question:
    """The question in this request; an alert is read as its tool writes it.

    An alert's own services and severity are no filters: what happened to another service may be
    the precedent.
    """
    text, evidence = asked.text or "", [e.text for e in asked.evidence]
    if asked.alert is not None:
        alert = read_alert(asked.alert)
        text, evidence = alert.text, [*evidence, *(e.text for e in alert.evidence)]
    return Question(
        text="\n".join([text, *evidence])[:LONGEST_QUESTION],
        services=tuple(asked.services),
        as_of=asked.as_of,
        limit=5,
    )
