"""People's verdicts over HTTP: given, and taken back."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from ingest import feedback
from ingest.feedback import Feedback
from ingest.store import Writing
from serving import body
from serving.auth import Caller, needs
from serving.service import Service
from serving.wire import FeedbackRequest, Reason

router = APIRouter(prefix="/v1/feedback", tags=["feedback"])


@router.post(
    "",
    status_code=201,
    response_model=Feedback,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/FeedbackRequest"}}
            },
        }
    },
)
async def given(request: Request, who: Annotated[Caller, Depends(needs("write"))]) -> Response:
    """Keep a verdict on one incident version, for one answer; it counts from the next search on."""
    service: Service = request.app.state.service
    content = await body.read(request)
    asked = body.as_model(FeedbackRequest, body.parsed(content))

    def give(writing: Writing) -> tuple[int, dict[str, Any]]:
        kept = feedback.give(writing, Feedback(**asked.model_dump()))
        return 201, kept.model_dump(mode="json")

    if asked.query_id:
        service.keep_questions()  # the answer being judged may not be written yet
    return await body.done(request, content, who.name, give)


@router.delete("/{feedback_id}", response_model=dict[str, Any])
async def withdrawn(
    request: Request, feedback_id: str, who: Annotated[Caller, Depends(needs("write"))]
) -> Response:
    """Take a verdict back; it counts no more."""
    content = await body.read(request)
    reason = body.as_model(Reason, body.parsed(content)) if content else Reason()

    def withdraw(writing: Writing) -> tuple[int, dict[str, Any]]:
        feedback.withdraw(writing, feedback_id, reason=reason.reason or "not said")
        return 200, {"withdrawn": feedback_id}

    return await body.done(request, content, who.name, withdraw)
